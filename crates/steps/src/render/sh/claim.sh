
# What the host remembers: claim_number, claim_since, claim_released, claim_json (empty: nothing).
read_claim() {
	claim_number=0 claim_since=0 claim_released=false claim_json=''
	[ -e "$claim_file" ] || return 0
	claim_mark=''
	{
		IFS= read -r claim_mark && read -r claim_number && read -r claim_since && read -r claim_released &&
			IFS= read -r claim_json
	} <"$claim_file" || claim_mark=''
	[ "$claim_mark" = 'rke2flow-claim 1' ] ||
		die "$claim_file is damaged or of another version: see who acts on this host, then remove it"
}

claim_state() {
	if [ -n "$claim_json" ]; then
		printf '{"claim":%s,"since":%s,"released":%s}' "$claim_json" "$claim_since" "$claim_released"
	else
		printf null
	fi
}

lock_state() {
	directory "$state"
	exec 9<"$state"
	flock -w 20 9 || die "cannot lock $state: another command has held it for 20 s"
}
