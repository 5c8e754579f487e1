
code=0
if [ -e "$state/units/$log_unit/out" ]; then
	# One of ours: what it wrote is in its receipt, the journal has only its beginning and its end.
	receipt=$(cd "$state/units/$log_unit" && pwd -P)
	text=$({
		tail -n "$lines" "$receipt/out"
		if [ -e "$receipt/reset.log" ]; then tail -n "$lines" "$receipt/reset.log"; fi
	} | tail -c "$text_bytes" | encode)
else
	text=$(journalctl --no-pager --output=short-iso --lines="$lines" --unit="$log_unit" 2>&1 | tail -c "$text_bytes" | encode)
fi
printf '{"exit":%d,"text":"%s"}\n' "$code" "$text"
