//! StageSnapshot: an uncompressed, sound copy of the snapshot is staged on the host.

use rke2flow_engine::action::{ActionInfo, Place};
use rke2flow_engine::value::{FactSpec, Param, ValueType};
use serde::{Deserialize, Serialize};

use crate::actions::{Goal, info};

/// Goal: an uncompressed, sound copy of the snapshot is staged on the host.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StageSnapshot {
    /// The snapshot's path on this host.
    pub file: Param<String>,
    /// Its SHA-256 as it is.
    pub sha256: Param<String>,
}

impl Goal for StageSnapshot {
    const INFO: ActionInfo = ActionInfo {
        facts: &[
            FactSpec { name: "staged_path", kind: ValueType::Text },
            FactSpec { name: "staged_sha256", kind: ValueType::Text },
        ],
        ..info("StageSnapshot", "an uncompressed, sound copy of the snapshot is staged on the host", Place::Host, 10)
    };
}
