//! DropReplays: no request out of the snapshot waits to be carried out once more.

use async_trait::async_trait;
use rke2flow_engine::action::{ActionInfo, Applied, Context, Failure, Place, Probe};
use rke2flow_engine::value::Param;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::actions::pause_schedules::{collection, list};
use crate::actions::{Goal, World, info, known, noted, restored, unless_missing};
use crate::kinds::{Job, Meta, Node, Pod, VeleroJob};
use crate::objects::Objects;

/// Goal: no request out of the snapshot waits to be carried out once more.
///
/// Upgrade jobs, Velero's jobs that had not begun, and removals of etcd members are orders that were given before the
/// snapshot was taken: they come back with it and would be obeyed again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DropReplays {
    /// The server that was restored; the cluster file's when empty.
    #[serde(default)]
    pub server: Param<String>,
}

#[async_trait]
impl Goal for DropReplays {
    const INFO: ActionInfo =
        info("DropReplays", "no request out of the snapshot waits to be carried out once more", Place::Operator, 5);

    async fn probe(&self, world: &World, _context: &Context) -> Result<Probe, Failure> {
        let found = self.replays(world).await?;
        Ok(unless_missing(found.iter().map(|replay| format!("{} waits to be carried out", replay.what)).collect()))
    }

    async fn apply(&self, world: &World, context: &Context) -> Result<Applied, Failure> {
        let (changes, found) = (world.changes(context).through(&self.objects(world)?), self.replays(world).await?);
        for replay in &found {
            match replay.remedy {
                Remedy::Delete => changes.delete(&replay.path, &replay.meta).await?,
                Remedy::Unmark(annotation) => {
                    let change = json!({ "metadata": { "annotations": { annotation: null } } });
                    changes.patch(&replay.path, &replay.meta, change).await?;
                }
            }
        }
        let text =
            |replay: &Replay| format!("{} came back with the snapshot and was {}", replay.what, replay.remedy.done());
        let attention: Vec<String> = found.iter().map(text).collect();
        Ok(Applied { attention, ..noted(format!("took {} requests out of the snapshot away", found.len())) })
    }
}

/// The label of what the system-upgrade-controller makes for a plan (SUC pkg/upgrade/job/job.go).
const OF_PLAN: &str = "upgrade.cattle.io/plan";
/// Annotations that have a server removed from etcd; releases before k3s#8359 obey one that comes back.
const REMOVE: [&str; 2] = ["etcd.rke2.cattle.io/remove", "etcd.k3s.cattle.io/remove"];
/// Kinds of Velero that are carried out when Velero sees them in one of [`WAITING`].
const VELERO: [(&str, &str); 3] =
    [("restores", "Restore"), ("deletebackuprequests", "DeleteBackupRequest"), ("backups", "Backup")];
/// Phases of what Velero has not begun yet. What had begun it fails by itself when it starts
/// (velero pkg/cmd/server/server.go markInProgressCRsFailed).
const WAITING: [&str; 4] = ["", "New", "Queued", "ReadyToStart"];

/// Something that would be done again.
struct Replay {
    what: String,
    path: String,
    meta: Meta,
    remedy: Remedy,
}

enum Remedy {
    Delete,
    Unmark(&'static str),
}

impl Remedy {
    fn done(&self) -> &'static str {
        match self {
            Remedy::Delete => "deleted",
            Remedy::Unmark(_) => "taken back",
        }
    }
}

impl DropReplays {
    fn objects(&self, world: &World) -> Result<Objects, Failure> {
        match known(&self.server)?.as_str() {
            "" => Ok(world.objects().clone()),
            _ => Ok(world.objects().of_server(&restored(world, &self.server)?)),
        }
    }

    async fn replays(&self, world: &World) -> Result<Vec<Replay>, Failure> {
        let objects = self.objects(world)?;
        let mut found = upgrades(&objects).await?;
        found.extend(velero(world).await?);
        found.extend(removals(&objects).await?);
        Ok(found)
    }
}

/// Jobs of upgrade plans that have not ended, and their pods: a kubelet that comes back would start them.
async fn upgrades(objects: &Objects) -> Result<Vec<Replay>, Failure> {
    let ours = |meta: &Meta| meta.labels.contains_key(OF_PLAN) && meta.deletion_timestamp.is_none();
    let replay = |kind: &str, api: &str, plural: &str, meta: Meta| Replay {
        what: format!("{kind} {}/{}", meta.namespace, meta.name),
        path: format!("{api}/namespaces/{}/{plural}/{}", meta.namespace, meta.name),
        meta,
        remedy: Remedy::Delete,
    };
    let jobs: Vec<Job> = objects.list(Job::ALL).await?.unwrap_or_default();
    let jobs = jobs.into_iter().filter(|job| ours(&job.metadata) && !job.has_ended());
    let mut found: Vec<Replay> =
        jobs.map(|job| replay("upgrade Job", "/apis/batch/v1", "jobs", job.metadata)).collect();
    let pods: Vec<Pod> = objects.list("/api/v1/pods").await?.unwrap_or_default();
    let waiting = |pod: &Pod| !matches!(pod.status.phase.as_str(), "Succeeded" | "Failed");
    let pods = pods.into_iter().filter(|pod| ours(&pod.metadata) && waiting(pod));
    found.extend(pods.map(|pod| replay("upgrade Pod", "/api/v1", "pods", pod.metadata)));
    Ok(found)
}

async fn velero(world: &World) -> Result<Vec<Replay>, Failure> {
    let mut found = Vec::new();
    for (plural, kind) in VELERO {
        let Some(path) = collection(world, plural) else { break };
        let waiting = |job: &VeleroJob| WAITING.contains(&job.status.phase.as_str());
        found.extend(list::<VeleroJob>(world, plural).await?.into_iter().filter(waiting).map(|job| Replay {
            what: format!("{kind} {}", job.metadata.name),
            path: format!("{path}/{}", job.metadata.name),
            meta: job.metadata,
            remedy: Remedy::Delete,
        }));
    }
    Ok(found)
}

async fn removals(objects: &Objects) -> Result<Vec<Replay>, Failure> {
    let nodes: Vec<Node> = objects.list("/api/v1/nodes").await?.unwrap_or_default();
    let mut found = Vec::new();
    for Node { metadata, .. } in nodes {
        for annotation in REMOVE.into_iter().filter(|annotation| metadata.annotations.contains_key(*annotation)) {
            found.push(Replay {
                what: format!("removal of {} from etcd ({annotation})", metadata.name),
                path: Node::path(&metadata.name),
                meta: metadata.clone(),
                remedy: Remedy::Unmark(annotation),
            });
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actions::testing::Scene;

    const JOB: &str = "/apis/batch/v1/namespaces/system-upgrade/jobs/apply-server-plan-on-server-0-with-abc";
    const POD: &str = "/api/v1/namespaces/system-upgrade/pods/apply-server-plan-on-server-0-with-abc-x1";
    const VELERO: &str = "/apis/velero.io/v1/namespaces/velero";

    fn drop_replays() -> DropReplays {
        DropReplays { server: Param::default() }
    }

    fn put(scene: &Scene, path: &str, labels: &[&str], status: serde_json::Value) {
        let labels: serde_json::Map<_, _> = labels.iter().map(|label| ((*label).to_owned(), json!("x"))).collect();
        scene.put(path, json!({ "metadata": { "labels": labels }, "status": status }));
    }

    #[tokio::test(start_paused = true)]
    async fn replayed_requests_are_taken_out_and_named_and_nothing_else_is() {
        let scene = Scene::new();
        put(&scene, JOB, &[OF_PLAN], json!({ "active": 1 }));
        put(&scene, POD, &[OF_PLAN], json!({ "phase": "Running" }));
        put(&scene, &format!("{VELERO}/restores/old"), &[], json!({ "phase": "New" }));
        put(&scene, &format!("{VELERO}/deletebackuprequests/old"), &[], json!({}));
        put(&scene, &format!("{VELERO}/backups/nightly-1"), &[], json!({ "phase": "Queued" }));
        scene.edit("/api/v1/nodes/server-2", |node| {
            node["metadata"]["annotations"] = json!({ "etcd.rke2.cattle.io/remove": "true", "kept": "x" });
        });
        let kept = ["restores/done", "backups/nightly-0"].map(|name| format!("{VELERO}/{name}"));
        for path in &kept {
            put(&scene, path, &[], json!({ "phase": "Completed" }));
        }
        let ended = JOB.replace("abc", "def");
        put(&scene, &ended, &[OF_PLAN], json!({ "conditions": [{ "type": "Complete", "status": "True" }] }));
        let another = JOB.replace("apply-", "own-");
        put(&scene, &another, &[], json!({ "active": 1 }));

        let why = scene.on("operator", drop_replays()).pending().await;
        for named in [
            "upgrade Job",
            "upgrade Pod",
            "Restore old",
            "DeleteBackupRequest old",
            "Backup nightly-1",
            "removal of server-2",
        ] {
            assert!(why.contains(named), "{named}: {why}");
        }
        scene.on("operator", drop_replays()).idempotent().await;
        for gone in [JOB, POD] {
            assert_eq!(scene.object(gone), None);
        }
        for path in kept.iter().chain([&ended, &another]) {
            assert!(scene.object(path).is_some(), "{path} is gone");
        }
        assert_eq!(scene.object("/api/v1/nodes/server-2").unwrap()["metadata"]["annotations"], json!({ "kept": "x" }));
    }

    #[tokio::test(start_paused = true)]
    async fn without_velero_and_upgrade_controller_there_is_nothing_to_take_out() {
        Scene::with("").on("operator", drop_replays()).satisfied().await;
    }
}
