//! The bucket that etcd snapshots and Velero backups go to.

pub mod store;
