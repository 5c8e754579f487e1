//! Guard: every precondition of the run holds; all that do not are told at once.

use rke2flow_engine::action::{ActionInfo, Place};
use rke2flow_engine::value::Param;
use serde::{Deserialize, Serialize};

use crate::actions::{Goal, info};

/// Goal: every precondition of the run holds; all that do not are told at once.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Guard {
    /// Which checks; all of them when left out.
    #[serde(default = "Check::all")]
    pub checks: Vec<Check>,
    /// The version that the cluster is about to run; empty: no upgrade is meant.
    #[serde(default)]
    pub version: Param<String>,
    /// Names of checks whose refusal is passed over.
    #[serde(default)]
    pub waived: Param<Vec<String>>,
}

impl Goal for Guard {
    const INFO: ActionInfo = ActionInfo {
        changes: false,
        ..info("Guard", "every precondition of the run holds; all that do not are told at once", Place::Operator, 10)
    };
}

/// A precondition. Its name in a runbook, in `--waive` and in what people read is the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Check {
    /// Every host of the cluster file answers.
    HostsReachable,
    /// Every server is a voting and healthy member of etcd, and there is no other member.
    EtcdQuorum,
    /// No downgrade, one minor release at a time, nodes not further apart than Kubernetes supports.
    VersionSkew,
    /// Each server has room for twice its etcd.
    DiskFree,
    /// Every server has the same token.
    ServerToken,
    /// The seed's `etcd_backup_requires_s3_config`.
    EtcdBackupRequiresS3Config,
    /// The seed's `velero_requires_s3_config`.
    VeleroRequiresS3Config,
    /// The seed's `velero_requires_csi`.
    VeleroRequiresCsi,
}

impl Check {
    /// Every check, in the order in which they are told.
    pub fn all() -> Vec<Check> {
        vec![
            Check::HostsReachable,
            Check::EtcdQuorum,
            Check::VersionSkew,
            Check::DiskFree,
            Check::ServerToken,
            Check::EtcdBackupRequiresS3Config,
            Check::VeleroRequiresS3Config,
            Check::VeleroRequiresCsi,
        ]
    }
}
