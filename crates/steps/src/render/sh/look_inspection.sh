
# A tool that may wait for a lock of its own: of the package managers each.
briefly() { timeout -k 1 10 "$@" 2>/dev/null; }

loopback() { curl --silent --max-time 5 --noproxy '*' "$1" 2>/dev/null || :; }

unit_binary() {
	systemctl show --no-pager --property=ExecStart "$unit.service" 2>/dev/null |
		sed -n 's/^ExecStart={ path=\(.*\) ; argv\[\]=.*/\1/p' | head -n 1
}

package_of() {
	if [ -z "$1" ]; then return 0; fi
	if owner=$(briefly rpm -qf "$1") || owner=$(briefly dpkg -S "$1"); then
		printf '%s\n' "${owner%%: *}" | head -n 1
	fi
}

active_units() {
	for watched in $watched_units; do
		if [ "$(systemctl is-active "$watched" 2>/dev/null || :)" = active ]; then printf '%s\n' "$watched"; fi
	done
}

# One of APT's settings; nothing where there is no APT.
apt_setting() { briefly apt-config dump "$1" | sed -n 's/^[^"]*"\(.*\)";$/\1/p' | tail -n 1; }

# Whether a setting of APT is on: `1`, a number of days, `true`, `always`.
is_on() {
	case $(apt_setting "$1") in
	'' | 0 | false | no | off) printf false ;;
	*) printf true ;;
	esac
}

# `…/hardened-etcd:v3.5.21-k3s1-build20250612` of the static pod; K3s has none, and its metrics tell.
etcd_version() {
	version=$(sed -n 's/.*["'\'' ]image["'\'']*:.*:v\([0-9][0-9.]*\).*/\1/p' "$data/agent/pod-manifests/etcd.yaml" 2>/dev/null |
		head -n 1)
	if [ -n "$version" ]; then
		printf %s "$version"
	else
		printf '%s\n' "$metrics" | sed -n 's/^etcd_server_version{server_version="\([^"]*\)".*/\1/p' | head -n 1
	fi
}

# A gauge as a whole number; etcd writes 2.147483648e+09.
gauge() { printf '%s\n' "$metrics" | awk -v name="$1" '$1 == name { value = $2 } END { printf "%.0f", value }'; }

health_reason() { loopback http://127.0.0.1:2381/health | sed -n 's/.*"reason":"\([^"]*\)".*/\1/p'; }

kib_of() { { du -sk "$1" 2>/dev/null || :; } | awk '{ kib = $1 } END { printf "%d", kib }'; }

release_bytes() {
	runtime=$(readlink -f "$data/bin" 2>/dev/null || :)
	printf '%s' $((($(kib_of "${runtime%/bin}") + $(kib_of "$bin/$name")) * 1024))
}

certificates() {
	comma='' left=$certificates_max
	for file in "$tls"/*.crt "$tls"/etcd/*.crt "$data"/agent/*.crt; do
		if [ ! -f "$file" ] || [ "$left" -eq 0 ]; then continue; fi
		left=$((left - 1))
		end=$(openssl x509 -noout -enddate -in "$file" 2>/dev/null | sed -n 's/^notAfter=//p')
		seconds=''
		if [ -n "$end" ]; then seconds=$(date -d "$end" +%s 2>/dev/null || :); fi
		printf '%s{"file":"%s","not_after":%s}' "$comma" "$(printf %s "${file#"$data"/}" | clean)" "${seconds:-0}"
		comma=,
	done
}

# The file system that a place is on, or would be.
disk() {
	place=$2
	while [ ! -d "$place" ] && [ -n "$place" ]; do place=${place%/*}; done
	df -Pk "${place:-/}" 2>/dev/null | clean_lines | awk -v holds="$1" '
		NR == 2 {
			free = $4 * 1024
			for (column = 1; column < 6; column++) sub(/^[^ ]+ +/, "")
			printf "{\"holds\":\"%s\",\"mount\":\"%s\",\"free\":%.0f}", holds, $0, free
		}'
}

disks() { { disk data "$data" && echo && disk state "$state" && echo && disk bin "$bin" && echo; } | awk 'NF' | paste -sd, -; }

metrics=''
if [ "$role" = server ]; then metrics=$(loopback http://127.0.0.1:2381/metrics | grep -E '^etcd_(server_version|mvcc_db_total_size_in_bytes|server_quota_backend_bytes)' || :); fi
reason=''
if [ "$role" = server ]; then reason=$(health_reason); fi
binary=$(unit_binary)
unread=''
if ! command -v openssl >/dev/null 2>&1; then unread='openssl is not installed'; fi

printf '{"binary":"%s","package":"%s","units":%s,"apt_upgrades":%s,"apt_reboots":%s' \
	"$(printf %s "$binary" | clean)" "$(package_of "$binary" | clean)" "$(active_units | list)" \
	"$(is_on APT::Periodic::Unattended-Upgrade)" "$(is_on Unattended-Upgrade::Automatic-Reboot)"
printf ',"etcd_version":"%s","etcd_reason":"%s","etcd_db_bytes":%s,"etcd_quota_bytes":%s,"release_bytes":%s' \
	"$(etcd_version | clean)" "$(printf %s "$reason" | clean)" "$(gauge etcd_mvcc_db_total_size_in_bytes)" \
	"$(gauge etcd_server_quota_backend_bytes)" "$(release_bytes)"
printf ',"certificates_unread":"%s","certificates":[%s],"disks":[%s]}\n' \
	"$unread" "$(if [ -z "$unread" ]; then certificates; fi)" "$(disks)"
