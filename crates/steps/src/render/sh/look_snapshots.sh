
# Newest first. Names that JSON or a shell could trip over are not RKE2's.
names_of() {
	[ -d "$2" ] || return 0
	ls -1t "$2" | grep -v '\.part$' | grep -x '[A-Za-z0-9._:+=@-]*' |
		awk -v place="$1" -v prefix="$prefix" 'index($0, prefix) == 1 { print place, $0 }' | head -n 200
}

# RKE2 writes `.part` and renames; an old one is what a save that was killed has left.
being_written() {
	[ -d "$snapshots" ] || return 0
	ls -1 "$snapshots" | grep -x '[A-Za-z0-9._:+=@-]*\.part' | awk -v prefix="$prefix" 'index($0, prefix) == 1' |
		while IFS= read -r file; do
			changed=$(stat -c %Y "$snapshots/$file" 2>/dev/null) || continue
			if [ $(($(date +%s) - changed)) -lt 60 ]; then printf '%s\n' "${file%.part}"; fi
		done
}

printf '{"files":['
{
	names_of own "$snapshots"
	names_of kept "$kept"
} | {
	while read -r place file; do
		case $place in
		own) file_info "${snapshots_json%?}/$file\"" "$snapshots/$file" ;;
		kept) file_info "${kept_json%?}/$file\"" "$kept/$file" ;;
		esac
	done
}
printf '],"in_progress":%s}\n' "$(being_written | list)"
