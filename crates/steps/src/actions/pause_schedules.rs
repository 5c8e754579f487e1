//! PauseSchedules: no Velero schedule starts a backup, and nothing of Velero is in flight.

use async_trait::async_trait;
use rke2flow_engine::action::{ActionInfo, Applied, Context, Failure, Place, Probe};
use rke2flow_engine::value::{FactSpec, Facts, Param, ValueType};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::actions::{Goal, World, info, known, noted};
use crate::kinds::{Schedule, VeleroEnd, VeleroJob};

/// Goal: no Velero schedule starts a backup, and nothing of Velero is in flight.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PauseSchedules {
    /// Waits until what is under way has ended. Not after a restore, when nothing of it is alive and its state is old.
    #[serde(default = "wait")]
    pub wait_for_running: Param<bool>,
}

#[async_trait]
impl Goal for PauseSchedules {
    const INFO: ActionInfo = ActionInfo {
        facts: &[FactSpec { name: "schedules", kind: ValueType::List }],
        ..info(
            "PauseSchedules",
            "no Velero schedule starts a backup, and nothing of Velero is in flight",
            Place::Operator,
            5,
        )
    };

    async fn probe(&self, world: &World, _context: &Context) -> Result<Probe, Failure> {
        let schedules = schedules(world).await?;
        let open: Vec<&str> = schedules.iter().filter(|schedule| !schedule.spec.paused).map(name).collect();
        if !open.is_empty() {
            return Ok(Probe::pending(format!("{} may start a backup", open.join(", "))));
        }
        if *known(&self.wait_for_running)? {
            let running = running(world).await?;
            if !running.is_empty() {
                return Ok(Probe::InProgress(running.join("; ")));
            }
        }
        let names: Value = schedules.iter().map(name).collect();
        Ok(Probe::Satisfied(Facts::from([("schedules".to_owned(), names)])))
    }

    async fn apply(&self, world: &World, context: &Context) -> Result<Applied, Failure> {
        let open = schedules(world).await?.into_iter().filter(|schedule| !schedule.spec.paused).collect::<Vec<_>>();
        for schedule in &open {
            let change = json!({
                "metadata": { "annotations": { WAS_PAUSED: "false" } },
                "spec": { "paused": true },
            });
            world.changes(context).patch(&path(world, schedule), &schedule.metadata, change).await?;
        }
        Ok(noted(format!("paused {} schedules", open.len())))
    }
}

/// The annotation of a Schedule that rke2flow paused. One that was paused before never gets it.
pub(crate) const WAS_PAUSED: &str = "rke2flow.io/was-paused";

/// The path of one of Velero's collections; `None` when the cluster file has no Velero.
pub(crate) fn collection(world: &World, kind: &str) -> Option<String> {
    let namespace = &world.cluster().velero.as_ref()?.namespace;
    Some(format!("/apis/velero.io/v1/namespaces/{namespace}/{kind}"))
}

/// Every Schedule of Velero's namespace.
pub(crate) async fn schedules(world: &World) -> Result<Vec<Schedule>, Failure> {
    list(world, "schedules").await
}

/// Every object of one of Velero's kinds; none without Velero.
pub(crate) async fn list<T: serde::de::DeserializeOwned>(world: &World, kind: &str) -> Result<Vec<T>, Failure> {
    match collection(world, kind) {
        Some(path) => Ok(world.objects().list(&path).await?.unwrap_or_default()),
        None => Ok(Vec::new()),
    }
}

/// Path of a Schedule.
pub(crate) fn path(world: &World, schedule: &Schedule) -> String {
    format!("{}/{}", collection(world, "schedules").unwrap_or_default(), schedule.metadata.name)
}

/// Backups and Restores that have not ended: an etcd snapshot would hold them half done.
async fn running(world: &World) -> Result<Vec<String>, Failure> {
    let mut running = Vec::new();
    for (kind, word) in [("backups", "Backup"), ("restores", "Restore")] {
        for job in list::<VeleroJob>(world, kind).await? {
            if let VeleroEnd::Running(phase) = job.end() {
                running.push(format!("{word} {} is {phase}", job.metadata.name));
            }
        }
    }
    Ok(running)
}

fn name(schedule: &Schedule) -> &str {
    &schedule.metadata.name
}

fn wait() -> Param<bool> {
    Param::Known(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actions::testing::Scene;

    const SCHEDULE: &str = "/apis/velero.io/v1/namespaces/velero/schedules/nightly";

    fn pause() -> PauseSchedules {
        PauseSchedules { wait_for_running: wait() }
    }

    #[tokio::test(start_paused = true)]
    async fn pausing_is_idempotent() {
        let scene = Scene::new();
        scene.put(SCHEDULE, json!({ "spec": { "schedule": "0 1 * * *" } }));
        scene.on("operator", pause()).idempotent().await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_schedule_that_was_paused_before_is_not_marked_as_ours() {
        let scene = Scene::new();
        scene.put(SCHEDULE, json!({ "spec": { "paused": true } }));
        let bench = scene.on("operator", pause());
        bench.satisfied().await;
        bench.apply().await;
        assert!(scene.object(SCHEDULE).unwrap()["metadata"]["annotations"].is_null());
    }

    #[tokio::test(start_paused = true)]
    async fn a_backup_under_way_is_waited_for() {
        let scene = Scene::new();
        let backup = json!({ "status": { "phase": "SomethingNew" } });
        scene.put("/apis/velero.io/v1/namespaces/velero/backups/nightly-1", backup);
        assert!(matches!(scene.on("operator", pause()).probe().await, Probe::InProgress(_)));
    }
}
