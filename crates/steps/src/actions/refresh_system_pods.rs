//! RefreshSystemPods: no pod of the network, DNS, metrics and ingress is older than the restore.

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use rke2flow_engine::action::{ActionInfo, Applied, Context, Failure, Place, Probe};
use rke2flow_engine::value::Param;
use serde::{Deserialize, Serialize};

use crate::actions::node_ready::staleness;
use crate::actions::{Clocks, Goal, World, info, known, moment, noted};
use crate::distribution::Traits;
use crate::kinds::{Lease, Node, Pod};

/// Goal: no pod of the network, DNS, metrics and ingress is older than the restore.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RefreshSystemPods {
    /// The moment of the restored server's start, RFC 3339.
    pub older_than: Param<String>,
    /// Hosts that are lost: what a Deployment has there is replaced elsewhere, whatever its age.
    #[serde(default)]
    pub lost: Param<Vec<String>>,
}

#[async_trait]
impl Goal for RefreshSystemPods {
    const INFO: ActionInfo = info(
        "RefreshSystemPods",
        "no pod of the network, DNS, metrics and ingress is older than the restore",
        Place::Operator,
        30,
    );

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
        Ok(Probe::pending(format!("{} pods are older than the restore, or on hosts that are lost", left.len())))
    }

    async fn apply(&self, world: &World, context: &Context) -> Result<Applied, Failure> {
        self.await_given_up(world, context).await?;
        let old = self.old(world).await?;
        let mut gone = 0;
        for old in old.iter().filter(|old| old.can_go()) {
            let meta = &old.pod.metadata;
            world.changes(context).delete(&format!("{}/{}", pods_of(&meta.namespace), meta.name), meta).await?;
            gone += 1;
        }
        Ok(noted(format!("deleted {gone} pods")))
    }
}

/// How long the Node of a lost host may be said to be ready: the controllers give a silent one up after 40 s
/// (kube-controller-manager's `--node-monitor-grace-period`), counted from their own start.
const GIVEN_UP: Duration = Duration::from_secs(50);
/// Between two looks at it.
const LOOK: Duration = Duration::from_secs(2);

/// A pod whose memory of the API is from before the restore, or that nobody runs.
struct OldPod {
    pod: Pod,
    /// Its node lives again, so that the pod can end; or it is lost, and another pod is made at once.
    may_end: bool,
}

impl OldPod {
    fn can_go(&self) -> bool {
        self.may_end && self.pod.metadata.deletion_timestamp.is_none()
    }
}

impl RefreshSystemPods {
    async fn old(&self, world: &World) -> Result<Vec<OldPod>, Failure> {
        let Some(restored) = moment(&self.older_than)? else {
            return Err(Failure::permanent("`older_than` must say when the restored server was started"));
        };
        let mut pods: Vec<Pod> = Vec::new();
        for namespace in ["kube-system", "calico-system", "tigera-operator"] {
            pods.extend(world.objects().list::<Pod>(&pods_of(namespace)).await?.unwrap_or_default());
        }
        let (distribution, lost) = (world.distribution(), known(&self.lost)?);
        let is_lost = |pod: &Pod| lost.contains(&pod.spec.node_name);
        let counts = |pod: &Pod| if is_lost(pod) { is_missed(pod) } else { is_stale(pod, restored) };
        pods.retain(|pod| is_system(pod, distribution) && counts(pod));
        if pods.is_empty() {
            return Ok(Vec::new());
        }
        let leases: Vec<Lease> = world.objects().list(Lease::NODES).await?.unwrap_or_default();
        let clocks = Clocks::read(world).await?;
        let lives = |node: &str| {
            let lease = leases.iter().find(|lease| lease.metadata.name == node);
            staleness(lease, clocks.since(node, restored)).is_none()
        };
        let may_end = |pod: &Pod| is_lost(pod) || lives(&pod.spec.node_name);
        Ok(pods.into_iter().map(|pod| OldPod { may_end: may_end(&pod), pod }).collect())
    }

    /// Out of the snapshot, the Node of a lost host is ready: until it is given up, new pods may be bound to it.
    async fn await_given_up(&self, world: &World, context: &Context) -> Result<(), Failure> {
        let lost = known(&self.lost)?;
        let until = context.clock.elapsed() + GIVEN_UP;
        while !lost.is_empty() && context.clock.elapsed() < until {
            let nodes: Vec<Node> = world.objects().list("/api/v1/nodes").await?.unwrap_or_default();
            let ready = nodes.iter().filter(|node| lost.contains(&node.metadata.name) && node.said_ready());
            let ready: Vec<&str> = ready.map(|node| node.metadata.name.as_str()).collect();
            if ready.is_empty() {
                break;
            }
            context.progress.say(&format!("waiting until the cluster gives {} up", ready.join(", ")));
            context.clock.sleep(LOOK).await;
        }
        Ok(())
    }
}

fn pods_of(namespace: &str) -> String {
    format!("/api/v1/namespaces/{namespace}/pods")
}

/// The pods that Rancher's own restore makes anew, by label (RR pkg/controllers/operations/etcdsnapshotrestore
/// `podSelectors`), and what else belongs to the distribution's charts.
fn is_system(pod: &Pod, distribution: &Traits) -> bool {
    let labels = &pod.metadata.labels;
    let has = |key: &str, values: &[&str]| labels.get(key).is_some_and(|value| values.contains(&value.as_str()));
    let ours = distribution
        .system_pods
        .iter()
        .any(|(key, begin)| labels.get(*key).is_some_and(|value| value.starts_with(begin)));
    ours || has("k8s-app", &K8S_APPS) || has("app", &APPS)
}

/// Values of `k8s-app`.
const K8S_APPS: [&str; 8] = [
    "kube-dns",
    "kube-dns-autoscaler",
    "canal",
    "cilium",
    "calico-node",
    "calico-kube-controllers",
    "calico-typha",
    "tigera-operator",
];
/// Values of `app`.
const APPS: [&str; 2] = ["rke2-metrics-server", "rke2-multus"];

/// Only what a controller makes again: no static pods, no Jobs.
fn is_stale(pod: &Pod, restored: Timestamp) -> bool {
    let is_older = pod.metadata.creation_timestamp.is_some_and(|made| made < restored);
    is_older && (is_of(pod, "DaemonSet") || is_of(pod, "ReplicaSet"))
}

/// On a lost host: another one is made elsewhere as soon as its deletion was asked for. Kubernetes itself waits for five
/// minutes (`tolerationSeconds` of `node.kubernetes.io/unreachable`). That of a DaemonSet is missed by nobody.
fn is_missed(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_none() && is_of(pod, "ReplicaSet")
}

fn is_of(pod: &Pod, kind: &str) -> bool {
    pod.metadata.owner_references.iter().any(|owner| owner.kind == kind)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actions::stamp;
    use crate::actions::testing::{NOW, Scene, lease};
    use serde_json::json;

    fn refresh() -> RefreshSystemPods {
        RefreshSystemPods { older_than: Param::Known(stamp(NOW - 60).to_string()), lost: Param::default() }
    }

    fn pod(scene: &Scene, name: &str, kind: &str, age: i64) {
        let body = json!({
            "metadata": {
                "labels": { "k8s-app": "canal" },
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
    async fn what_is_not_of_the_system_is_left_alone_and_calicos_own_namespace_is_not() {
        let scene = Scene::new();
        pod(&scene, "csi-driver", "DaemonSet", 600);
        scene.edit(&format!("{}/csi-driver", Pod::SYSTEM), |pod| pod["metadata"]["labels"] = json!({ "app": "csi" }));
        scene.on("operator", refresh()).satisfied().await;
        pod(&scene, "calico-node-1", "DaemonSet", 600);
        let made = scene.object(&format!("{}/calico-node-1", Pod::SYSTEM)).unwrap();
        scene.put("/api/v1/namespaces/calico-system/pods/calico-node-1", made);
        scene.on("operator", refresh()).apply().await;
        assert_eq!(scene.object("/api/v1/namespaces/calico-system/pods/calico-node-1"), None);
    }

    #[tokio::test(start_paused = true)]
    async fn on_a_lost_host_what_a_deployment_has_goes_once_the_cluster_has_given_the_host_up() {
        let scene = Scene::new();
        scene.put(&Lease::path("agent-0"), lease(NOW - 300));
        pod(&scene, "canal-old", "DaemonSet", 600);
        pod(&scene, "coredns-old", "ReplicaSet", 600);
        pod(&scene, "coredns-new", "ReplicaSet", 10);
        let lost = || RefreshSystemPods { lost: Param::Known(vec!["agent-0".to_owned()]), ..refresh() };
        assert_eq!(
            scene.on("operator", lost()).pending().await,
            "2 pods are older than the restore, or on hosts that are lost"
        );
        // It is said to be ready all the time: the wait ends by itself.
        let before = tokio::time::Instant::now();
        scene.on("operator", lost()).idempotent().await;
        assert!(before.elapsed() >= GIVEN_UP);
        let left = |name: &str| scene.object(&format!("{}/{name}", Pod::SYSTEM)).is_some();
        assert!(left("canal-old") && !left("coredns-old") && !left("coredns-new"));
        pod(&scene, "coredns-old", "ReplicaSet", 600);
        scene.edit("/api/v1/nodes/agent-0", |node| node["status"]["conditions"] = json!([]));
        let before = tokio::time::Instant::now();
        scene.on("operator", lost()).apply().await;
        assert!(before.elapsed() < LOOK);
    }

    #[tokio::test(start_paused = true)]
    async fn a_pod_whose_node_is_not_back_is_waited_for() {
        let scene = Scene::new();
        pod(&scene, "canal-old", "DaemonSet", 600);
        scene.put(&Lease::path("agent-0"), lease(NOW - 300));
        assert!(matches!(scene.on("operator", refresh()).probe().await, Probe::InProgress(_)));
    }
}
