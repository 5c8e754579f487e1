
killall() { RKE2_DATA_DIR="$data" K3S_DATA_DIR="$data" timeout -k 10 "$kill_seconds" "$bin/$name-killall.sh"; }

# Every process: its number, its parent's, its state, its control groups.
processes() { ps -e -ww -o pid= -o ppid= -o stat= -o cgroup= 2>/dev/null; }

# Processes of containers whose shim is dead, so that init is their parent: rke2-killall.sh begins at the shims and never
# finds them. Containers of another kubelet have their own shims above them; those inside of a container are not at the top.
orphans() {
	processes | awk '
		$3 !~ /^Z/ { parent[$1] = $2; if ($4 ~ /:\/kubepods(\.slice)?\//) pod[$1] = 1 }
		END {
			for (one in pod) {
				above = one
				for (depth = 0; depth < 64 && (parent[above] in pod); depth++) above = parent[above]
				if (parent[above] == 1) print one
			}
		}'
}

# What of a unit still runs, but for shims: those are what rke2-killall.sh finds the containers by.
unit_processes() {
	processes | awk -v unit="/$1.service" -v shims="$(shims | tr '\n' ' ')" '
		BEGIN { count = split(shims, pid, " "); for (i = 1; i <= count; i++) shim[pid[i]] = 1 }
		$3 !~ /^Z/ && (at = index($4, unit)) && substr($4, at + length(unit)) ~ /^([,\/]|$)/ && !($1 in shim) { print $1 }'
}

# Kills what the function says, which may start more meanwhile.
kill_all_of() {
	tries=0
	while found=$("$@") && [ -n "$found" ] && [ "$tries" -lt "$kill_tries" ]; do
		for pid in $found; do
			kill -KILL "$pid" 2>/dev/null || :
		done
		tries=$((tries + 1))
		sleep 0.1
	done
}

# `--kill-who` is an option of every systemd: 252 and later read it as the beginning of `--kill-whom`. The main process
# goes first, or it would go on with what comes after the reset.
stop_reset() {
	if [ -n "$reset_unit" ]; then
		systemctl kill --kill-who=main --signal=KILL "$reset_unit.service" 2>/dev/null || :
		kill_all_of unit_processes "$reset_unit"
		if alive "$reset_unit"; then systemctl stop "$reset_unit.service" 2>/dev/null || :; fi
	fi
}

# The exit status of rke2-killall.sh has no meaning (R2:bundle/bin/rke2-killall.sh): `prove_down` looks for itself.
kill_containers() {
	bounded killall || echo "$name-killall.sh ended with status $?"
	left=$(orphans | tr '\n' ' ')
	if [ -n "$left" ]; then
		echo "no shim is above these processes of containers: $left"
		kill_all_of orphans
	fi
}

# Who holds a port: `2379 by etcd (1234)`.
listeners() {
	for port in $(open_ports | tr ',' ' '); do
		inodes=$(cat /proc/net/tcp /proc/net/tcp6 2>/dev/null | awk -v port="$(printf '%04X' "$port")" '
			$4 == "0A" { parts = split($2, address, ":"); if (address[parts] == port) print $10 }' | tr '\n' ' ')
		# shellcheck disable=SC2012
		owner=$(ls -l /proc/[0-9]*/fd 2>/dev/null | awk -v inodes="$inodes" '
			BEGIN { count = split(inodes, inode, " ") }
			/^\/proc\// { split($0, word, "/"); pid = word[3]; next }
			{ for (i = 1; i <= count; i++) if (index($0, "socket:[" inode[i] "]")) { print pid; exit } }')
		printf '%s by %s (%s) ' "$port" "$(cat "/proc/${owner:-none}/comm" 2>/dev/null || echo '?')" "${owner:-?}"
	done
}

# An old etcd or API that still answers is found by its port, whoever runs it; a port may take a moment to close.
prove_down() {
	[ -z "$(shims)" ] || die "containers still run below these shims: $(shims | tr '\n' ' ')"
	[ -z "$(orphans)" ] || die "processes of containers still run: $(orphans | tr '\n' ' ')"
	[ "$role" = server ] || return 0
	tries=0
	while [ -n "$(open_ports)" ]; do
		[ "$tries" -lt "$kill_tries" ] || die "somebody still listens: $(listeners)"
		tries=$((tries + 1))
		sleep 0.1
	done
}
