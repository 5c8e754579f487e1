//! Command: the given probe succeeds on the host.

use rke2flow_engine::action::{ActionInfo, Place};
use rke2flow_engine::value::Param;
use serde::{Deserialize, Serialize};

use crate::actions::{Goal, info};

/// Goal: the given probe succeeds on the host.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Command {
    /// POSIX sh that changes nothing; exit 0: the goal holds.
    pub probe: Param<String>,
    /// POSIX sh that moves the host towards the goal; may be cut off and repeated.
    pub apply: Param<String>,
}

impl Goal for Command {
    const INFO: ActionInfo = info("Command", "the given probe succeeds on the host", Place::Host, 10);
}
