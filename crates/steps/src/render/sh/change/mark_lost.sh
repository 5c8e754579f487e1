
#: mark
mkdir -p "$lost_marks"
for lost in $lost_hosts; do
	if [ "$(sed -n 1p "$lost_marks/$lost" 2>/dev/null)" != "$run" ]; then
		printf '%s\n%s\n' "$run" "$(date +%s)" | durable "$lost_marks/$lost"
	fi
done
