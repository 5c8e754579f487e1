//! RemoveGhosts: no Node object stands for a machine that is not in the cluster file.

use rke2flow_engine::action::{ActionInfo, Place};
use rke2flow_engine::value::Param;
use serde::{Deserialize, Serialize};

use crate::actions::{Goal, info};

/// Goal: no Node object stands for a machine that is not in the cluster file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RemoveGhosts {
    /// The node names that are expected; those of the cluster file when empty.
    #[serde(default)]
    pub nodes: Param<Vec<String>>,
}

impl Goal for RemoveGhosts {
    const INFO: ActionInfo =
        info("RemoveGhosts", "no Node object stands for a machine that is not in the cluster file", Place::Operator, 5);
}
