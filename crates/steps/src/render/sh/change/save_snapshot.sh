
#: save
export RKE2_CONFIG_FILE="$config/config.yaml"
if [ ! -e "$RKE2_CONFIG_FILE" ]; then unset RKE2_CONFIG_FILE; fi
timeout -k 10 "$save_seconds" "$bin/$name" etcd-snapshot save --data-dir "$data" --name "$snapshot_name"
