
#: write-point
directory "$points"
printf '%s\n' "$point_json" | durable "$point_file"
