//! VeleroBackup: a Velero backup of this run is complete, without errors.

use rke2flow_engine::action::{ActionInfo, Place};
use rke2flow_engine::duration::Span;
use rke2flow_engine::value::{FactSpec, Param, ValueType};
use serde::{Deserialize, Serialize};

use crate::actions::{Goal, info};

/// Goal: a Velero backup of this run is complete, without errors.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VeleroBackup {
    /// How long Velero keeps it; 30 days when left out.
    #[serde(default = "default_ttl")]
    pub ttl: Param<Span>,
    /// Only these; all when empty.
    #[serde(default)]
    pub namespaces: Param<Vec<String>>,
}

impl Goal for VeleroBackup {
    const INFO: ActionInfo = ActionInfo {
        facts: &[FactSpec { name: "name", kind: ValueType::Text }],
        ..info("VeleroBackup", "a Velero backup of this run is complete, without errors", Place::Operator, 300)
    };
}

fn default_ttl() -> Param<Span> {
    Param::Known(Span::from_secs(30 * 24 * 3600))
}
