//! Sentinel: a ConfigMap with the run's id marks a moment in the datastore.

use rke2flow_engine::action::{ActionInfo, Place};
use rke2flow_engine::value::{FactSpec, ValueType};
use serde::{Deserialize, Serialize};

use crate::actions::{Goal, info};

/// Goal: a ConfigMap with the run's id marks a moment in the datastore.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sentinel {
    /// Before the snapshot, or after it.
    pub which: Which,
}

impl Goal for Sentinel {
    const INFO: ActionInfo = ActionInfo {
        facts: &[FactSpec { name: "uid", kind: ValueType::Text }, FactSpec { name: "name", kind: ValueType::Text }],
        ..info("Sentinel", "a ConfigMap with the run's id marks a moment in the datastore", Place::Operator, 2)
    };
}

/// Which of the two sentinels of a recovery point.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Which {
    /// Written before the snapshot: a restore must bring it back.
    Before,
    /// Written after the snapshot: a restore must not have it.
    After,
}
