
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
bounded install_release || die "the installation of $version failed"
flush "$bin/$name"
#: prove-version
[ "$(installed_version)" = "$version" ] || die "installed is $(installed_version), expected $version"
