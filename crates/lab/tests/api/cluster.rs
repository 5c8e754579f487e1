//! A cluster with its controllers and kubelets: what rke2flow asks of it is answered by what really runs.

use std::fs;
use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::Client;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams};
use rke2flow_lab::api::{controllers, report};
use rke2flow_lab::process::{Kubelet, RunningPod};
use rke2flow_steps::kinds::Workload;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use crate::bench::{Bench, Served, VERSION, get, until};

const DEPLOYMENT: &str = "/apis/apps/v1/namespaces/kube-system/deployments/rke2-coredns-rke2-coredns";
const DAEMON_SET: &str = "/apis/apps/v1/namespaces/kube-system/daemonsets/rke2-canal";

/// An API server, its controllers and two nodes: `server-0` and `agent-0`.
struct Cluster {
    bench: Bench,
    served: Served,
    client: Client,
    controllers: JoinSet<()>,
}

impl Cluster {
    async fn start() -> Self {
        let bench = Bench::start(1).await;
        let served = bench.serve(0).await;
        let client = served.client().await;
        let mut controllers = JoinSet::new();
        let config = served.config.clone();
        controllers.spawn(async move { controllers_of(config).await });
        Self { bench, served, client, controllers }
    }

    /// A kubelet whose pods run as soon as they are wanted. It and they end with the task.
    fn kubelet(&self, node: &str, version: &str) -> JoinHandle<()> {
        let dir = self.bench.dir.path().join(node);
        fs::create_dir_all(&dir).unwrap();
        self.bench.authority.kubelet(node).unwrap().write(&dir, "client-kubelet").unwrap();
        // The first server that it knows is dead.
        fs::write(dir.join("servers"), format!("127.0.0.1:1\n127.0.0.1:{}\n", self.served.port)).unwrap();
        let server = node.starts_with("server");
        let config = Kubelet {
            node: node.to_owned(),
            address: "127.0.0.1".to_owned(),
            version: version.to_owned(),
            server,
            data: dir.clone(),
            servers: dir.join("servers"),
            authority: self.served.config.tls.join("server-ca.crt"),
            certificate: dir.join("client-kubelet.crt"),
            key: dir.join("client-kubelet.key"),
        };
        let fixed: Vec<RunningPod> = server.then(|| static_pod(node, version)).into_iter().collect();
        tokio::spawn(async move {
            let (running, seen) = watch::channel(fixed.clone());
            let (bound, wanted) = watch::channel(Vec::new());
            let runtime = async {
                loop {
                    let mut pods = fixed.clone();
                    pods.extend(
                        wanted.borrow().iter().map(|pod: &RunningPod| RunningPod { ready: true, ..pod.clone() }),
                    );
                    running.send_replace(pods);
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            };
            tokio::select! { ended = report::run(config, seen, bound) => ended.unwrap(), () = runtime => {} }
        })
    }

    fn chart(&self, name: &str, version: &str) {
        let manifests = self.bench.dir.path().join("manifests");
        fs::create_dir_all(&manifests).unwrap();
        let text = format!(
            "apiVersion: helm.cattle.io/v1\nkind: HelmChart\nmetadata:\n  name: {name}\nspec:\n  chart: {name}\n  version: {version}\n"
        );
        fs::write(manifests.join(format!("{name}.yaml")), text).unwrap();
    }

    fn system_pods(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), "kube-system")
    }

    /// Waits until a workload is rolled out as rke2flow sees it.
    async fn rolled_out(&self, path: &str, image: &str) {
        until(path, async || {
            let object: Value = get(&self.client, path).await.ok()?;
            let image_now = object.pointer("/spec/template/spec/containers/0/image")?.clone();
            let workload: Workload = serde_json::from_value(object).unwrap();
            let lacks = if path == DAEMON_SET { workload.daemon_set_lacks() } else { workload.deployment_lacks() };
            (lacks.is_none() && image_now == image && workload.status.observed_generation > 0).then_some(())
        })
        .await;
    }

    async fn pods_of(&self, name: &str) -> Vec<Pod> {
        let params = ListParams::default().labels(&format!("app.kubernetes.io/name={name}"));
        self.system_pods().list(&params).await.unwrap().items
    }
}

async fn controllers_of(config: rke2flow_lab::process::ControlPlane) {
    controllers(config).await.unwrap();
}

fn static_pod(node: &str, version: &str) -> RunningPod {
    RunningPod {
        namespace: "kube-system".to_owned(),
        name: format!("kube-apiserver-{node}"),
        image: format!("rancher/hardened-kubernetes:{}", version.replace('+', "-")),
        is_static: true,
        ready: true,
    }
}

fn uids(pods: &[Pod]) -> Vec<&str> {
    pods.iter().filter_map(|pod| pod.metadata.uid.as_deref()).collect()
}

#[tokio::test]
async fn charts_roll_out_on_the_nodes_that_there_are_and_again_in_another_version() {
    let cluster = Cluster::start().await;
    let _nodes = [cluster.kubelet("server-0", VERSION), cluster.kubelet("agent-0", VERSION)];
    for chart in ["rke2-canal", "rke2-coredns"] {
        cluster.chart(chart, "1.33.4+rke2r1");
    }
    cluster.rolled_out(DEPLOYMENT, "rancher/rke2-coredns-rke2-coredns:v1.33.4-rke2r1").await;
    cluster.rolled_out(DAEMON_SET, "rancher/rke2-canal:v1.33.4-rke2r1").await;
    let first = cluster.pods_of("rke2-canal").await;
    assert_eq!(first.len(), 2);
    let owners = cluster.pods_of("rke2-coredns-rke2-coredns").await;
    assert_eq!(owners[0].metadata.owner_references.as_ref().unwrap()[0].kind, "ReplicaSet");

    cluster.chart("rke2-canal", "1.33.9+rke2r1");
    cluster.rolled_out(DAEMON_SET, "rancher/rke2-canal:v1.33.9-rke2r1").await;
    let second = cluster.pods_of("rke2-canal").await;
    assert!(uids(&second).iter().all(|uid| !uids(&first).contains(uid)), "an old pod counts as new");

    // A chart of a later release never installs.
    cluster.chart("rke2-traefik", "1.34.1+rke2r1");
    let job = "/apis/batch/v1/namespaces/kube-system/jobs/helm-install-rke2-traefik";
    let failed =
        until("a failure", async || get(&cluster.client, job).await.ok().filter(|job| job["status"]["failed"] == 1));
    assert!(failed.await["status"]["conditions"].is_null());
}

#[tokio::test]
async fn a_system_pod_that_is_deleted_ends_and_another_takes_its_place() {
    let cluster = Cluster::start().await;
    let _node = cluster.kubelet("server-0", VERSION);
    for chart in ["rke2-canal", "rke2-coredns"] {
        cluster.chart(chart, "1.33.4+rke2r1");
    }
    cluster.rolled_out(DEPLOYMENT, "rancher/rke2-coredns-rke2-coredns:v1.33.4-rke2r1").await;
    cluster.rolled_out(DAEMON_SET, "rancher/rke2-canal:v1.33.4-rke2r1").await;
    for workload in ["rke2-canal", "rke2-coredns-rke2-coredns"] {
        let before = cluster.pods_of(workload).await;
        let name = before[0].metadata.name.clone().unwrap();
        cluster.system_pods().delete(&name, &DeleteParams::default()).await.unwrap();
        until("another pod", async || {
            let now = cluster.pods_of(workload).await;
            (now.len() == 1 && uids(&now) != uids(&before)).then_some(())
        })
        .await;
    }
    cluster.rolled_out(DEPLOYMENT, "rancher/rke2-coredns-rke2-coredns:v1.33.4-rke2r1").await;
    cluster.rolled_out(DAEMON_SET, "rancher/rke2-canal:v1.33.4-rke2r1").await;
}

#[tokio::test]
async fn a_kubelet_of_another_version_says_so_and_mirrors_its_static_pods() {
    let cluster = Cluster::start().await;
    let nodes: Api<Node> = Api::all(cluster.client.clone());
    let kubelet = cluster.kubelet("server-0", VERSION);
    let version = async || Some(nodes.get("server-0").await.ok()?.status?.node_info?.kubelet_version);
    let image = async || {
        let pod = cluster.system_pods().get("kube-apiserver-server-0").await.ok()?;
        pod.spec?.containers[0].image.clone()
    };
    until("its mirror", async || image().await.filter(|image| image.ends_with(":v1.33.4-rke2r1"))).await;
    let cordon = Patch::Merge(json!({"spec": {"unschedulable": true}}));
    nodes.patch("server-0", &PatchParams::default(), &cordon).await.unwrap();
    kubelet.abort();
    let _kubelet = cluster.kubelet("server-0", "v1.34.1+rke2r1");
    until("its version", async || version().await.filter(|version| version == "v1.34.1+rke2r1")).await;
    until("its image", async || image().await.filter(|image| image.ends_with(":v1.34.1-rke2r1"))).await;
    let node = nodes.get("server-0").await.unwrap();
    assert_eq!(node.spec.unwrap().unschedulable, Some(true), "a kubelet's start has uncordoned its node");
}

#[tokio::test]
async fn a_silent_node_stays_ready_for_a_while_and_then_is_unknown_until_it_speaks() {
    let mut cluster = Cluster::start().await;
    let nodes: Api<Node> = Api::all(cluster.client.clone());
    let leases: Api<Lease> = Api::namespaced(cluster.client.clone(), "kube-node-lease");
    let ready = async || {
        let conditions = nodes.get("agent-0").await.ok()?.status?.conditions?;
        Some(conditions.into_iter().find(|condition| condition.type_ == "Ready")?.status)
    };
    let kubelet = cluster.kubelet("agent-0", VERSION);
    until("its lease", async || leases.get("agent-0").await.ok()).await;
    // The controllers of another process have heard nothing of the node yet, however old its lease is.
    kubelet.abort();
    cluster.controllers.abort_all();
    let config = cluster.served.config.clone();
    cluster.controllers.spawn(async move { controllers_of(config).await });
    tokio::time::sleep(Duration::from_secs(38)).await;
    assert_eq!(ready().await.as_deref(), Some("True"));
    let unknown = async || ready().await.filter(|status| status == "Unknown");
    tokio::time::sleep(Duration::from_secs(10)).await;
    until("Unknown", unknown).await;
    let _kubelet = cluster.kubelet("agent-0", VERSION);
    until("Ready", async || ready().await.filter(|status| status == "True")).await;
    until("no taint", async || nodes.get("agent-0").await.ok()?.spec?.taints.is_none().then_some(())).await;
}
