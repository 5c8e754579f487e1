//! CleanUp: nothing that rke2flow put into the node's configuration is left.

use rke2flow_engine::action::{ActionInfo, Place};
use serde::{Deserialize, Serialize};

use crate::actions::{Goal, info};

/// Goal: nothing that rke2flow put into the node's configuration is left.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CleanUp {}

impl Goal for CleanUp {
    const INFO: ActionInfo =
        info("CleanUp", "nothing that rke2flow put into the node's configuration is left", Place::Host, 2);
}
