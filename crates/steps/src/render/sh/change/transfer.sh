
# curl with the request that was handed to this unit: read once, and removed before it is used. Neither the URL nor what
# a store answers to a wrong one (it repeats the signature) is printed.
transfer() {
	[ -f "$handed" ] || die "the request for this attempt is not at hand any more: the next attempt makes another"
	authority=$(cat "$handed.ca")
	exec 3<"$handed"
	rm -f "$handed"
	if [ -n "$authority" ]; then set -- --cacert "$handed.ca" "$@"; fi
	code=0
	status=$(curl --config - --fail --silent --show-error --retry 4 --retry-delay 2 --connect-timeout 10 \
		--speed-limit 1024 --speed-time 60 --max-time "$transfer_seconds" --write-out '%{http_code}' "$@" <&3) || code=$?
	exec 3<&-
	rm -f "$handed.ca"
	[ "$code" -eq 0 ] || die "the bucket was not reached or refused: curl ended with $code, HTTP status ${status:-none}"
	echo "the bucket answered $status"
}
