//! Leftovers: what came back with the snapshot and is for a person to decide is told.

use std::collections::BTreeSet;

use async_trait::async_trait;
use rke2flow_engine::action::{ATTENTION, ActionInfo, Context, Failure, Place, Probe};
use rke2flow_engine::value::{FactSpec, Facts, Param, ValueType};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::actions::{Goal, World, info, known};
use crate::kinds::{Attachment, CronJob, Job, Node, Pod, Volume};

/// Goal: what came back with the snapshot and is for a person to decide is told.
///
/// Nothing is changed: which volume is right, and which job may run again, only its owner knows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Leftovers {
    /// The volumes that there were before the outage, as `RememberCluster` has left them; empty: not known.
    #[serde(default)]
    pub volumes: Param<Vec<String>>,
}

#[async_trait]
impl Goal for Leftovers {
    const INFO: ActionInfo = ActionInfo {
        facts: &[FactSpec { name: ATTENTION, kind: ValueType::List }],
        changes: false,
        ..info(
            "Leftovers",
            "what came back with the snapshot and is for a person to decide is told",
            Place::Operator,
            5,
        )
    };

    async fn probe(&self, world: &World, _context: &Context) -> Result<Probe, Failure> {
        let mut told = attachments(world).await?;
        told.extend(volumes(world, known(&self.volumes)?).await?);
        told.extend(schedules(world).await?);
        told.extend(charts(world).await?);
        Ok(Probe::Satisfied(Facts::from([(ATTENTION.to_owned(), json!(told))])))
    }
}

/// How many names of one kind are told.
const NAMED_MAX: usize = 20;

/// Volumes that are attached, by the word of the snapshot, where no node or no volume is, or not where they are used.
async fn attachments(world: &World) -> Result<Vec<String>, Failure> {
    let objects = world.objects();
    let attachments: Vec<Attachment> = objects.list(Attachment::ALL).await?.unwrap_or_default();
    if attachments.is_empty() {
        return Ok(Vec::new());
    }
    let nodes: Vec<Node> = objects.list("/api/v1/nodes").await?.unwrap_or_default();
    let volumes: Vec<Volume> = objects.list(Volume::ALL).await?.unwrap_or_default();
    let pods: Vec<Pod> = objects.list("/api/v1/pods").await?.unwrap_or_default();
    let wrong = |attachment: &Attachment| {
        let (node, name) = (&attachment.spec.node_name, &attachment.spec.source.persistent_volume_name);
        let said = format!("VolumeAttachment {}: volume {name} on node {node}", attachment.metadata.name);
        if !nodes.iter().any(|found| found.metadata.name == *node) {
            return Some(format!("{said}, which does not exist"));
        }
        let Some(volume) = volumes.iter().find(|volume| volume.metadata.name == *name) else {
            return Some(format!("{said}, but there is no such volume"));
        };
        let user = pods.iter().find(|pod| volume.is_used_by(pod) && !pod.spec.node_name.is_empty())?;
        let there = pods.iter().any(|pod| volume.is_used_by(pod) && pod.spec.node_name == *node);
        (!there).then(|| format!("{said}, but its pod {} runs on {}", user.metadata.name, user.spec.node_name))
    };
    Ok(attachments.iter().filter_map(wrong).collect())
}

/// Volumes of before the outage that nothing in the cluster stands for any more, and the reverse.
async fn volumes(world: &World, before: &[String]) -> Result<Vec<String>, Failure> {
    if before.is_empty() {
        return Ok(Vec::new());
    }
    let now: Vec<Volume> = world.objects().list(Volume::ALL).await?.unwrap_or_default();
    let now: BTreeSet<String> = now.iter().map(Volume::handle).collect();
    let before: BTreeSet<String> = before.iter().cloned().collect();
    let lost = before.difference(&now);
    let mut told: Vec<String> = lost
        .map(|volume| {
            format!("volume {volume} was made after the snapshot: its storage exists, no object stands for it")
        })
        .collect();
    let back = now.difference(&before);
    told.extend(back.map(|volume| {
        format!("volume {volume} was deleted after the snapshot: its object is back, its storage may be gone")
    }));
    Ok(told)
}

async fn schedules(world: &World) -> Result<Vec<String>, Failure> {
    let found: Vec<CronJob> = world.objects().list(CronJob::ALL).await?.unwrap_or_default();
    let acting = found.iter().filter(|job| !job.spec.suspend);
    let names: Vec<String> = acting.map(|job| format!("{}/{}", job.metadata.namespace, job.metadata.name)).collect();
    Ok(match names.is_empty() {
        true => Vec::new(),
        false => vec![format!("CronJobs run by the times of the snapshot, some perhaps again: {}", shorten(&names))],
    })
}

/// Install jobs of charts that fail, such as one of a newer version's chart that was left behind (rancher#41174).
async fn charts(world: &World) -> Result<Vec<String>, Failure> {
    let jobs: Vec<Job> = world.objects().list(Job::ALL).await?.unwrap_or_default();
    let failing = jobs
        .iter()
        .filter(|job| job.metadata.labels.contains_key(CHART) && !job.is_complete() && job.status.failed > 0);
    let names: Vec<String> = failing.map(|job| job.metadata.name.clone()).collect();
    let mut told = match names.is_empty() {
        true => Vec::new(),
        false => vec![format!("charts whose installation fails: {}", shorten(&names))],
    };
    let cordoned: Vec<Node> = world.objects().list("/api/v1/nodes").await?.unwrap_or_default();
    let cordoned = cordoned.into_iter().filter(|node| node.spec.unschedulable);
    let names: Vec<String> = cordoned.map(|node| node.metadata.name).collect();
    if !names.is_empty() {
        told.push(format!("nodes that are cordoned: {}", shorten(&names)));
    }
    Ok(told)
}

/// The label of a chart's install job (helm-controller).
const CHART: &str = "helmcharts.helm.cattle.io/chart";

fn shorten(names: &[String]) -> String {
    let shown = names[..names.len().min(NAMED_MAX)].join(", ");
    match names.len().saturating_sub(NAMED_MAX) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actions::remember_cluster::texts;
    use crate::actions::testing::Scene;

    fn volume(scene: &Scene, name: &str) {
        let spec = json!({
            "csi": { "driver": "csi.test", "volumeHandle": format!("handle-{name}") },
            "claimRef": { "namespace": "shop", "name": format!("data-{name}") },
        });
        scene.put(&format!("/api/v1/persistentvolumes/{name}"), json!({ "spec": spec }));
    }

    fn attachment(scene: &Scene, name: &str, volume: &str, node: &str) {
        let spec = json!({ "nodeName": node, "source": { "persistentVolumeName": volume } });
        scene.put(&format!("{}/{name}", Attachment::ALL), json!({ "spec": spec }));
    }

    async fn told(scene: &Scene, volumes: &[&str]) -> Vec<String> {
        let volumes = Param::Known(volumes.iter().map(|text| (*text).to_owned()).collect());
        texts(&scene.on("operator", Leftovers { volumes }).satisfied().await["attention"])
    }

    #[tokio::test(start_paused = true)]
    async fn a_cluster_without_leftovers_has_nothing_told_about_it() {
        let scene = Scene::new();
        volume(&scene, "pv-1");
        attachment(&scene, "a", "pv-1", "agent-0");
        assert_eq!(told(&scene, &["pv-1 (csi.test handle-pv-1)"]).await, Vec::<String>::new());
    }

    #[tokio::test(start_paused = true)]
    async fn wrong_attachments_and_ghost_volumes_are_told_and_left_as_they_are() {
        let scene = Scene::new();
        volume(&scene, "pv-1");
        attachment(&scene, "gone-node", "pv-1", "agent-9");
        attachment(&scene, "gone-volume", "pv-9", "agent-0");
        attachment(&scene, "elsewhere", "pv-1", "agent-0");
        let spec =
            json!({ "nodeName": "agent-1", "volumes": [{ "persistentVolumeClaim": { "claimName": "data-pv-1" } }] });
        scene.put("/api/v1/namespaces/shop/pods/db-0", json!({ "spec": spec }));
        let before = scene.change(|state| state.objects.clone());
        let told = told(&scene, &["pv-2 (csi.test handle-pv-2)"]).await.join("\n");
        for text in [
            "node agent-9, which does not exist",
            "but there is no such volume",
            "its pod db-0 runs on agent-1",
            "pv-2 (csi.test handle-pv-2) was made after the snapshot",
            "pv-1 (csi.test handle-pv-1) was deleted after the snapshot",
        ] {
            assert!(told.contains(text), "{text}: {told}");
        }
        assert_eq!(scene.change(|state| state.objects.clone()), before);
    }

    #[tokio::test(start_paused = true)]
    async fn schedules_failing_charts_and_cordons_are_told() {
        let scene = Scene::new();
        scene.put("/apis/batch/v1/namespaces/shop/cronjobs/bill", json!({ "spec": {} }));
        scene.put("/apis/batch/v1/namespaces/shop/cronjobs/off", json!({ "spec": { "suspend": true } }));
        let labels = json!({ "labels": { CHART: "rke2-new" } });
        let job = json!({ "metadata": labels, "status": { "active": 1, "failed": 4 } });
        scene.put("/apis/batch/v1/namespaces/kube-system/jobs/helm-install-rke2-new", job);
        scene.edit("/api/v1/nodes/agent-1", |node| node["spec"]["unschedulable"] = true.into());
        let told = told(&scene, &[]).await.join("\n");
        assert!(told.contains("shop/bill") && !told.contains("shop/off"), "{told}");
        assert!(told.contains("helm-install-rke2-new") && told.contains("cordoned: agent-1"), "{told}");
    }
}
