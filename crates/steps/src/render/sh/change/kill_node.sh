
# What runs directly below a shim: the first process of every container. And what has lost its shim.
containers() {
	orphans
	grep -s '^PPid:' /proc/[0-9]*/status | awk -v shims="$(shims | tr '\n' ' ')" '
		BEGIN { count = split(shims, pid, " "); for (i = 1; i <= count; i++) shim[pid[i]] = 1 }
		$2 in shim { split($1, word, "/"); print word[3] }'
}

#: stop-reset
read_reset "$reset_record"
stop_reset
#: stop-unit
timeout -k 5 "$stop_seconds" systemctl stop "$unit.service" || echo "$unit does not stop by itself"
#: terminate
for pid in $(containers); do
	kill -TERM "$pid" 2>/dev/null || :
done
waited=0
while [ "$waited" -lt "$grace_seconds" ] && [ -n "$(containers)" ]; do
	sleep 1
	waited=$((waited + 1))
done
#: kill
kill_containers
#: prove
if alive "$unit"; then die "$unit is still $(unit_state "$unit")"; fi
prove_down
