//! VeleroBackup: a Velero backup of this run is complete, without errors.

use async_trait::async_trait;
use rke2flow_engine::action::{ActionInfo, Applied, Context, Failure, FailureClass, Place, Probe};
use rke2flow_engine::duration::Span;
use rke2flow_engine::id::RunId;
use rke2flow_engine::value::Facts;
use rke2flow_engine::value::{FactSpec, Param, ValueType};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::actions::pause_schedules::{collection, list};
use crate::actions::{Goal, World, info, known, noted};
use crate::kinds::{LABEL_RUN, LABEL_STEP, VeleroEnd, VeleroJob};
use crate::objects::Created;

/// Goal: a Velero backup of this run is complete, without errors.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VeleroBackup {
    /// How long Velero keeps it; 30 days when left out.
    #[serde(default = "default_ttl")]
    pub ttl: Param<Span>,
    /// Only these; all when empty.
    #[serde(default)]
    pub namespaces: Param<Vec<String>>,
}

#[async_trait]
impl Goal for VeleroBackup {
    const INFO: ActionInfo = ActionInfo {
        facts: &[FactSpec { name: "name", kind: ValueType::Text }],
        ..info("VeleroBackup", "a Velero backup of this run is complete, without errors", Place::Operator, 300)
    };

    async fn probe(&self, world: &World, context: &Context) -> Result<Probe, Failure> {
        let mut backups = of_point(world, &context.round_id()).await?;
        backups.sort_by_key(|backup| (backup.metadata.creation_timestamp, backup.metadata.name.clone()));
        if let Some(done) = backups.iter().find(|backup| backup.end() == VeleroEnd::Completed) {
            let name = done.metadata.name.clone();
            return match failed_volumes(world, &name).await? {
                failed if failed.is_empty() => Ok(Probe::Satisfied(Facts::from([("name".to_owned(), name.into())]))),
                failed => Err(Failure::permanent(format!("backup {name} lacks volumes")).observed(failed.join("; "))),
            };
        }
        let own = name(context);
        for backup in &backups {
            let meta = &backup.metadata;
            match backup.end() {
                VeleroEnd::Running(phase) => return Ok(Probe::InProgress(format!("{} is {phase}", meta.name))),
                VeleroEnd::Failed(why) if meta.name == own => {
                    let next =
                        format!("velero backup logs {own}; then rke2flow retry {} {}", context.run, context.step);
                    let failure = Failure::of(class_of(&why), format!("backup {own} failed"));
                    return Err(failure.observed(why).next(next));
                }
                _ => {}
            }
        }
        Ok(Probe::pending(format!("there is no backup {own}")))
    }

    async fn apply(&self, world: &World, context: &Context) -> Result<Applied, Failure> {
        let (Some(collection), Some(velero)) = (collection(world, "backups"), &world.cluster().velero) else {
            return Err(Failure::permanent("the cluster file has no `velero`"));
        };
        let name = name(context);
        let body = json!({
            "apiVersion": "velero.io/v1", "kind": "Backup",
            "metadata": {
                "name": name, "namespace": velero.namespace,
                "labels": { LABEL_RUN: context.run.as_str(), LABEL_STEP: context.step.as_str() },
            },
            "spec": self.spec(&velero.namespace, &velero.location)?,
        });
        match world.changes(context).create(&collection, body).await? {
            Created::New(_) => Ok(noted(format!("created backup {name}"))),
            Created::Exists => adopt(world, context, &format!("{collection}/{name}")).await,
        }
    }
}

impl VeleroBackup {
    fn spec(&self, own: &str, location: &str) -> Result<Value, Failure> {
        let namespaces = known(&self.namespaces)?;
        let (included, excluded) = match namespaces.is_empty() {
            // Velero's own objects and the system's are not data: the etcd snapshot has them.
            true => (vec!["*".to_owned()], vec!["kube-system".to_owned(), own.to_owned()]),
            false => (namespaces.clone(), Vec::new()),
        };
        let hours = known(&self.ttl)?.get().as_secs().div_ceil(3600);
        Ok(json!({
            "includedNamespaces": included, "excludedNamespaces": excluded,
            "storageLocation": location, "ttl": format!("{hours}h0m0s"),
            "snapshotVolumes": false, "defaultVolumesToFsBackup": true,
        }))
    }
}

/// The name of an attempt's backup: one that has failed is burnt while the bucket has it.
fn name(context: &Context) -> String {
    match context.attempt {
        0 | 1 => first_name(&context.round_id()),
        attempt => format!("{}-a{attempt}", first_name(&context.round_id())),
    }
}

fn first_name(point: &RunId) -> String {
    format!("rf-{point}-pre")
}

/// The backups of a recovery point, one for each attempt. A run with several rounds has more than one point.
pub(crate) async fn of_point(world: &World, point: &RunId) -> Result<Vec<VeleroJob>, Failure> {
    let first = first_name(point);
    let is_own = |name: &str| name.strip_prefix(&first).is_some_and(|rest| rest.is_empty() || rest.starts_with("-a"));
    let backups: Vec<VeleroJob> = list(world, "backups").await?;
    let own = backups.into_iter().filter(|backup| backup.metadata.run().is_some() && is_own(&backup.metadata.name));
    Ok(own.collect())
}

/// A start of Velero's server fails whatever is in progress (V:pkg/cmd/server/server.go): that passes, and the next
/// attempt has a new name. Nothing else does.
pub(crate) fn class_of(why: &str) -> FailureClass {
    match why.contains("during the server starting") {
        true => FailureClass::Transient,
        false => FailureClass::Permanent,
    }
}

/// An object that was there first is ours when it has our label.
pub(crate) async fn adopt(world: &World, context: &Context, path: &str) -> Result<Applied, Failure> {
    match world.objects().get::<VeleroJob>(path).await? {
        Some(found) if found.metadata.run() == Some(context.run.as_str()) => Ok(noted("it is there already")),
        Some(_) => Err(Failure::permanent(format!("{path} exists and does not belong to this run"))),
        None => Err(Failure::transient(format!("{path} existed a moment ago and is gone"))),
    }
}

/// `Completed` alone does not prove that every volume is in it (velero#6212).
async fn failed_volumes(world: &World, backup: &str) -> Result<Vec<String>, Failure> {
    let volumes: Vec<VeleroJob> = list(world, "podvolumebackups").await?;
    let own = volumes
        .iter()
        .filter(|volume| volume.metadata.labels.get("velero.io/backup-name").is_some_and(|name| name == backup));
    let lacking = own.filter(|volume| volume.status.phase != "Completed");
    Ok(lacking.map(|volume| format!("{} is {}", volume.metadata.name, volume.status.phase)).collect())
}

fn default_ttl() -> Param<Span> {
    Param::Known(Span::from_secs(30 * 24 * 3600))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actions::testing::Scene;

    const BACKUP: &str = "/apis/velero.io/v1/namespaces/velero/backups/rf-261122-0300-k7q2-pre";

    fn backup() -> VeleroBackup {
        VeleroBackup { ttl: default_ttl(), namespaces: Param::default() }
    }

    #[tokio::test(start_paused = true)]
    async fn a_backup_is_made_once() {
        let scene = Scene::new();
        let facts = scene.on("operator", backup()).idempotent().await;
        assert_eq!(facts["name"], "rf-261122-0300-k7q2-pre");
        assert_eq!(scene.object(BACKUP).unwrap()["spec"]["ttl"], "720h0m0s");
    }

    #[tokio::test(start_paused = true)]
    async fn every_end_but_completed_is_a_failure_and_unknown_phases_are_waited_for() {
        let scene = Scene::new();
        scene.on("operator", backup()).apply().await;
        for phase in ["PartiallyFailed", "Failed", "FailedValidation"] {
            scene.edit(BACKUP, |backup| backup["status"] = json!({ "phase": phase, "errors": 2 }));
            let failure = scene.on("operator", backup()).failure().await;
            assert_eq!(failure.class, rke2flow_engine::action::FailureClass::Permanent);
            assert!(failure.observed.contains(phase), "{failure}");
        }
        for phase in ["", "New", "Queued", "Finalizing", "SomethingNew"] {
            scene.edit(BACKUP, |backup| backup["status"] = json!({ "phase": phase }));
            assert!(matches!(scene.on("operator", backup()).probe().await, Probe::InProgress(_)), "{phase}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_completed_backup_with_a_volume_missing_is_a_failure() {
        let scene = Scene::new();
        scene.on("operator", backup()).apply().await;
        let volume = json!({
            "metadata": { "labels": { "velero.io/backup-name": "rf-261122-0300-k7q2-pre" } },
            "status": { "phase": "Failed" },
        });
        scene.put("/apis/velero.io/v1/namespaces/velero/podvolumebackups/v-1", volume);
        assert!(scene.on("operator", backup()).failure().await.observed.contains("v-1 is Failed"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_failed_backup_is_tried_again_under_a_new_name() {
        let scene = Scene::new();
        scene.on("operator", backup()).apply().await;
        scene.edit(BACKUP, |backup| backup["status"] = json!({ "phase": "Failed" }));
        let mut bench = scene.on("operator", backup());
        bench.context.attempt = 2;
        bench.pending().await;
        bench.apply().await;
        assert_eq!(bench.satisfied().await["name"], "rf-261122-0300-k7q2-pre-a2");
    }

    #[tokio::test(start_paused = true)]
    async fn a_backup_of_somebody_else_is_not_adopted() {
        let scene = Scene::new();
        scene.put(BACKUP, json!({ "status": { "phase": "Completed" } }));
        assert!(scene.on("operator", backup()).failure_of_apply().await.what.contains("does not belong to this run"));
    }
}
