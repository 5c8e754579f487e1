
lock_state
read_claim
if [ "$claim_json" != "$order_claim" ] || [ "$claim_released" = true ]; then
	printf '{"Refused":%s}\n' "$(claim_state)"
	return
fi
answer=$(receipt_answer)
if [ "$answer" != '"Unknown"' ]; then
	printf '%s\n' "$answer"
	return
fi
directory "$receipt"
directory "$state/units"
staged_script | durable "$receipt/script"
chmod 700 "$receipt/script"
if [ -n "$handed_text" ]; then
	mkdir -p "${handed%/*}"
	# Of units that never began: their requests have expired.
	for old in "${handed%/*}"/*.curl "${handed%/*}"/*.curl.ca; do
		if [ -e "$old" ] && [ $(($(date +%s) - $(stat -c %Y "$old"))) -gt 3600 ]; then rm -f "$old"; fi
	done
	printf '%s\n' "$handed_ca" >"$handed.ca"
	printf '%s\n' "$handed_text" >"$handed"
fi
ln -sfn "$receipt" "$state/units/$order_unit"
flush "$state/units"
# Proxies and the like, as the node's own unit has them: only the files' names become properties, not what is in them.
files=$(systemctl show --no-pager --property=EnvironmentFiles "$unit.service" 2>/dev/null |
	sed -n 's/^EnvironmentFiles=\(.*\) (ignore_errors=.*$/\1/p')
set --
while IFS= read -r file; do
	[ -z "$file" ] || set -- "$@" --property=EnvironmentFile=-"$file"
done <<FILES
$files
FILES
# A containerd that a reset leaves behind is stopped by name: the whole group would take the shims along, minutes later.
refusal=$(systemd-run --quiet --no-block --collect --unit="$order_unit" --property=KillMode=process "$@" \
	--description="rke2flow $run" sh "$receipt/script" 2>&1 9<&-) || alive "$order_unit" || [ -e "$receipt/started" ] ||
	die "systemd-run refuses: $refusal"
waited=0
until [ -e "$receipt/started" ]; do
	[ "$waited" -lt 100 ] || die "unit $order_unit has not begun within 10 s"
	sleep 0.1
	waited=$((waited + 1))
done
receipt_answer
