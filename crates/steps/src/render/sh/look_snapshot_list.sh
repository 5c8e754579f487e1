
with_own_configuration
code=0
listed=$(timeout -k 2 "$list_seconds" "$bin/$name" etcd-snapshot list --data-dir "$data" --output json 2>/dev/null) || code=$?
# A part of a list would be read as the whole one.
if [ "${#listed}" -gt "$text_bytes" ]; then code=75 listed=''; fi
printf '{"exit":%d,"text":"%s"}\n' "$code" "$(printf %s "$listed" | encode)"
