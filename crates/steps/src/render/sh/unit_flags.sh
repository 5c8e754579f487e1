
# The value of a flag of the unit's own command line, which counts for more than every file: `--server X`, `-s=X`.
unit_flag() {
	property ExecStart | sed -n 's/.*argv\[]=\(.*\) ; ignore_errors=.*/\1/p' | tr ' ' '\n' | awk -v long="$1" -v short="$2" '
		next_is { found = $0; next_is = 0; next }
		match($0, "^--?(" long "|" short ")(=|$)") {
			if (RLENGTH == length($0) && $0 !~ /=$/) next_is = 1; else found = substr($0, RLENGTH + 1)
		}
		END { print found }' | clean
}

# A variable of the files that the installer's unit reads (K3S install.sh create_systemd_service_file): the last one counts.
unit_variable() {
	for file in "/etc/default/$unit" "/etc/sysconfig/$unit" "$systemd/$unit.service.env"; do
		if [ -f "$file" ]; then cat "$file" && echo; fi
	done | sed -n "s/^$1=//p" | tail -n 1 | tr -d "'" | clean
}

configured_by_unit() { unit_variable K3S_URL; }

# Other datastores than embedded etcd have no members, no snapshots and no reset (K3S pkg/cluster/storage.go). What an
# endpoint says stays here: it may have a password in it.
datastore() {
	[ "$role" = server ] || return 0
	if [ -n "$(unit_flag datastore-endpoint datastore-endpoint)$(configured datastore-endpoint)" ] ||
		[ -n "$(unit_variable K3S_DATASTORE_ENDPOINT)" ]; then
		printf external
	elif [ -e "$etcd/name" ] || [ -e "$etcd/member" ]; then
		printf etcd
	elif [ -e "${etcd%/*}/state.db" ]; then
		printf sqlite
	fi
}
