//! KillNode: nothing of the node runs: unit, containers, ports.

use rke2flow_engine::action::{ActionInfo, Place};
use rke2flow_engine::duration::Span;
use rke2flow_engine::value::Param;
use serde::{Deserialize, Serialize};

use crate::actions::{Goal, info};

/// Goal: nothing of the node runs: unit, containers, ports.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KillNode {
    /// Between SIGTERM to the containers' processes and the hard kill.
    #[serde(default = "default_grace")]
    pub grace: Param<Span>,
}

impl Goal for KillNode {
    const INFO: ActionInfo = ActionInfo {
        stops_etcd_member: true,
        ..info("KillNode", "nothing of the node runs: unit, containers, ports", Place::Host, 20)
    };
}

fn default_grace() -> Param<Span> {
    Param::Known(Span::from_secs(10))
}
