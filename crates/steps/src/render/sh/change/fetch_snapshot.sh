
is_whole() {
	[ -f "$1" ] && [ "$(stat -c %s "$1")" = "$size" ] || return 1
	if [ -n "$sha256" ]; then
		[ "$(digest <"$1")" = "$sha256" ]
	else
		# What is inside an archive is seen when it is unpacked.
		case $to in
		*.zip) ;;
		*) trailer_fits "$1" ;;
		esac
	fi
}

if is_whole "$to"; then
	rm -f "$handed" "$handed.ca"
	echo "$to is here already"
	exit 0
fi
#: fetch
mkdir -p "${to%/*}"
rm -f "$to.part"
transfer --output "$to.part"
#: verify-arrival
if ! is_whole "$to.part"; then
	came=$(stat -c %s "$to.part")
	rm -f "$to.part"
	die "what came is not the snapshot: $came bytes, expected $size, or its checksum does not fit"
fi
flush "$to.part"
#: publish
mv -f "$to.part" "$to"
flush "${to%/*}"
#: prune
ls -1t "${to%/*}" | grep -v '\.part$' | tail -n "+$((kept_max + 1))" | while IFS= read -r old; do
	if [ "${to%/*}/$old" != "$to" ]; then rm -f "${to%/*}/$old"; fi
done
