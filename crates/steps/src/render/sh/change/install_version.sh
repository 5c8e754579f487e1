
run_installer() {
	INSTALL_RKE2_ARTIFACT_PATH="$release" INSTALL_RKE2_TYPE="$role" INSTALL_RKE2_METHOD=tar INSTALL_RKE2_VERSION="$version" \
		INSTALL_RKE2_TAR_PREFIX="${bin%/bin}" INSTALL_RKE2_AGENT_IMAGES_DIR="$data/agent/images" \
		timeout -k 10 "$install_seconds" sh "$release/install.sh"
}

if [ "$name" != rke2 ]; then die "installing $name is not known"; fi
#: verify-release
faults=$(release_faults "$release" | sort -u | tr '\n' ' ')
[ -z "$faults" ] || die "$version is not staged completely: $faults"
#: keep-replaced
current=$(installed_version)
if [ "$keep_replaced" = true ] && [ -n "$current" ] && [ "$current" != "$version" ]; then
	kept=$state/replaced/$current
	if [ ! -e "$kept/$name" ]; then
		mkdir -p "$kept"
		cp -p "$bin/$name" "$kept/$name.part"
		flush "$kept/$name.part"
		mv "$kept/$name.part" "$kept/$name"
		flush "$kept"
	fi
fi
#: install
bounded run_installer || die "install.sh of $version failed"
flush "$bin/$name"
#: prove-version
[ "$(installed_version)" = "$version" ] || die "installed is $(installed_version), expected $version"
