//! RestoreVolumes: Velero has restored these namespaces from the backup.

use async_trait::async_trait;
use rke2flow_engine::action::{ActionInfo, Applied, Context, Failure, Place, Probe};
use rke2flow_engine::value::{FactSpec, Facts, Param, ValueType};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::actions::pause_schedules::{collection, list};
use crate::actions::velero_backup::{adopt, class_of};
use crate::actions::{Goal, World, info, known, noted};
use crate::kinds::{LABEL_RUN, LABEL_STEP, VeleroEnd, VeleroJob};
use crate::objects::Created;

/// Goal: Velero has restored these namespaces from the backup.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RestoreVolumes {
    /// The Velero backup.
    pub backup: Param<String>,
    /// The namespaces; at least one.
    pub namespaces: Param<Vec<String>>,
}

#[async_trait]
impl Goal for RestoreVolumes {
    const INFO: ActionInfo = ActionInfo {
        facts: &[FactSpec { name: "restores", kind: ValueType::List }],
        ..info("RestoreVolumes", "Velero has restored these namespaces from the backup", Place::Operator, 180)
    };

    async fn probe(&self, world: &World, context: &Context) -> Result<Probe, Failure> {
        let restores: Vec<VeleroJob> = list(world, "restores").await?;
        let own = name(context);
        let of_run = |restore: &&VeleroJob| restore.metadata.run() == Some(context.run.as_str());
        for restore in restores.iter().filter(of_run) {
            let name = &restore.metadata.name;
            match restore.end() {
                VeleroEnd::Completed => return self.judge(world, name).await,
                VeleroEnd::Running(phase) => return Ok(Probe::InProgress(format!("{name} is {phase}"))),
                VeleroEnd::Failed(why) if *name == own => {
                    let next = format!("velero restore describe {name} --details");
                    let failure = Failure::of(class_of(&why), format!("restore {name} failed"));
                    return Err(failure.observed(why).next(next));
                }
                VeleroEnd::Failed(_) => {}
            }
        }
        Ok(Probe::pending(format!("there is no restore {own}")))
    }

    async fn apply(&self, world: &World, context: &Context) -> Result<Applied, Failure> {
        let (namespaces, backup) = (known(&self.namespaces)?, known(&self.backup)?);
        if namespaces.is_empty() || backup.is_empty() {
            return Err(Failure::permanent("a restore needs a backup and at least one namespace"));
        }
        let (Some(collection), Some(velero)) = (collection(world, "restores"), &world.cluster().velero) else {
            return Err(Failure::permanent("the cluster file has no `velero`"));
        };
        let name = name(context);
        let body = json!({
            "apiVersion": "velero.io/v1", "kind": "Restore",
            "metadata": {
                "name": name, "namespace": velero.namespace,
                "labels": { LABEL_RUN: context.run.as_str(), LABEL_STEP: context.step.as_str() },
            },
            "spec": { "backupName": backup, "includedNamespaces": namespaces, "existingResourcePolicy": "none" },
        });
        match world.changes(context).create(&collection, body).await? {
            Created::New(_) => Ok(noted(format!("created restore {name}; volumes that exist are left as they are"))),
            Created::Exists => adopt(world, context, &format!("{collection}/{name}")).await,
        }
    }
}

impl RestoreVolumes {
    /// Velero says `Completed` although it restores nothing into a volume that exists (velero#9925): only the number
    /// of restored volumes tells.
    async fn judge(&self, world: &World, restore: &str) -> Result<Probe, Failure> {
        let (namespaces, backup) = (known(&self.namespaces)?, known(&self.backup)?);
        let saved: Vec<VeleroJob> = list(world, "podvolumebackups").await?;
        let saved = saved.iter().filter(|volume| {
            labelled(volume, "velero.io/backup-name", backup) && namespaces.contains(&volume.spec.pod.namespace)
        });
        let restored: Vec<VeleroJob> = list(world, "podvolumerestores").await?;
        let restored = restored
            .iter()
            .filter(|volume| labelled(volume, "velero.io/restore-name", restore) && volume.status.phase == "Completed");
        let (planned, restored) = (saved.count(), restored.count());
        if restored < planned {
            let what = format!("restore {restore} is complete, but {restored} of {planned} volumes were restored");
            return Err(Failure::permanent(what)
                .observed("Velero leaves volumes that exist as they are")
                .next("remove the workloads and claims of these namespaces, then restore them from the backup"));
        }
        Ok(Probe::Satisfied(Facts::from([("restores".to_owned(), vec![restore].into())])))
    }
}

fn labelled(volume: &VeleroJob, label: &str, value: &str) -> bool {
    volume.metadata.labels.get(label).is_some_and(|found| found == value)
}

/// A restore that failed is never run again under its name.
fn name(context: &Context) -> String {
    format!("rf-{}-data-a{}", context.run, context.attempt.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actions::testing::Scene;

    fn restore() -> RestoreVolumes {
        let namespaces = Param::Known(vec!["shop".to_owned()]);
        RestoreVolumes { backup: Param::Known("rf-x-pre".to_owned()), namespaces }
    }

    #[tokio::test(start_paused = true)]
    async fn a_restore_is_made_once() {
        Scene::new().on("operator", restore()).idempotent().await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_restore_that_a_start_of_velero_cut_off_is_tried_again_under_a_new_name() {
        let scene = Scene::new();
        let mut bench = scene.on("operator", restore());
        bench.apply().await;
        let path = "/apis/velero.io/v1/namespaces/velero/restores/rf-261122-0300-k7q2-data-a1";
        let why = "found a restore with status \"InProgress\" during the server starting, mark it as \"Failed\"";
        scene.edit(path, |restore| restore["status"] = json!({ "phase": "Failed", "failureReason": why }));
        assert_eq!(bench.failure().await.class, rke2flow_engine::action::FailureClass::Transient);
        bench.context.attempt = 2;
        bench.pending().await;
        bench.apply().await;
        assert_eq!(bench.satisfied().await["restores"], json!(["rf-261122-0300-k7q2-data-a2"]));
    }

    #[tokio::test(start_paused = true)]
    async fn a_completed_restore_that_left_a_volume_as_it_was_is_a_failure() {
        let scene = Scene::new();
        let volume = json!({
            "metadata": { "labels": { "velero.io/backup-name": "rf-x-pre" } },
            "spec": { "pod": { "namespace": "shop" } },
        });
        scene.put("/apis/velero.io/v1/namespaces/velero/podvolumebackups/v-1", volume);
        let bench = scene.on("operator", restore());
        bench.apply().await;
        assert!(bench.failure().await.what.contains("0 of 1 volumes"));
        let volume = json!({
            "metadata": { "labels": { "velero.io/restore-name": "rf-261122-0300-k7q2-data-a1" } },
            "status": { "phase": "Completed" },
        });
        scene.put("/apis/velero.io/v1/namespaces/velero/podvolumerestores/v-1", volume);
        bench.satisfied().await;
    }
}
