//! PauseSchedules: no Velero schedule starts a backup, and nothing of Velero is in flight.

use rke2flow_engine::action::{ActionInfo, Place};
use rke2flow_engine::value::{FactSpec, ValueType};
use serde::{Deserialize, Serialize};

use crate::actions::{Goal, info};

/// Goal: no Velero schedule starts a backup, and nothing of Velero is in flight.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PauseSchedules {}

impl Goal for PauseSchedules {
    const INFO: ActionInfo = ActionInfo {
        facts: &[FactSpec { name: "schedules", kind: ValueType::List }],
        ..info(
            "PauseSchedules",
            "no Velero schedule starts a backup, and nothing of Velero is in flight",
            Place::Operator,
            5,
        )
    };
}
