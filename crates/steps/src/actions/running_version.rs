//! RunningVersion: the node runs this version: kubelet, static pods, API server and etcd member.

use rke2flow_engine::action::{ActionInfo, Place};
use rke2flow_engine::value::{FactSpec, Param, ValueType};
use serde::{Deserialize, Serialize};

use crate::actions::{Goal, info};

/// Goal: the node runs this version: kubelet, static pods, API server and etcd member.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunningVersion {
    /// `v1.33.4+rke2r1`
    pub version: Param<String>,
}

impl Goal for RunningVersion {
    const INFO: ActionInfo = ActionInfo {
        facts: &[FactSpec { name: "version", kind: ValueType::Version }],
        changes: false,
        ..info(
            "RunningVersion",
            "the node runs this version: kubelet, static pods, API server and etcd member",
            Place::Host,
            30,
        )
    };
}
