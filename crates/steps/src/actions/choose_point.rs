//! ChoosePoint: one recovery point is chosen, complete and sound.

use rke2flow_engine::action::{ActionInfo, Place};
use rke2flow_engine::value::{FactSpec, Param, ValueType};
use serde::{Deserialize, Serialize};

use crate::actions::{Goal, info};

/// Goal: one recovery point is chosen, complete and sound.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChoosePoint {
    /// `latest`, the id of the run that made it, or the name of its snapshot file.
    pub to: Param<String>,
}

impl Goal for ChoosePoint {
    const INFO: ActionInfo = ActionInfo {
        facts: &[
            FactSpec { name: "id", kind: ValueType::Text },
            FactSpec { name: "snapshot", kind: ValueType::Text },
            FactSpec { name: "snapshot_host", kind: ValueType::Text },
            FactSpec { name: "sha256", kind: ValueType::Text },
            FactSpec { name: "taken_at", kind: ValueType::Time },
            FactSpec { name: "version", kind: ValueType::Version },
            FactSpec { name: "velero_backup", kind: ValueType::Text },
            FactSpec { name: "sentinel_before", kind: ValueType::Text },
            FactSpec { name: "sentinel_after", kind: ValueType::Text },
        ],
        changes: false,
        ..info("ChoosePoint", "one recovery point is chosen, complete and sound", Place::Operator, 5)
    };
}
