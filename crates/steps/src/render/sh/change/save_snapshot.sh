
#: save
with_own_configuration
timeout -k 10 "$save_seconds" "$bin/$name" etcd-snapshot save --data-dir "$data" --name "$snapshot_name"
