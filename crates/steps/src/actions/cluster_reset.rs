//! ClusterReset: etcd on this server holds the snapshot's data and one member, and has not been started since.

use rke2flow_engine::action::{ActionInfo, Place};
use rke2flow_engine::value::Param;
use serde::{Deserialize, Serialize};

use crate::actions::{Goal, info};

/// Goal: etcd on this server holds the snapshot's data and one member, and has not been started since.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClusterReset {
    /// Absolute path of the staged, uncompressed snapshot.
    pub snapshot: Param<String>,
    /// Its SHA-256.
    pub sha256: Param<String>,
}

impl Goal for ClusterReset {
    const INFO: ActionInfo = ActionInfo {
        stops_etcd_member: true,
        ..info(
            "ClusterReset",
            "etcd on this server holds the snapshot's data and one member, and has not been started since",
            Place::Host,
            30,
        )
    };
}
