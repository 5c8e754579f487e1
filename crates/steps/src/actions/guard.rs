//! Guard: every precondition of the run holds; all that do not are told at once.

mod evidence;

use std::fmt;

use async_trait::async_trait;
use rke2flow_engine::action::{ActionInfo, Context, Failure, Place, Probe};
use rke2flow_engine::value::Facts;
use rke2flow_engine::value::{FactSpec, Param, ValueType};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

use self::evidence::Evidence;
use crate::actions::{Finding, Goal, World, info, known};

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
    /// Hosts that are lost: nothing is expected of them.
    #[serde(default)]
    pub lost: Param<Vec<String>>,
}

#[async_trait]
impl Goal for Guard {
    const INFO: ActionInfo = ActionInfo {
        facts: &[FactSpec { name: "checks", kind: ValueType::List }],
        changes: false,
        ..info("Guard", "every precondition of the run holds; all that do not are told at once", Place::Operator, 10)
    };

    async fn probe(&self, world: &World, context: &Context) -> Result<Probe, Failure> {
        let waived = self.waived()?;
        let evidence = Evidence::gather(world, known(&self.lost)?).await;
        let mut findings = Vec::new();
        for check in &self.checks {
            let finding = evidence.judge(world, *check, known(&self.version)?);
            findings.push(if waived.contains(check) { finding.waived() } else { finding });
        }
        if findings.iter().any(Finding::failed) {
            let expected = format!("all {} checks of step {} pass", findings.len(), context.step);
            return Ok(Probe::Refused { expected, found: Finding::text(&findings) });
        }
        Ok(Probe::Satisfied(Facts::from([("checks".to_owned(), Finding::fact(&findings))])))
    }
}

impl Guard {
    /// A misspelt name would waive nothing, or be thought to: it is refused.
    fn waived(&self) -> Result<BTreeSet<Check>, Failure> {
        let read = |name: &String| {
            serde_json::from_value(name.as_str().into()).map_err(|_| {
                let known: Vec<String> = Check::all().iter().map(ToString::to_string).collect();
                Failure::permanent(format!("there is no check `{name}` to waive; there are {}", known.join(", ")))
            })
        };
        known(&self.waived)?.iter().map(read).collect()
    }
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

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Check::HostsReachable => "hosts_reachable",
            Check::EtcdQuorum => "etcd_quorum",
            Check::VersionSkew => "version_skew",
            Check::DiskFree => "disk_free",
            Check::ServerToken => "server_token",
            Check::EtcdBackupRequiresS3Config => "etcd_backup_requires_s3_config",
            Check::VeleroRequiresS3Config => "velero_requires_s3_config",
            Check::VeleroRequiresCsi => "velero_requires_csi",
        })
    }
}
