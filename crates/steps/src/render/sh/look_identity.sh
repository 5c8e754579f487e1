
# As K3S pkg/util/token.go GetTokenHash: of the password alone. The token itself is in no argument and in no answer.
token_hash() {
	token=''
	if [ -f "$data/server/token" ]; then read -r token <"$data/server/token" || :; fi
	case $token in
	K10*)
		password=${token#K10}
		password=${password#*::}
		case $password in
		*:*) password=${password#*:} ;;
		*) password='' ;;
		esac
		;;
	*) password=$token ;;
	esac
	if [ -n "$password" ]; then printf %s "$password" | digest | cut -c1-12; fi
}

config_files() {
	for file in "$config/config.yaml" "$config"/config.yaml.d/*.yaml "$config"/config.yaml.d/*.yml; do
		if [ -f "$file" ] && [ "$file" != "$override" ] && [ "$file" != "$token_drop_in" ]; then
			printf '%s\n' "${file##*/}"
			cat "$file"
		fi
	done
}

# etcd's own metrics, which RKE2 has it serve on the loopback.
etcd_metrics() {
	curl --silent --max-time 5 --noproxy '*' http://127.0.0.1:2381/metrics 2>/dev/null |
		sed -n -e 's/^etcd_server_version{server_version="\([^"]*\)".*/version \1/p' \
			-e 's/^etcd_server_is_leader 1$/leads/p'
}
told=$(etcd_metrics)
etcd_version() { printf '%s\n' "$told" | sed -n 's/^version //p' | head -n 1 | clean; }
etcd_leads() { if printf '%s\n' "$told" | grep -q '^leads$'; then printf true; else printf false; fi; }

configured=''
if [ -n "$(config_files | head -c 1)" ]; then configured=$(config_files | digest); fi
printf '{"token_hash":"%s","config_sha256":"%s","etcd_version":"%s","etcd_leads":%s}\n' \
	"$(token_hash)" "$configured" "$(etcd_version)" "$(etcd_leads)"
