
# One file as JSON: its path as JSON text, its path. Nothing when it does not exist. Once `hash_until` is past, the
# digest is left empty: a directory full of large snapshots must not take longer than the caller waits.
file_info() {
	[ -f "$2" ] || return 0
	size=$(stat -c %s "$2") sum='' trailer=false
	if [ "$(date +%s)" -lt "$hash_until" ]; then
		sum=$(digest <"$2")
		if trailer_fits "$2"; then trailer=true; fi
	fi
	printf '%s{"path":%s,"size":%s,"modified":%s,"sha256":"%s","trailer":%s}' \
		"$comma" "$1" "$size" "$(stat -c %Y "$2")" "$sum" "$trailer"
	comma=,
}

comma=''
hash_until=$(($(date +%s) + hash_seconds))
