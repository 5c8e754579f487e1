//! Reversible: a rollback is possible now, and fits into its budget.

mod forecast;

use async_trait::async_trait;
use rke2flow_engine::action::{ActionInfo, Context, Failure, FailureClass, Place, Probe};
use rke2flow_engine::cluster::{Host, Role};
use rke2flow_engine::duration::Span;
use rke2flow_engine::plan::expected;
use rke2flow_engine::value::{FactSpec, Facts, Param, ValueType};
use serde::{Deserialize, Serialize};

use crate::actions::record_point::missing;
use crate::actions::{Finding, Goal, World, info, known};
use crate::answer::Survey;
use crate::point::RecoveryPoint;

/// Goal: a rollback is possible now, and fits into its budget.
///
/// An upgrade that cannot be taken back in time must not start: everything is looked at where a rollback would look.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reversible {
    /// The id of the recovery point that is meant; empty: this run's, or this round's.
    #[serde(default)]
    pub point: Param<String>,
    /// How long the outage of a rollback may be; 0: what the runbook `rollback` says.
    #[serde(default)]
    pub budget: Param<Span>,
}

#[async_trait]
impl Goal for Reversible {
    const INFO: ActionInfo = ActionInfo {
        facts: &[
            FactSpec { name: "checks", kind: ValueType::List },
            FactSpec { name: "forecast", kind: ValueType::Duration },
        ],
        changes: false,
        ..info("Reversible", "a rollback is possible now, and fits into its budget", Place::Operator, 5)
    };

    async fn probe(&self, world: &World, context: &Context) -> Result<Probe, Failure> {
        let own = context.round_id();
        let wanted = match known(&self.point)?.as_str() {
            "" => own.as_str(),
            other => other,
        };
        let (mut findings, point) = points(world, wanted).await;
        if point.is_none() && context.claim.is_none() {
            return Ok(Probe::pending(format!("there is no recovery point of {wanted} yet")));
        }
        if let Some(point) = &point {
            findings.push(snapshots(world, point).await);
            findings.push(releases(world, &point.version).await);
            findings.push(room(world, point).await);
        }
        let (in_time, forecast) = self.in_time(world)?;
        findings.push(in_time);
        let failed = findings.iter().filter(|finding| finding.failed()).count();
        if failed > 0 {
            let what =
                format!("{failed} of {} things that a rollback needs are not so; no node was touched", findings.len());
            let next = format!("mend what fails, or pass over step {} with --waive {0}=REASON", context.step);
            return Err(Failure::of(FailureClass::Refused, what).observed(Finding::text(&findings)).next(next));
        }
        Ok(Probe::Satisfied(Facts::from([
            ("checks".to_owned(), Finding::fact(&findings)),
            ("forecast".to_owned(), forecast.to_string().into()),
        ])))
    }
}

impl Reversible {
    /// Whether the outage of a rollback is expected to fit into its budget.
    fn in_time(&self, world: &World) -> Result<(Finding, Span), Failure> {
        let rollback = forecast::of_a_rollback(world)?;
        let budget = Some(*known(&self.budget)?).filter(|budget| *budget != Span::default()).or(rollback.budget);
        let check = "rollback in time";
        let told = format!("forecast {}, {}", expected(rollback.outage, rollback.late), rollback.by);
        // What is usual must fit; with a history, what is rare must fit too.
        let slow = rollback.late.unwrap_or(rollback.outage).max(rollback.outage);
        let finding = match budget {
            Some(budget) if slow > budget => Finding::fail(check, format!("{told}; its budget is {budget}")),
            Some(budget) => Finding::pass(check, format!("{told}; of {budget}")),
            None => Finding::pass(check, told),
        };
        Ok((finding, rollback.outage))
    }
}

/// Every server keeps the point: whichever is left can be the one that is restored.
async fn points(world: &World, wanted: &str) -> (Vec<Finding>, Option<RecoveryPoint>) {
    let (mut lacks, mut found) = (Vec::new(), None);
    for server in world.servers() {
        match world.hosts().points(&server.name).await {
            Ok(points) => match points.into_iter().rev().find(|point| point.id == wanted) {
                Some(point) => found = found.or(Some(point)),
                None => lacks.push(format!("{} keeps no recovery point of {wanted}", server.name)),
            },
            Err(failure) => lacks.push(failure.to_string()),
        }
    }
    (vec![Finding::unless_missing("recovery point", format!("{wanted}, on every server"), lacks)], found)
}

/// Its snapshot is on every server and in the bucket, and is the one that was recorded.
async fn snapshots(world: &World, point: &RecoveryPoint) -> Finding {
    let lacks = match missing(world, point).await {
        Ok(why) => why.into_iter().collect(),
        Err(failure) => vec![failure.to_string()],
    };
    Finding::unless_missing("snapshots", format!("{} files, checksums fit", point.snapshots.len()), lacks)
}

/// The release that a rollback installs is on every host: it must not wait for a download.
async fn releases(world: &World, version: &str) -> Finding {
    let hosts: Vec<&Host> = alive(world).collect();
    let asked = hosts.iter().map(|host| async move { (host, world.hosts().release(&host.name, version).await) });
    let told = futures::future::join_all(asked).await;
    let lack = |(host, staged): (&&Host, Result<crate::answer::Staged, Failure>)| match staged {
        Ok(staged) if staged.complete => None,
        Ok(staged) => Some(format!("{}: {version} is not staged: {}", host.name, staged.missing.join(", "))),
        Err(failure) => Some(failure.to_string()),
    };
    let lacks = told.into_iter().filter_map(lack).collect();
    Finding::unless_missing("old release", format!("{version} on {} hosts, checksums fit", hosts.len()), lacks)
}

/// What a restored etcd needs besides its data: two segments of its log, 64 MB each (etcd server/storage/wal).
const MARGIN_BYTES: u64 = 128 << 20;
const MIB: u64 = 1 << 20;

/// Nothing is deleted: the old data stay beside the restored ones, and beside the snapshot as it is staged.
async fn room(world: &World, point: &RecoveryPoint) -> Finding {
    let snapshot = point.snapshots.iter().map(|snapshot| snapshot.size).max().unwrap_or_default();
    let mut lacks = Vec::new();
    for (host, survey) in world.surveys(alive(world).filter(|host| host.role == Role::Server)).await {
        let survey = match survey {
            Ok(survey) => survey,
            Err(failure) => {
                lacks.push(failure.to_string());
                continue;
            }
        };
        let needed = bytes_needed(&survey, snapshot);
        if survey.disk_free < needed {
            let (free, needed) = (survey.disk_free / MIB, needed / MIB);
            lacks.push(format!("{} has {free} MiB free, a restore needs {needed} MiB", host.name));
        }
    }
    Finding::unless_missing("room for what is moved aside", "on every server", lacks)
}

fn bytes_needed(survey: &Survey, snapshot: u64) -> u64 {
    survey.etcd_bytes.saturating_add(snapshot.saturating_mul(2)).saturating_add(MARGIN_BYTES)
}

fn alive(world: &World) -> impl Iterator<Item = &Host> {
    world.cluster().hosts.iter().filter(|host| !world.access().lost.contains(&host.name))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::actions::testing::{OLD, Scene};

    fn reversible() -> Reversible {
        Reversible { point: Param::Known("261101-0000-aaaa".to_owned()), budget: Param::default() }
    }

    /// A cluster whose servers keep a point with its snapshots, and whose hosts have the old release.
    fn prepared() -> Scene {
        let scene = Scene::new();
        let path = |host: &str| format!("/var/lib/rancher/rke2/server/db/snapshots/pre-{host}");
        let servers = ["server-0", "server-1", "server-2"];
        let snapshots: Vec<_> = servers
            .iter()
            .map(|host| json!({ "host": host, "path": path(host), "size": 100, "sha256": "snapshot", "s3_key": "prod/pre" }))
            .collect();
        let point = json!({
            "schema": "rke2flow.dev/recovery-point/v1", "id": "261101-0000-aaaa", "cluster": "test", "version": OLD,
            "taken_at": "2026-11-01T00:00:00Z", "snapshots": snapshots, "token_sha256": "", "ca_sha256": "",
            "sentinel_before": "", "sentinel_after": "",
        });
        scene.change(|state| {
            state.bucket.insert("prod/pre".to_owned(), vec![0; 100]);
            for (name, host) in &mut state.hosts {
                host.staged.push(OLD.to_owned());
                if servers.contains(&name.as_str()) {
                    host.points.push(point.to_string());
                    let file = json!({ "path": path(name), "size": 100, "modified": 0, "sha256": "snapshot", "trailer": true });
                    host.files.push(serde_json::from_value(file).unwrap());
                }
            }
        });
        scene
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_rollback_needs_is_told_check_by_check_with_how_long_it_would_take() {
        let facts = prepared().on("operator", reversible()).satisfied().await;
        let checks: Vec<&str> = facts["checks"].as_array().unwrap().iter().filter_map(|check| check.as_str()).collect();
        assert_eq!(checks.len(), 5, "{checks:?}");
        assert!(
            checks[4].starts_with("PASS rollback in time: forecast ") && checks[4].ends_with("; of 15m"),
            "{checks:?}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn everything_that_stands_in_the_way_of_a_rollback_is_told_at_once_and_can_be_waived() {
        let scene = prepared();
        scene.change(|state| {
            state.hosts.get_mut("server-1").unwrap().points.clear();
            state.hosts.get_mut("server-2").unwrap().files[0].sha256 = "another".to_owned();
            state.hosts.get_mut("agent-1").unwrap().staged.clear();
        });
        scene.survey("server-0", |survey| survey.disk_free = 5 << 20);
        let budget = Param::Known(Span::from_secs(60));
        let failure = scene.on("operator", Reversible { budget, ..reversible() }).failure().await;
        assert_eq!(failure.class, FailureClass::Refused);
        assert_eq!(failure.observed.lines().filter(|line| line.starts_with("FAIL")).count(), 5, "{failure:?}");
        for part in
            ["server-1 keeps no recovery point", "on server-2 is not what was recorded", "agent-1", "5 MiB free"]
        {
            assert!(failure.observed.contains(part), "{part}: {failure:?}");
        }
        assert!(failure.observed.contains("its budget is 1m") && failure.next.contains("--waive"), "{failure:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn before_there_is_a_point_a_dry_run_says_so_and_a_run_is_refused() {
        let scene = Scene::new();
        let mut bench = scene.on("operator", reversible());
        assert!(bench.failure().await.observed.contains("keeps no recovery point"));
        bench.context.claim = None;
        assert_eq!(bench.pending().await, "there is no recovery point of 261101-0000-aaaa yet");
    }
}
