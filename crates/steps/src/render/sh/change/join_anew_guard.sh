
#: guard
# What was restored is the cluster; only a server that joins it may begin anew.
read_reset "$reset_record"
if [ "$role" != server ]; then refuse "only a server joins etcd"; fi
if [ "$reset_run" = "$run" ]; then refuse "a cluster-reset of this run has begun here: its etcd is never moved aside again"; fi
server_is_set || refuse "no server: is set: without its data the node would found a new, empty cluster (R2#6310)"
