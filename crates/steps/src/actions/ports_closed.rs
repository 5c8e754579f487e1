//! PortsClosed: nobody listens on these ports of the host.

use rke2flow_engine::action::{ActionInfo, Place};
use rke2flow_engine::value::Param;
use serde::{Deserialize, Serialize};

use crate::actions::{Goal, info};

/// Goal: nobody listens on these ports of the host.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PortsClosed {
    /// TCP ports.
    pub ports: Param<Vec<u16>>,
}

impl Goal for PortsClosed {
    const INFO: ActionInfo = ActionInfo {
        changes: false,
        ..info("PortsClosed", "nobody listens on these ports of the host", Place::Host, 2)
    };
}
