
printf '{"files":['
# Newest first; RKE2 writes `.part` and renames. Names that JSON or a shell could trip over are not RKE2's.
{
	if [ -d "$snapshots" ]; then
		ls -1t "$snapshots" | grep -v '\.part$' | grep -x '[A-Za-z0-9._:+=@-]*' |
			awk -v prefix="$prefix" 'index($0, prefix) == 1' | head -n 200
	fi
} | {
	while IFS= read -r file; do
		file_info "${snapshots_json%?}/$file\"" "$snapshots/$file"
	done
}
printf ']}\n'
