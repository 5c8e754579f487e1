//! The stand-in for `rke2`: unit, etcd member, containers that outlive it, snapshots and cluster-reset.
