
# What stands in the way came later; it is kept as well, under the next free name.
return_part() {
	[ -e "$2" ] || return 0
	move_away "$1" "$2"
	mv -T "$2" "$1"
	flush "${1%/*}"
	echo "moved $2 back"
}

# No rename puts a directory in the place of another one.
return_chart() {
	if [ ! -d "$1" ] || [ ! -e "$2" ]; then
		mv -fT "$1" "$2"
		return 0
	fi
	for file in "$1"/*; do
		if [ -e "$file" ]; then mv -f "$file" "$2/"; fi
	done
	rmdir "$1"
}

# Also those of a move that was cut off.
return_charts() {
	for gathered in "$manifests_aside" "$manifests_aside.part"; do
		charts_in "$gathered" | while IFS= read -r chart; do
			mkdir -p "$manifests"
			return_chart "$gathered/$chart" "$manifests/$chart"
		done
		rmdir "$gathered" 2>/dev/null || :
	done
	if [ -d "$manifests" ]; then flush "$manifests" "${manifests%/*}"; fi
}

any_aside() {
	{ has_part etcd && [ -e "$etcd_aside" ]; } || { has_part tls && [ -e "$tls_aside" ]; } ||
		{ has_part cred && [ -e "$cred_aside" ]; } || { has_part charts && { [ -e "$manifests_aside" ] || [ -e "$manifests_aside.part" ]; }; }
}

#: guard
read_reset "$reset_record"
if has_part etcd && [ "$reset_run" = "$run" ] && reset_started_since; then
	refuse "the node was started after the reset of this run: going back would lose what was written since"
fi
reset_is_ours=false
if has_part etcd && [ "$reset_run" = "$run" ]; then reset_is_ours=true; fi
if [ "$reset_is_ours" = true ] && alive "$unit"; then
	refuse "$unit is $(unit_state "$unit"): nothing is moved below a running node"
fi
if [ "$reset_is_ours" = false ] && any_aside; then refuse_while_alive; fi
#: stop-reset
# Its containers would write into the directory that is moved away.
if [ "$reset_is_ours" = true ]; then
	stop_reset
	if [ -n "$(shims)$(orphans)" ]; then kill_containers; fi
	prove_down
fi
#: forget-reset
if has_part etcd && [ "$reset_run" = "$run" ]; then
	mv -f "$reset_record" "$reset_record.undone"
	flush "$state"
fi
#: return-etcd
if has_part etcd; then return_part "$etcd" "$etcd_aside"; fi
#: return-tls
if has_part tls; then return_part "$tls" "$tls_aside"; fi
#: return-cred
if has_part cred; then return_part "$cred" "$cred_aside"; fi
#: return-charts
if has_part charts; then return_charts; fi
#: clear-reset-flag
read_reset "$reset_record.undone"
if has_part etcd && [ "$reset_run" = "$run" ]; then
	rm -f "$reset_flag" "$data/force-restart"
	flush "${reset_flag%/*}" "$data"
	rm -f "$reset_record.undone"
fi
