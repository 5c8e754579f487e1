
lock_state
read_claim
if [ "$claim_json" = "$order_claim" ]; then
	printf 'rke2flow-claim 1\n%s\n%s\ntrue\n%s\n' "$claim_number" "$claim_since" "$claim_json" | durable "$claim_file"
	printf '"Accepted"\n'
elif [ -z "$claim_json" ]; then
	printf '"Accepted"\n'
else
	printf '{"Refused":%s}\n' "$(claim_state)"
fi
