
saved() {
	for found in "$snapshots/$snapshot_name"-*; do
		case $found in
		*.part) continue ;;
		*.zip) [ -s "$found" ] && return 0 ;;
		*) [ -f "$found" ] && trailer_fits "$found" && return 0 ;;
		esac
	done
	return 1
}

#: save
if saved; then
	echo "$found is there already"
else
	export RKE2_CONFIG_FILE="$config/config.yaml"
	if [ ! -e "$RKE2_CONFIG_FILE" ]; then unset RKE2_CONFIG_FILE; fi
	timeout -k 10 "$save_seconds" "$bin/$name" etcd-snapshot save --data-dir "$data" --name "$snapshot_name"
fi
