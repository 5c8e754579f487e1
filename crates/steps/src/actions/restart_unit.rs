//! RestartUnit: the node has been restarted into this version.

use rke2flow_engine::action::{ActionInfo, Place};
use rke2flow_engine::value::{FactSpec, Param, ValueType};
use serde::{Deserialize, Serialize};

use crate::actions::{Goal, info};

/// Goal: the node has been restarted into this version.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RestartUnit {
    /// `v1.33.4+rke2r1`
    pub version: Param<String>,
}

impl Goal for RestartUnit {
    const INFO: ActionInfo = ActionInfo {
        facts: &[FactSpec { name: "started_at", kind: ValueType::Time }],
        stops_etcd_member: true,
        ..info("RestartUnit", "the node has been restarted into this version", Place::Host, 60)
    };
}
