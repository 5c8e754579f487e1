
# What runs directly below a shim: the first process of every container.
containers() {
	grep -s '^PPid:' /proc/[0-9]*/status | awk -v shims="$(shims | tr '\n' ' ')" '
		BEGIN { count = split(shims, pid, " "); for (i = 1; i <= count; i++) shim[pid[i]] = 1 }
		$2 in shim { split($1, word, "/"); print word[3] }'
}

killall() { RKE2_DATA_DIR="$data" K3S_DATA_DIR="$data" timeout -k 10 "$kill_seconds" "$bin/$name-killall.sh"; }

#: stop-reset
read_reset "$reset_record"
if [ -n "$reset_unit" ] && alive "$reset_unit"; then
	systemctl kill --signal=KILL "$reset_unit.service" 2>/dev/null || :
	systemctl stop "$reset_unit.service" 2>/dev/null || :
fi
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
# Its exit status has no meaning (R2:bundle/bin/rke2-killall.sh): `prove` looks for itself.
bounded killall || echo "$name-killall.sh ended with status $?"
#: prove
if alive "$unit"; then die "$unit is still $(unit_state "$unit")"; fi
[ -z "$(shims)" ] || die "containers still run below these shims: $(shims | tr '\n' ' ')"
