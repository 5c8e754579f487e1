
# A release is the binary and the images, nothing else. The installer would write the unit anew, without the flags and
# variables that it was given the first time (K3S install.sh systemd_disable, create_env_file): it is for a node that has
# no unit yet, and finds the binary in its place.
install_release() {
	put_in_place "$release/$artifact" "$bin/$name" 755 || return 1
	if [ -s "$release/$images" ]; then put_in_place "$release/$images" "$data/agent/images/$images" 644 || return 1; fi
	[ ! -e "$systemd/$unit.service" ] || return 0
	INSTALL_K3S_SKIP_DOWNLOAD=true INSTALL_K3S_SKIP_ENABLE=true INSTALL_K3S_SKIP_START=true INSTALL_K3S_EXEC="$role" \
		INSTALL_K3S_BIN_DIR="$bin" INSTALL_K3S_SYSTEMD_DIR="$systemd" INSTALL_K3S_VERSION="$version" \
		timeout -k 10 "$install_seconds" sh "$release/install.sh" || return 1
	systemctl daemon-reload
}

# By a rename: the old binary may run meanwhile. It gets the label of the one that it replaces.
put_in_place() {
	if cmp -s "$1" "$2"; then return 0; fi
	directory "${2%/*}" || return 1
	{ cp "$1" "$2.part" && chmod "$3" "$2.part"; } || return 1
	if [ -e "$2" ]; then chcon --reference="$2" "$2.part" 2>/dev/null || :; fi
	flush "$2.part" && mv -f "$2.part" "$2" && flush "${2%/*}"
}
