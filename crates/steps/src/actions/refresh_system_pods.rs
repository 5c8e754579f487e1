//! RefreshSystemPods: no pod of kube-system is older than the restore.

use rke2flow_engine::action::{ActionInfo, Place};
use rke2flow_engine::value::Param;
use serde::{Deserialize, Serialize};

use crate::actions::{Goal, info};

/// Goal: no pod of kube-system is older than the restore.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RefreshSystemPods {
    /// The moment of the restored server's start, RFC 3339.
    pub older_than: Param<String>,
}

impl Goal for RefreshSystemPods {
    const INFO: ActionInfo =
        info("RefreshSystemPods", "no pod of kube-system is older than the restore", Place::Operator, 30);
}
