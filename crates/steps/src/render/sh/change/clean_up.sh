
#: guard
# Without its hold a server whose etcd is out of the way founds an empty cluster at the next boot (R2#6310), and one
# that was restored begins to serve while nobody watches.
if [ "$role" = server ] && [ -e "$hold" ]; then
	read_reset "$reset_record"
	if [ "$reset_run" = "$run" ] && ! reset_proved; then
		refuse "the cluster-reset of this run has not succeeded: the hold stays"
	fi
	if [ ! -e "$etcd/name" ] && ls -d "$etcd"-rke2flow-* >/dev/null 2>&1; then
		refuse "etcd of this server is aside and nothing is in its place: the hold stays"
	fi
	if [ -e "$reset_flag" ]; then refuse "etcd of this server was reset and never started: the hold stays"; fi
fi
#: remove-override
rm -f "$override" "$token_drop_in"
if [ -d "${override%/*}" ]; then flush "${override%/*}"; fi
#: remove-hold
rm -f "$hold"
flush "$state"
#: remove-drop-in
rm -f "$drop_in"
rmdir "${drop_in%/*}" 2>/dev/null || :
if [ -d "${drop_in%/*}" ]; then flush "${drop_in%/*}"; fi
flush "${drop_in%/*/*}"
#: reload
systemctl daemon-reload
