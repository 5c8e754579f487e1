
# As a unit's own: what the installer and RKE2 create is for others to read, and the receipt's directory is closed.
umask 022
cd "$receipt"
exec >>"$receipt/out" 2>&1 </dev/null

# The status is written only by a script that came to its end by itself: a killed one leaves none.
finish() {
	trap - EXIT
	set +e
	if [ "$(stat -c %s "$receipt/out")" -gt "$kept_bytes" ]; then
		tail -c "$kept_bytes" "$receipt/out" >"$receipt/out.tmp" && mv -f "$receipt/out.tmp" "$receipt/out"
	fi
	flush "$receipt/out"
	printf '%s\n' "$1" | durable "$receipt/exit"
}

# The end of a talkative command's output; returns its status.
bounded() {
	{ "$@" && echo 0 >"$receipt/status" || echo "$?" >"$receipt/status"; } 2>&1 | tail -c "$kept_bytes"
	return "$(cat "$receipt/status")"
}

# A hard link cannot replace a file: of two scripts of the same order only one gets past this.
boot_id >"$receipt/started.$$"
flush "$receipt/started.$$"
ln "$receipt/started.$$" "$receipt/started" 2>/dev/null || exit 0
rm -f "$receipt/started.$$"
flush "$receipt"
trap 'finish $?' EXIT
trap 'trap - EXIT; exit 143' HUP INT TERM
