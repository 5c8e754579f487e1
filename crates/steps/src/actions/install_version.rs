//! InstallVersion: the binary on the host's disk is of this version.

use rke2flow_engine::action::{ActionInfo, Place};
use rke2flow_engine::value::Param;
use serde::{Deserialize, Serialize};

use crate::actions::{Goal, info};

/// Goal: the binary on the host's disk is of this version.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InstallVersion {
    /// `v1.33.4+rke2r1`
    pub version: Param<String>,
    /// Keeps the replaced binary on the host.
    #[serde(default)]
    pub keep_replaced: Param<bool>,
}

impl Goal for InstallVersion {
    const INFO: ActionInfo =
        info("InstallVersion", "the binary on the host's disk is of this version", Place::Host, 10);
}
