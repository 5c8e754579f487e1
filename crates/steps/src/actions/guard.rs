//! Guard: every precondition of the run holds; all that do not are told at once.

mod datastore;
mod evidence;

use std::fmt;

use async_trait::async_trait;
use rke2flow_engine::action::{ActionInfo, Context, Failure, FailureClass, Place, Probe};
use rke2flow_engine::value::Facts;
use rke2flow_engine::value::{FactSpec, Param, ValueType};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

use self::evidence::Evidence;
use crate::actions::hop::Hop;
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
    /// Releases of later rounds of the same run: a host that runs one of them has this one behind it.
    #[serde(default)]
    pub later: Param<Vec<String>>,
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
        let hop = Hop::of(&self.version, &self.later)?;
        let mut findings = Vec::new();
        for check in &self.checks {
            let finding = evidence.judge(world, *check, &hop);
            findings.push(if waived.contains(check) { finding.waived() } else { finding });
        }
        let failed = findings.iter().filter(|finding| finding.failed()).count();
        if failed > 0 {
            let what = format!("{failed} of {} checks refuse the run; nothing was changed", findings.len());
            let next = format!("mend what fails, or pass over step {} with --waive {0}=REASON", context.step);
            return Err(Failure::of(FailureClass::Refused, what).observed(Finding::text(&findings)).next(next));
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
    /// Every server keeps its cluster in embedded etcd.
    EmbeddedEtcd,
    /// No unit says `--server` itself and leads elsewhere than to the server that is restored.
    ServerFlag,
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
            Check::EmbeddedEtcd,
            Check::ServerFlag,
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
            Check::EmbeddedEtcd => "embedded_etcd",
            Check::ServerFlag => "server_flag",
            Check::EtcdBackupRequiresS3Config => "etcd_backup_requires_s3_config",
            Check::VeleroRequiresS3Config => "velero_requires_s3_config",
            Check::VeleroRequiresCsi => "velero_requires_csi",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actions::testing::{NEW, Scene};

    fn guard(version: &str, waived: &[&str]) -> Guard {
        let waived = waived.iter().map(|name| (*name).to_owned()).collect();
        Guard {
            checks: Check::all(),
            version: Param::Known(version.to_owned()),
            later: Param::default(),
            waived: Param::Known(waived),
            lost: Param::default(),
        }
    }

    fn ill() -> Scene {
        let scene = Scene::with("velero: (csi: false),");
        scene.change(|state| state.hosts.get_mut("agent-1").unwrap().silent = true);
        scene.survey("server-1", |survey| (survey.members[1].learner, survey.token_sha256) = (true, "b".to_owned()));
        scene.survey("server-2", |survey| survey.disk_free = 150 << 20);
        scene
    }

    #[tokio::test(start_paused = true)]
    async fn everything_that_passes_is_told() {
        let facts = Scene::new().on("operator", guard(NEW, &[])).satisfied().await;
        let checks: Vec<&str> = facts["checks"].as_array().unwrap().iter().filter_map(|check| check.as_str()).collect();
        insta::assert_snapshot!(checks.join("\n"));
    }

    #[tokio::test(start_paused = true)]
    async fn everything_that_refuses_is_told_at_once() {
        let failure = ill().on("operator", guard("v1.35.0+rke2r1", &[])).failure().await;
        assert_eq!(failure.class, FailureClass::Refused);
        insta::assert_snapshot!(format!("{}\n\n{}\n\n{}", failure.what, failure.observed, failure.next));
    }

    #[tokio::test(start_paused = true)]
    async fn a_waived_check_is_passed_over_and_still_told() {
        let all: Vec<String> = Check::all().iter().map(ToString::to_string).collect();
        let all: Vec<&str> = all.iter().map(String::as_str).collect();
        let facts = ill().on("operator", guard(NEW, &all)).satisfied().await;
        assert!(facts["checks"].to_string().contains("WAIVED disk_free"));
        assert!(ill().on("operator", guard(NEW, &["disk_fre"])).failure().await.what.contains("disk_free"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_downgrade_is_refused_and_the_same_version_is_not() {
        let refused = Scene::new().on("operator", guard("v1.33.3+rke2r1", &[])).failure().await;
        assert!(refused.observed.contains("would be a downgrade"), "{refused}");
        Scene::new().on("operator", guard("v1.33.4+rke2r1", &[])).satisfied().await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_host_that_is_a_hop_further_is_no_downgrade() {
        let scene = Scene::new();
        scene.edit("/api/v1/nodes/server-0", |node| node["status"]["nodeInfo"]["kubeletVersion"] = NEW.into());
        let goal = |later: &str| Guard { later: Param::Known(vec![later.to_owned()]), ..guard("v1.33.5+rke2r1", &[]) };
        scene.on("operator", goal(NEW)).satisfied().await;
        let refused = scene.on("operator", goal("v1.34.9+rke2r1")).failure().await;
        assert!(refused.observed.contains("v1.33.5+rke2r1 would be a downgrade"), "{refused}");
    }

    #[test]
    fn names_of_checks_are_the_ones_that_are_written() {
        for check in Check::all() {
            assert_eq!(serde_json::to_value(check).unwrap(), check.to_string());
        }
    }
}
