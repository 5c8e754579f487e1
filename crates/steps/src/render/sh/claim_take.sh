
lock_state
read_claim
if [ -z "$claim_json" ] || [ "$claim_json" = "$order_claim" ] || [ "$order_number" -gt "$claim_number" ]; then
	# Taken again by the same holder, it is still the same claim: who asks since when gets the true answer.
	if [ "$claim_json" != "$order_claim" ] || [ "$claim_released" = true ]; then
		claim_since=$(date +%s)
	fi
	printf 'rke2flow-claim 1\n%s\n%s\nfalse\n%s\n' "$order_number" "$claim_since" "$order_claim" | durable "$claim_file"
	printf '"Accepted"\n'
else
	printf '{"Refused":%s}\n' "$(claim_state)"
fi
