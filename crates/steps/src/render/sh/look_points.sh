
# Newest first while they fit into an answer, then turned round. What does not fit is named.
left=$((150 * 1024))
{
	if [ -d "$points" ]; then
		ls -1t "$points" | grep -x '[A-Za-z0-9._-]*\.json' | head -n 50 | while IFS= read -r file; do
			size=$(stat -c %s "$points/$file" 2>/dev/null) || continue
			left=$((left - size * 4 / 3 - 4))
			if [ "$left" -gt 0 ]; then
				printf 'point %s\n' "$(encode <"$points/$file")"
			else
				printf 'left %s\n' "$file"
			fi
		done
	fi
} | awk '
	$1 == "point" { point[++points] = $2 }
	$1 == "left" { left[++lefts] = $2 }
	END {
		printf "{\"points\":["
		for (i = points; i > 0; i--) printf "%s\"%s\"", (i < points ? "," : ""), point[i]
		printf "],\"left_out\":["
		for (i = 1; i <= lefts; i++) printf "%s\"%s\"", (i > 1 ? "," : ""), left[i]
		printf "]}\n"
	}'
