
server_is_set() {
	cat "$config/config.yaml" "$config"/config.yaml.d/*.yaml "$config"/config.yaml.d/*.yml 2>/dev/null |
		grep -Eq "^[\"']?server[\"']?[ 	]*:[ 	]*[\"']?[A-Za-z0-9]"
}

# A start that the hold would silently skip, that would follow a failed reset, or that would found an empty cluster.
refuse_harmful_start() {
	if [ -e "$hold" ] && [ -e "$drop_in" ]; then refuse "the hold is still on: systemd would skip the start without a word"; fi
	[ "$role" = server ] || return 0
	read_reset "$reset_record"
	if [ -n "$reset_unit" ] && alive "$reset_unit"; then refuse "the cluster-reset still runs as $reset_unit"; fi
	if [ "$reset_run" = "$run" ] && ! reset_proved; then
		refuse "the cluster-reset of this run has not succeeded: see $reset_log"
	fi
	if [ ! -e "$etcd/name" ] && ls -d "$etcd"-rke2flow-* >/dev/null 2>&1 && ! server_is_set; then
		refuse "etcd was moved aside and no server: is set: the node would found a new, empty cluster (R2#6310)"
	fi
}
