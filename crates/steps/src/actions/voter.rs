//! Voter: the server is a voting, healthy member of etcd and its API server is ready.

use rke2flow_engine::action::{ActionInfo, Place};
use rke2flow_engine::duration::Span;
use rke2flow_engine::value::Param;
use serde::{Deserialize, Serialize};

use crate::actions::{Goal, info};

/// Goal: the server is a voting, healthy member of etcd and its API server is ready.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Voter {
    /// How long it must stay so.
    #[serde(default)]
    pub steady: Param<Span>,
}

impl Goal for Voter {
    const INFO: ActionInfo = ActionInfo {
        changes: false,
        ..info("Voter", "the server is a voting, healthy member of etcd and its API server is ready", Place::Host, 30)
    };
}
