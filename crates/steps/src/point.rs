//! The recovery point: everything that belongs together to bring a cluster back to one moment.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// One verified moment to which a cluster can return. Kept in the journal, on every server and in the bucket.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RecoveryPoint {
    /// `rke2flow.dev/recovery-point/v1`
    pub schema: String,
    /// The run that made it: its id.
    pub id: String,
    /// The cluster's name.
    pub cluster: String,
    /// When the etcd snapshot was taken.
    pub taken_at: Timestamp,
    /// The version that the cluster ran: `v1.33.4+rke2r1`.
    pub version: String,
    /// The version that the cluster was about to be upgraded to; empty for a plain backup.
    #[serde(default)]
    pub before_version: String,
    /// The etcd snapshot's files, the server's own first.
    pub snapshots: Vec<SnapshotRef>,
    /// SHA-256 of the server token: a snapshot without its token is useless (DOC:datastore/backup_restore.md "Security").
    pub token_sha256: String,
    /// SHA-256 of the cluster's certificate authority.
    pub ca_sha256: String,
    /// UID of the sentinel written before the snapshot: must be there after a restore.
    pub sentinel_before: String,
    /// Name of the sentinel written after the snapshot: must not be there after a restore.
    pub sentinel_after: String,
    /// The Velero backup that belongs to it; empty: none.
    #[serde(default)]
    pub velero_backup: String,
    /// Labels and taints per node.
    #[serde(default)]
    pub nodes: BTreeMap<String, NodeRecord>,
}

/// One file of an etcd snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotRef {
    /// The host that has it.
    pub host: String,
    /// Absolute path there.
    pub path: String,
    /// Bytes.
    pub size: u64,
    /// SHA-256, hex.
    pub sha256: String,
    /// Its key in the bucket, verified by HEAD; empty: not there.
    #[serde(default)]
    pub s3_key: String,
}

/// What a node looked like.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct NodeRecord {
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Taints as `key=value:Effect`.
    pub taints: Vec<String>,
    /// Whether it was cordoned.
    pub unschedulable: bool,
}
