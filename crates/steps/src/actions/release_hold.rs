//! ReleaseHold: the node may start again.

use rke2flow_engine::action::{ActionInfo, Place};
use serde::{Deserialize, Serialize};

use crate::actions::{Goal, info};

/// Goal: the node may start again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReleaseHold {}

impl Goal for ReleaseHold {
    const INFO: ActionInfo = info("ReleaseHold", "the node may start again", Place::Host, 2);
}
