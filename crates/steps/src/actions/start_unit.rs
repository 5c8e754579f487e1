//! StartUnit: the node's unit is active.

use rke2flow_engine::action::{ActionInfo, Place};
use rke2flow_engine::value::{FactSpec, ValueType};
use serde::{Deserialize, Serialize};

use crate::actions::{Goal, info};

/// Goal: the node's unit is active.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StartUnit {}

impl Goal for StartUnit {
    const INFO: ActionInfo = ActionInfo {
        facts: &[FactSpec { name: "started_at", kind: ValueType::Time }],
        ..info("StartUnit", "the node's unit is active", Place::Host, 60)
    };
}
