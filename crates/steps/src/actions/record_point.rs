//! RecordPoint: the server keeps the recovery point of this run.

use rke2flow_engine::action::{ActionInfo, Place};
use rke2flow_engine::value::{FactSpec, Param, ValueType};
use serde::{Deserialize, Serialize};

use crate::actions::{Goal, info};

/// Goal: the server keeps the recovery point of this run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordPoint {
    /// The version that the cluster runs.
    pub version: Param<String>,
    /// The version that it is about to run; empty for a plain backup.
    #[serde(default)]
    pub before_version: Param<String>,
    /// The server that has the snapshot.
    pub host: Param<String>,
    /// The snapshot's path there.
    pub path: Param<String>,
    /// Its bytes.
    pub size: Param<u64>,
    /// Its SHA-256.
    pub sha256: Param<String>,
    /// Its key in the bucket; empty: not there.
    #[serde(default)]
    pub s3_key: Param<String>,
    /// When it was taken, RFC 3339.
    pub taken_at: Param<String>,
    /// UID of the sentinel written before it.
    #[serde(default)]
    pub sentinel_before: Param<String>,
    /// Name of the sentinel written after it.
    #[serde(default)]
    pub sentinel_after: Param<String>,
    /// The Velero backup that belongs to it; empty: none.
    #[serde(default)]
    pub velero_backup: Param<String>,
}

impl Goal for RecordPoint {
    const INFO: ActionInfo = ActionInfo {
        facts: &[
            FactSpec { name: "id", kind: ValueType::Text },
            FactSpec { name: "version", kind: ValueType::Version },
        ],
        ..info("RecordPoint", "the server keeps the recovery point of this run", Place::Host, 3)
    };
}
