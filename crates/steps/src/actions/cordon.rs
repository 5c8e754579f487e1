//! Cordon: no new pod is scheduled on the node.

use rke2flow_engine::action::{ActionInfo, Place};
use serde::{Deserialize, Serialize};

use crate::actions::{Goal, info};

/// Goal: no new pod is scheduled on the node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cordon {}

impl Goal for Cordon {
    const INFO: ActionInfo = info("Cordon", "no new pod is scheduled on the node", Place::Host, 2);
}
