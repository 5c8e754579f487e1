
# They gather under another name first: the name that says that they are aside appears when all of them are.
move_charts() {
	gathering=$manifests_aside
	if [ ! -e "$gathering" ]; then gathering=$manifests_aside.part; fi
	charts_in "$manifests" | while IFS= read -r chart; do
		mkdir -p "$gathering"
		move_away "$manifests/$chart" "$gathering/$chart"
	done
	if [ -e "$manifests_aside.part" ] && [ ! -e "$manifests_aside" ]; then
		flush "$manifests_aside.part"
		mv -T "$manifests_aside.part" "$manifests_aside"
		flush "${manifests%/*}"
	fi
}

any_there() {
	{ has_part etcd && [ -e "$etcd" ]; } || { has_part tls && [ -e "$tls" ]; } || { has_part cred && [ -e "$cred" ]; } ||
		{ has_part charts && [ -n "$(charts_in "$manifests")" ]; }
}

#: guard
read_reset "$reset_record"
if has_part etcd && [ -e "$etcd" ]; then
	if [ "$reset_run" = "$run" ]; then
		refuse "a cluster-reset of this run has begun here: its etcd is never moved aside again"
	fi
	# What another run of rke2flow restored and never started is given up by the run that comes after it, and kept aside.
	if [ -e "$reset_flag" ] && [ -z "$reset_run" ]; then
		refuse "$reset_flag exists, and rke2flow made no cluster-reset here: start the node, or remove the file if that restore is given up"
	fi
	if [ -n "$reset_unit" ] && alive "$reset_unit"; then refuse "the cluster-reset of run $reset_run still runs as $reset_unit"; fi
fi
if any_there; then refuse_while_alive; fi
#: move-etcd
if has_part etcd; then move_away "$etcd" "$etcd_aside"; fi
#: move-tls
if has_part tls; then move_away "$tls" "$tls_aside"; fi
#: move-cred
if has_part cred; then move_away "$cred" "$cred_aside"; fi
#: move-charts
if has_part charts && [ -d "$manifests" ]; then move_charts; fi
