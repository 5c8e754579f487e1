
# As the unit's own ExecStopPost does: containerd and kubelet may outlive the process that started them.
stop_leftovers() {
	group=$(sed -n 's/^0:://p' /proc/self/cgroup)
	case $group in
	*/"$order_unit.service") ;;
	*) return 0 ;;
	esac
	while IFS= read -r pid; do
		case $(cat "/proc/$pid/comm" 2>/dev/null) in
		containerd | kubelet) kill "$pid" 2>/dev/null || : ;;
		esac
	done <"/sys/fs/cgroup$group/cgroup.procs"
}

# Whether this release has a flag: one that it does not know ends it at once. `--etcd-arg` came with v1.22.4 (rke2#2136).
knows() { [ -z "$usage" ] || printf '%s\n' "$usage" | grep -q -e "--$1[^a-z-]"; }

# `advertise-client-urls` keeps the reset from waiting for an address that nobody listens on (rke2#4052); with snapshots
# disabled in the configuration a restore fails (k3s#8031); with S3 configured a local path is taken for an object's name.
flags() {
	usage=$(timeout -k 5 "$usage_seconds" "$bin/$name" server --help 2>/dev/null) || usage=''
	if knows etcd-arg; then printf ' %s' --etcd-arg=advertise-client-urls=https://127.0.0.1:2379; fi
	if knows etcd-disable-snapshots; then printf ' %s' --etcd-disable-snapshots=false; fi
	if knows etcd-s3; then printf ' %s' --etcd-s3=false; fi
}

reset() {
	with_own_configuration
	# The flags are words without blanks.
	# shellcheck disable=SC2046
	timeout -k 10 "$reset_seconds" "$bin/$name" server --cluster-reset --data-dir "$data" \
		--cluster-reset-restore-path="$snapshot" $(flags) >"$receipt/reset.log" 2>&1
}

#: guard
case $snapshot in
*.zip) refuse "$snapshot is compressed: some releases cannot restore it (k3s#14526)" ;;
/*) ;;
*) refuse "$snapshot is not an absolute path" ;;
esac
if alive "$unit"; then refuse "$unit is $(unit_state "$unit"): a reset needs a node that is down"; fi
read_reset "$reset_record"
if [ "$reset_run" = "$run" ] && reset_started_since; then
	refuse "the node was started after the reset of this run: a second one would lose what was written since"
fi
#: stop-old-reset
if [ "$reset_unit" != "$order_unit" ]; then stop_reset; fi
# Manifests that a crashed reset has left would have RKE2 clean up for up to 5 min.
if [ -n "$(shims)$(orphans)" ] || [ -e "$data/agent/pod-manifests/etcd.yaml" ]; then kill_containers; fi
prove_down
#: verify-snapshot
[ -f "$snapshot" ] || refuse "$snapshot does not exist"
[ "$(digest <"$snapshot")" = "$sha256" ] || refuse "$snapshot does not have the digest $sha256"
trailer_fits "$snapshot" || refuse "$snapshot is not a whole etcd snapshot: its trailer does not fit"
#: record
printf '%s\n%s\n%s\n%s\n' "$run" "$sha256" "$order_unit" "$receipt/reset.log" | durable "$reset_record"
#: move-partial
move_away "$etcd" "$etcd_aside"
#: reset
code=0
reset || code=$?
stop_leftovers
echo "cluster-reset ended with status $code, which proves nothing; the end of its log:"
tail -n 40 "$receipt/reset.log"
flush "$receipt/reset.log"
#: prove
read_reset "$reset_record"
reset_proved || die "the log does not say that the membership has been reset"
[ -e "$reset_flag" ] || die "$reset_flag is missing after the reset"
[ -d "$etcd/member" ] || die "$etcd/member is missing after the reset"
flush -f "$etcd"
