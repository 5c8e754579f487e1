//! RestoreVolumes: Velero has restored these namespaces from the backup.

use rke2flow_engine::action::{ActionInfo, Place};
use rke2flow_engine::value::{FactSpec, Param, ValueType};
use serde::{Deserialize, Serialize};

use crate::actions::{Goal, info};

/// Goal: Velero has restored these namespaces from the backup.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RestoreVolumes {
    /// The Velero backup.
    pub backup: Param<String>,
    /// The namespaces; at least one.
    pub namespaces: Param<Vec<String>>,
}

impl Goal for RestoreVolumes {
    const INFO: ActionInfo = ActionInfo {
        facts: &[FactSpec { name: "restores", kind: ValueType::List }],
        ..info("RestoreVolumes", "Velero has restored these namespaces from the backup", Place::Operator, 180)
    };
}
