//! Uncordon: the node is not cordoned by rke2flow.

use rke2flow_engine::action::{ActionInfo, Place};
use serde::{Deserialize, Serialize};

use crate::actions::{Goal, info};

/// Goal: the node is not cordoned by rke2flow.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Uncordon {}

impl Goal for Uncordon {
    const INFO: ActionInfo = info("Uncordon", "the node is not cordoned by rke2flow", Place::Host, 2);
}
