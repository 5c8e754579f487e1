
flag() { if [ -e "$1" ]; then printf true; else printf false; fi; }

names_in() { ls -1 "$1" 2>/dev/null || :; }

# The last value of a top-level key in the node's configuration, as RKE2 reads it, without our own drop-in.
configured() {
	for file in "$config/config.yaml" "$config"/config.yaml.d/*.yaml "$config"/config.yaml.d/*.yml; do
		if [ -f "$file" ] && [ "$file" != "$override" ]; then
			cat "$file" && echo
		fi
	done | value_of "$1"
}

value_of() {
	awk -v key="$1" '
		{ line = $0; gsub(/\r/, "", line) }
		match(line, "^[\"'\'']?" key "[\"'\'']?[ \t]*:") {
			found = substr(line, RLENGTH + 1); sub(/^[ \t]+/, "", found)
			quote = substr(found, 1, 1)
			if (quote == "\"" || quote == "'\''") { found = substr(found, 2); sub(quote ".*$", "", found) }
			else { sub(/(^|[ \t]+)#.*$/, "", found); sub(/[ \t]+$/, "", found) }
		}
		END { print found }' | clean
}

our_override() {
	[ -e "$override" ] || return 0
	printf '%s %s' "$(sed -n '1s/^# rke2flow //p' "$override")" "$(value_of server <"$override")" | sed 's/ *$//' | clean
}

loopback() { curl --silent --max-time 3 --noproxy '*' "$@" 2>/dev/null || :; }

digest_of() { if [ -f "$1" ]; then tr -d '\n' <"$1" | digest; fi; }

arch() {
	case $(uname -m) in
	x86_64) printf amd64 ;;
	aarch64) printf arm64 ;;
	*) uname -m | clean ;;
	esac
}

# One of systemd's properties of the node's unit.
property() { printf '%s\n' "$properties" | sed -n "s/^$1=//p" | clean; }

active_since() {
	since=$(property ActiveEnterTimestamp)
	[ "$unit_now" = active ] && [ -n "$since" ] && date -d "$since" +%s 2>/dev/null || printf 0
}

begun_since() {
	since=$(property InactiveExitTimestamp)
	case $unit_now in
	active | activating | reloading) [ -n "$since" ] && date -d "$since" +%s 2>/dev/null || printf 0 ;;
	*) printf 0 ;;
	esac
}

# Without `node-ip:`, the node takes the address of the default route's interface.
default_ip() { ip route get 192.0.2.1 2>/dev/null | sed -n 's/.* src \([^ ]*\).*/\1/p' | head -n 1; }

# `node-ip: a,b` and `node-ip: [a, b]`, or a list on the lines below: the first is what etcd and the API go by.
node_ip() {
	for file in "$config/config.yaml" "$config"/config.yaml.d/*.yaml "$config"/config.yaml.d/*.yml; do
		if [ -f "$file" ] && [ "$file" != "$override" ]; then
			cat "$file" && echo
		fi
	done | awk '
		/^["'\'']?node-ip["'\'']?[ \t]*:/ { sub(/^[^:]*:/, ""); found = $0; below = 1; next }
		below && /^[ \t]*-/ { sub(/^[ \t]*-/, ""); if (found ~ /^[ \t]*$/) found = $0; next }
		{ below = 0 }
		END { sub(/[ \t]#.*/, "", found); gsub(/["'\''\[\] \t\r]/, "", found); sub(/,.*/, "", found); print found }' | clean
}

units_of_ours() {
	systemctl list-units --all --plain --no-legend --no-pager 'rke2flow-*' 2>/dev/null |
		awk '$3 == "active" || $3 == "activating" || $3 == "deactivating" || $3 == "reloading" { sub(/\.service$/, "", $1); print $1 }'
}

reset_state() {
	read_reset "$reset_record"
	[ -n "$reset_run" ] || {
		printf null
		return 0
	}
	proved=false since=false
	# Its text is in the log a moment before the process is gone.
	if reset_proved && ! alive "$reset_unit"; then proved=true; fi
	if [ "$proved" = true ] && reset_started_since; then since=true; fi
	printf '{"run":"%s","sha256":"%s","proved":%s,"started_since":%s}' \
		"$(printf %s "$reset_run" | clean)" "$(printf %s "$reset_sha256" | clean)" "$proved" "$since"
}

# The names are host names; what else lies there is nobody's mark.
lost_marked() {
	comma=''
	printf '['
	for mark in $(names_in "$lost_marks" | grep -E '^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$' | grep -v '\.tmp$' || :); do
		mark_run=$(sed -n 1p "$lost_marks/$mark" | clean) mark_since=$(sed -n 2p "$lost_marks/$mark" | tr -cd 0-9)
		printf '%s{"host":"%s","run":"%s","since":%d}' "$comma" "$mark" "$mark_run" "${mark_since:-0}"
		comma=,
	done
	printf ']'
}

disk_free() {
	place=$data
	while [ ! -d "$place" ] && [ -n "$place" ]; do place=${place%/*}; done
	df -Pk "${place:-/}" 2>/dev/null | awk 'NR == 2 { printf "%.0f", $4 * 1024; seen = 1 } END { if (!seen) printf 0 }'
}

etcd_bytes() { { du -sk "$etcd" 2>/dev/null || :; } | awk '{ bytes = $1 * 1024 } END { printf "%.0f", bytes }'; }

# `kube-apiserver` asks for a client certificate before it tells whether it is ready.
ask_api() {
	loopback --cacert "$data/server/tls/server-ca.crt" --cert "$data/server/tls/client-kube-apiserver.crt" \
		--key "$data/server/tls/client-kube-apiserver.key" "https://127.0.0.1:6443/$1"
}

readyz() { ask_api readyz | head -c 200 | tr '\n' ' ' | clean; }

etcd_health() { loopback http://127.0.0.1:2381/health | sed -n 's/.*"health":"\{0,1\}\([a-z]*\).*/\1/p' | clean; }

# As it comes; the reader of the answer knows etcd's own form of it.
db_info() { loopback --insecure "https://127.0.0.1:$supervisor_port/db/info" | head -c 65536 | encode; }

# On a host where nothing listens nobody answers: not asking is cheaper.
asked=$(open_ports)
server_health='' server_readyz='' server_members='' server_version=''
if [ "$role" = server ] && [ -n "$asked" ]; then
	server_health=$(etcd_health) server_readyz=$(readyz) server_members=$(db_info) server_version=$(api_version)
fi
properties=$(systemctl show --no-pager \
	--property=LoadState,ActiveState,ActiveEnterTimestamp,InactiveExitTimestamp,NRestarts,UnitFileState,ExecStart "$unit.service" 2>/dev/null || :)
unit_now=$(property ActiveState)
if [ "$(property LoadState)" = not-found ]; then unit_now=''; fi
restarts=$(property NRestarts)
enabled=false
if [ "$(property UnitFileState)" = enabled ]; then enabled=true; fi
address=$(node_ip)
file_server=$(configured server)
if [ -z "$file_server" ]; then file_server=$(configured_by_unit); fi
s3=false
if [ "$(configured etcd-s3)" = true ]; then s3=true; fi
read_claim

printf '{"boot":"%s","epoch":%s,"arch":"%s","installed":"%s"' \
	"$(boot_id | clean)" "$(date +%s)" "$(arch)" "$(installed_version)"
printf ',"unit":"%s","unit_active_since":%s,"unit_begun_since":%s,"unit_restarts":%d,"unit_enabled":%s' \
	"$unit_now" "$(active_since)" "$(begun_since)" "${restarts:-0}" "$enabled"
printf ',"shims":%d,"open_ports":[%s],"static_pods":%s' \
	"$(shims | wc -l)" "$asked" "$(names_in "$data/agent/pod-manifests" | list)"
printf ',"hold":%s,"hold_drop_in":%s,"reset_flag":%s,"etcd_name":%s,"etcd_member":%s,"tls":%s,"cred":%s' \
	"$(flag "$hold")" "$(flag "$drop_in")" "$(flag "$reset_flag")" "$(flag "$etcd/name")" "$(flag "$etcd/member")" \
	"$(flag "$tls")" "$(flag "$cred")"
printf ',"shipped_charts":%d,"aside":%s' \
	"$(charts_in "$manifests" | wc -l)" \
	"$(cd "$data" 2>/dev/null && ls -1d server/db/*-rke2flow-* server/*-rke2flow-* 2>/dev/null | list || printf '[]')"
printf ',"server_override":"%s","configured_server":"%s","unit_server":"%s","node_ip":"%s","etcd_s3":%s' \
	"$(our_override)" "$file_server" "$(unit_flag server s)" "${address:-$(default_ip | clean)}" "$s3"
printf ',"etcd_health":"%s","readyz":"%s","members":"%s","api_version":"%s","datastore":"%s"' \
	"$server_health" "$server_readyz" "$server_members" "$server_version" "$(datastore)"
printf ',"token_sha256":"%s","ca_sha256":"%s"' \
	"$(digest_of "$data/server/token")" "$(if [ -f "$tls/server-ca.crt" ]; then digest <"$tls/server-ca.crt"; fi)"
printf ',"disk_free":%s,"etcd_bytes":%s,"claim":%s,"our_units":%s,"reset":%s,"lost":%s}\n' \
	"$(disk_free)" "$(etcd_bytes)" "$(claim_state)" "$(units_of_ours | list)" "$(reset_state)" "$(lost_marked)"
