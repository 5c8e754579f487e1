//! RefreshSystemPods: no pod of kube-system is older than the restore.

use async_trait::async_trait;
use jiff::Timestamp;
use rke2flow_engine::action::{ActionInfo, Applied, Context, Failure, Place, Probe};
use rke2flow_engine::value::Param;
use serde::{Deserialize, Serialize};

use crate::actions::node_ready::staleness;
use crate::actions::{Goal, World, info, moment, noted};
use crate::kinds::{Lease, Pod};

/// Goal: no pod of kube-system is older than the restore.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RefreshSystemPods {
    /// The moment of the restored server's start, RFC 3339.
    pub older_than: Param<String>,
}

#[async_trait]
impl Goal for RefreshSystemPods {
    const INFO: ActionInfo =
        info("RefreshSystemPods", "no pod of kube-system is older than the restore", Place::Operator, 30);

    async fn probe(&self, world: &World, _context: &Context) -> Result<Probe, Failure> {
        let old = self.old(world).await?;
        if old.is_empty() {
            return Ok(Probe::satisfied());
        }
        let (waiting, left): (Vec<&OldPod>, Vec<&OldPod>) = old.iter().partition(|old| !old.can_go());
        if left.is_empty() {
            let names: Vec<&str> = waiting.iter().map(|old| old.pod.metadata.name.as_str()).collect();
            return Ok(Probe::InProgress(format!("{} on their way", names.join(", "))));
        }
        Ok(Probe::pending(format!("{} pods are older than the restore", left.len())))
    }

    async fn apply(&self, world: &World, context: &Context) -> Result<Applied, Failure> {
        world.check_claim(context).await?;
        let old = self.old(world).await?;
        let mut gone = 0;
        for old in old.iter().filter(|old| old.can_go()) {
            let meta = &old.pod.metadata;
            world.objects().delete(&format!("{}/{}", Pod::SYSTEM, meta.name), meta).await?;
            gone += 1;
        }
        Ok(noted(format!("deleted {gone} pods")))
    }
}

/// A pod whose memory of the API is from before the restore.
struct OldPod {
    pod: Pod,
    /// Its node lives again, so that the pod can end.
    node_lives: bool,
}

impl OldPod {
    fn can_go(&self) -> bool {
        self.node_lives && self.pod.metadata.deletion_timestamp.is_none()
    }
}

impl RefreshSystemPods {
    async fn old(&self, world: &World) -> Result<Vec<OldPod>, Failure> {
        let Some(restored) = moment(&self.older_than)? else {
            return Err(Failure::permanent("`older_than` must say when the restored server was started"));
        };
        let pods: Vec<Pod> = world.objects().list(Pod::SYSTEM).await?.unwrap_or_default();
        let leases: Vec<Lease> = world.objects().list(Lease::NODES).await?.unwrap_or_default();
        let lives = |node: &str| staleness(leases.iter().find(|lease| lease.metadata.name == node), restored).is_none();
        let old = pods.into_iter().filter(|pod| is_replaceable(pod) && is_older(pod, restored));
        Ok(old.map(|pod| OldPod { node_lives: lives(&pod.spec.node_name), pod }).collect())
    }
}

/// Only what a controller makes again: no static pods, no Jobs.
fn is_replaceable(pod: &Pod) -> bool {
    pod.metadata.owner_references.iter().any(|owner| matches!(owner.kind.as_str(), "DaemonSet" | "ReplicaSet"))
}

fn is_older(pod: &Pod, moment: Timestamp) -> bool {
    pod.metadata.creation_timestamp.is_some_and(|made| made < moment)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actions::stamp;
    use crate::actions::testing::{NOW, Scene, lease};
    use serde_json::json;

    fn refresh() -> RefreshSystemPods {
        RefreshSystemPods { older_than: Param::Known(stamp(NOW - 60).to_string()) }
    }

    fn pod(scene: &Scene, name: &str, kind: &str, age: i64) {
        let body = json!({
            "metadata": {
                "creationTimestamp": stamp(NOW - age).to_string(),
                "ownerReferences": [{ "kind": kind }],
            },
            "spec": { "nodeName": "agent-0" },
        });
        scene.put(&format!("{}/{name}", Pod::SYSTEM), body);
    }

    #[tokio::test(start_paused = true)]
    async fn refreshing_is_idempotent_and_spares_static_pods_jobs_and_new_ones() {
        let scene = Scene::new();
        pod(&scene, "canal-old", "DaemonSet", 600);
        pod(&scene, "canal-new", "DaemonSet", 10);
        pod(&scene, "helm-install", "Job", 600);
        pod(&scene, "kube-proxy-agent-0", "Node", 600);
        scene.on("operator", refresh()).idempotent().await;
        let left = |name: &str| scene.object(&format!("{}/{name}", Pod::SYSTEM)).is_some();
        assert!(!left("canal-old") && left("canal-new") && left("helm-install") && left("kube-proxy-agent-0"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_pod_whose_node_is_not_back_is_waited_for() {
        let scene = Scene::new();
        pod(&scene, "canal-old", "DaemonSet", 600);
        scene.put(&Lease::path("agent-0"), lease(NOW - 300));
        assert!(matches!(scene.on("operator", refresh()).probe().await, Probe::InProgress(_)));
    }
}
