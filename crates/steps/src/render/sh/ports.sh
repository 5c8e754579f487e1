
# Those of the node's ports that somebody listens on, with commas between them.
open_ports() {
	cat /proc/net/tcp /proc/net/tcp6 2>/dev/null | awk -v wanted="$ports_hex" '
		BEGIN { count = split(wanted, pair, " ") }
		$4 == "0A" { parts = split($2, address, ":"); open[address[parts]] = 1 }
		END {
			for (i = 1; i < count; i += 2) if (open[pair[i]]) { printf "%s%s", comma, pair[i + 1]; comma = "," }
		}'
}
