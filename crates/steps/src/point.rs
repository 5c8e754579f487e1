//! The recovery point: everything that belongs together to bring a cluster back to one moment.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// One verified moment to which a cluster can return. Kept in the journal, on every server and in the bucket.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
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
    /// What each node was: labels, taints, version, address.
    #[serde(default)]
    pub nodes: BTreeMap<String, NodeRecord>,
    /// The version of etcd that took the snapshot: `3.5.21`; empty: not known.
    #[serde(default)]
    pub etcd_version: String,
    /// etcd's revision just before the snapshot was asked for; 0: not known.
    #[serde(default)]
    pub etcd_revision: i64,
    /// RKE2's own short hash of the token, as it stands with the snapshot (annotation
    /// `etcd.rke2.cattle.io/snapshot-token-hash`, S3 metadata `Rke2-Token-Hash`); empty: not known.
    #[serde(default)]
    pub token_hash: String,
    /// SHA-256 of each host's configuration (`config.yaml` and `config.yaml.d/*`, without our drop-ins), by host.
    #[serde(default)]
    pub config_sha256: BTreeMap<String, String>,
    /// The persistent volumes and what they are bound to.
    #[serde(default)]
    pub volumes: Vec<VolumeRecord>,
    /// SHA-256 of Velero's repository password; empty: no Velero.
    #[serde(default)]
    pub repository_password_sha256: String,
    /// What the fences of this run took down, as it was before.
    #[serde(default)]
    pub fences: Vec<FenceRecord>,
    /// How many objects of each kind there were: by them it is told what was deleted since.
    #[serde(default)]
    pub counts: BTreeMap<String, u64>,
}

impl RecoveryPoint {
    /// Nodes that ran something else than the point's version when it was taken; empty: it is a point of one version.
    pub fn other_versions(&self) -> Vec<(&str, &str)> {
        let differs = |record: &NodeRecord| !record.version.is_empty() && record.version != self.version;
        let others = self.nodes.iter().filter(|(_, record)| differs(record));
        others.map(|(name, record)| (name.as_str(), record.version.as_str())).collect()
    }

    /// Why it is a point in the middle of an upgrade, which `latest` must not mean; `None`: it is not.
    pub fn mixed(&self) -> Option<String> {
        let others = self.other_versions();
        if !others.is_empty() {
            let others: Vec<String> = others.iter().map(|(node, version)| format!("{node} ran {version}")).collect();
            return Some(format!("{} is of {}, but {}", self.id, self.version, others.join(", ")));
        }
        let reached = !self.before_version.is_empty() && self.before_version == self.version;
        reached.then(|| format!("{} was taken when {} ran already", self.id, self.version))
    }
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
    /// The running version, `v1.33.4+rke2r1`; empty: not known.
    #[serde(default)]
    pub version: String,
    /// Its internal IP address; empty: not known.
    #[serde(default)]
    pub address: String,
}

/// A persistent volume.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct VolumeRecord {
    /// The PersistentVolume's name.
    pub name: String,
    /// Namespace of the claim that it is bound to; empty: none.
    #[serde(default)]
    pub namespace: String,
    /// Name of the claim.
    #[serde(default)]
    pub claim: String,
    /// The storage driver, `csi.hetzner.cloud`; empty: not by CSI.
    #[serde(default)]
    pub driver: String,
    /// The driver's own id of the volume.
    #[serde(default)]
    pub handle: String,
    /// `Delete` or `Retain`.
    #[serde(default)]
    pub reclaim: String,
}

/// An object that a fence changed, as it was before.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct FenceRecord {
    /// Its API path.
    pub path: String,
    /// The part that was changed, as JSON text.
    pub original: String,
}
