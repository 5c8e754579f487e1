#: move-etcd
move_away "$etcd" "$etcd_aside"
#: move-tls
move_away "$tls" "$tls_aside"
#: move-cred
move_away "$cred" "$cred_aside"
#: start
refuse_harmful_start
systemctl reset-failed "$unit.service" 2>/dev/null || :
systemctl start --no-block "$unit.service"
