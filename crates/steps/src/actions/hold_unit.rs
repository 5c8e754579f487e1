//! HoldUnit: a reboot of the host does not bring its node back.

use rke2flow_engine::action::{ActionInfo, Place};
use serde::{Deserialize, Serialize};

use crate::actions::{Goal, info};

/// Goal: a reboot of the host does not bring its node back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HoldUnit {}

impl Goal for HoldUnit {
    const INFO: ActionInfo = info("HoldUnit", "a reboot of the host does not bring its node back", Place::Host, 2);
}
