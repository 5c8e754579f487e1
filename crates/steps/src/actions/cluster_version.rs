//! ClusterVersion: every node runs this version, and nothing that rke2flow set aside is left so.

use rke2flow_engine::action::{ActionInfo, Place};
use rke2flow_engine::value::Param;
use serde::{Deserialize, Serialize};

use crate::actions::{Goal, info};

/// Goal: every node runs this version, and nothing that rke2flow set aside is left so.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClusterVersion {
    /// `v1.33.4+rke2r1`
    pub version: Param<String>,
}

impl Goal for ClusterVersion {
    const INFO: ActionInfo = ActionInfo {
        changes: false,
        ..info(
            "ClusterVersion",
            "every node runs this version, and nothing that rke2flow set aside is left so",
            Place::Anywhere,
            2,
        )
    };
}
