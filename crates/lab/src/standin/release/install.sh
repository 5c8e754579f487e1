#!/bin/sh
# Installs a release of the lab, to the letter of RKE2's own installer as far as a tarball install goes
# (R2:install.sh): the version comes from the artifacts, both units are written, nothing is enabled or restarted.
set -e

info() { echo "[INFO] " "$@"; }

fatal() {
	echo "[ERROR] " "$@" >&2
	exit 1
}

expected_sum() { grep "$1" "$sums" | awk '{print $1}'; }

stage() {
	info "staging local checksums from $INSTALL_RKE2_ARTIFACT_PATH/sha256sum-$arch.txt"
	cp -f "$INSTALL_RKE2_ARTIFACT_PATH/sha256sum-$arch.txt" "$sums"
	if [ -f "$INSTALL_RKE2_ARTIFACT_PATH/$images" ]; then
		info "staging zst airgap image tarball from $INSTALL_RKE2_ARTIFACT_PATH/$images"
		cp -f "$INSTALL_RKE2_ARTIFACT_PATH/$images" "$work/images"
	fi
	info "staging tarball from $INSTALL_RKE2_ARTIFACT_PATH/$tarball"
	cp -f "$INSTALL_RKE2_ARTIFACT_PATH/$tarball" "$work/tarball"
}

# The checksums of a release may leave the images out: then they are not installed either.
install_images() {
	wanted=$(expected_sum "$images" || :)
	if [ ! -f "$work/images" ] || [ -z "$wanted" ]; then return 0; fi
	info "verifying airgap tarball"
	found=$(sha256sum "$work/images" | awk '{print $1}')
	[ "$wanted" = "$found" ] || fatal "download sha256 does not match $wanted, got $found"
	mkdir -p "$INSTALL_RKE2_AGENT_IMAGES_DIR"
	info "installing airgap tarball to $INSTALL_RKE2_AGENT_IMAGES_DIR"
	mv -f "$work/images" "$INSTALL_RKE2_AGENT_IMAGES_DIR/$images"
}

unpack() {
	info "verifying tarball"
	wanted=$(expected_sum "$tarball" || :)
	found=$(sha256sum "$work/tarball" | awk '{print $1}')
	[ "$wanted" = "$found" ] || fatal "download sha256 does not match $wanted, got $found"
	info "unpacking tarball file to $INSTALL_RKE2_TAR_PREFIX"
	mkdir -p "$INSTALL_RKE2_TAR_PREFIX"
	tar xzf "$work/tarball" -C "$INSTALL_RKE2_TAR_PREFIX"
	[ "$INSTALL_RKE2_TAR_PREFIX" != /usr/local ] || return 0
	info "updating tarball contents to reflect install path"
	sed -i "s|/usr/local|$INSTALL_RKE2_TAR_PREFIX|" "$INSTALL_RKE2_TAR_PREFIX"/lib/systemd/system/rke2-*.service \
		"$INSTALL_RKE2_TAR_PREFIX/bin/rke2-uninstall.sh"
	info "moving systemd units to /etc/systemd/system"
	mv -f "$INSTALL_RKE2_TAR_PREFIX"/lib/systemd/system/rke2-*.service /etc/systemd/system/
}

[ "$(id -u)" -eq 0 ] || fatal "You need to be root to perform this install"
case $(uname -m) in
x86_64 | amd64) arch=amd64 ;;
aarch64 | arm64) arch=arm64 ;;
*) fatal "unsupported architecture $(uname -m)" ;;
esac
tarball=rke2.linux-$arch.tar.gz images=rke2-images.linux-$arch.tar.zst
# The type only chooses the RPM: a tarball holds both units.
: "${INSTALL_RKE2_TYPE:=${INSTALL_RKE2_EXEC:-server}}" "${INSTALL_RKE2_AGENT_IMAGES_DIR:=/var/lib/rancher/rke2/agent/images}"
: "${INSTALL_RKE2_TAR_PREFIX:=/usr/local}" "${INSTALL_RKE2_METHOD:=tar}"
case $INSTALL_RKE2_METHOD in
tar) ;;
*) fatal "the lab has no package repository for method $INSTALL_RKE2_METHOD" ;;
esac
# Without artifacts RKE2 downloads INSTALL_RKE2_VERSION, or the latest stable release when that is not set.
[ -n "${INSTALL_RKE2_ARTIFACT_PATH:-}" ] || fatal "download failed: the lab has no way out, set INSTALL_RKE2_ARTIFACT_PATH"

work=$(mktemp -d -t rke2-install.XXXXXXXXXX)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' INT TERM
sums=$work/checksums
stage
install_images
unpack
[ -n "${INSTALL_RKE2_SKIP_RELOAD:-}" ] || systemctl daemon-reload
