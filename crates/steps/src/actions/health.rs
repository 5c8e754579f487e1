//! Health: the cluster is healthy: servers, etcd, nodes, system pods, health URLs.

use rke2flow_engine::action::{ActionInfo, Place};
use rke2flow_engine::value::{FactSpec, Param, ValueType};
use serde::{Deserialize, Serialize};

use crate::actions::{Goal, info};

/// Goal: the cluster is healthy: servers, etcd, nodes, system pods, health URLs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Health {
    /// The version that every node must run; empty: any.
    #[serde(default)]
    pub version: Param<String>,
    /// Leases must be renewed after this moment, RFC 3339; empty: within the last minute.
    #[serde(default)]
    pub since: Param<String>,
}

impl Goal for Health {
    const INFO: ActionInfo = ActionInfo {
        facts: &[FactSpec { name: "checks", kind: ValueType::List }],
        changes: false,
        ..info("Health", "the cluster is healthy: servers, etcd, nodes, system pods, health URLs", Place::Operator, 20)
    };
}
