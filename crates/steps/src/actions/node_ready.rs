//! NodeReady: the node is Ready by its own fresh word.

use rke2flow_engine::action::{ActionInfo, Place};
use rke2flow_engine::value::Param;
use serde::{Deserialize, Serialize};

use crate::actions::{Goal, info};

/// Goal: the node is Ready by its own fresh word.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeReady {
    /// Its lease must be renewed after this moment, RFC 3339; empty: within the last minute.
    #[serde(default)]
    pub newer_than: Param<String>,
}

impl Goal for NodeReady {
    const INFO: ActionInfo =
        ActionInfo { changes: false, ..info("NodeReady", "the node is Ready by its own fresh word", Place::Host, 30) };
}
