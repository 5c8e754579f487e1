//! MoveAside: these parts of the node's data directory are out of the way, and kept.

use rke2flow_engine::action::{ActionInfo, Place};
use serde::{Deserialize, Serialize};

use crate::actions::{Goal, info};
use crate::command::NodePart;

/// Goal: these parts of the node's data directory are out of the way, and kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MoveAside {
    /// Which parts.
    pub parts: Vec<NodePart>,
}

impl Goal for MoveAside {
    const INFO: ActionInfo =
        info("MoveAside", "these parts of the node's data directory are out of the way, and kept", Place::Host, 3);
}
