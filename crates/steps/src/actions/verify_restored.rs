//! VerifyRestored: the restored server serves the snapshot that was meant, as the only member of etcd.

use rke2flow_engine::action::{ActionInfo, Place};
use rke2flow_engine::value::Param;
use serde::{Deserialize, Serialize};

use crate::actions::{Goal, info};

/// Goal: the restored server serves the snapshot that was meant, as the only member of etcd.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VerifyRestored {
    /// Id of the recovery point.
    pub point: Param<String>,
    /// UID of the sentinel that must be there; empty: the point has none.
    #[serde(default)]
    pub sentinel_before: Param<String>,
    /// Name of the sentinel that must not be there; empty: the point has none.
    #[serde(default)]
    pub sentinel_after: Param<String>,
}

impl Goal for VerifyRestored {
    const INFO: ActionInfo = ActionInfo {
        changes: false,
        ..info(
            "VerifyRestored",
            "the restored server serves the snapshot that was meant, as the only member of etcd",
            Place::Host,
            60,
        )
    };
}
