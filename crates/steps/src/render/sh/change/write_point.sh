
#: write-point
mkdir -p "$points"
printf '%s\n' "$point_json" | durable "$point_file"
