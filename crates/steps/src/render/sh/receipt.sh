
finished() {
	[ -e "$receipt/exit" ] || return 1
	read -r code <"$receipt/exit"
	[ "$code" -ge 0 ] || die "$receipt/exit is damaged"
	printf '{"Finished":{"exit":%d,"boot":"%s","tail":"%s"}}\n' "$code" "$(clean <"$receipt/started")" \
		"$(tail -c 3072 "$receipt/out" 2>/dev/null | encode)"
}

receipt_answer() {
	finished && return 0
	if alive "$order_unit"; then
		printf '"Running"\n'
	elif [ -e "$receipt/started" ]; then
		# It may have ended between the two looks.
		finished || printf '{"Interrupted":{"boot":"%s"}}\n' "$(clean <"$receipt/started")"
	else
		printf '"Unknown"\n'
	fi
}
