//! The Node and its Lease.

use jiff::{SignedDuration, Timestamp};
use rke2flow_twin::world::version::minor;
use serde_json::{Value, json};

use crate::api::client::{ApiError, Client};
use crate::api::objects::{micro_stamp, stamp};
use crate::process::Kubelet;

const NODES: &str = "/api/v1/nodes";
const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";
/// A status that has not changed is told again after this (kubelet's `nodeStatusReportFrequency`).
const AGAIN: SignedDuration = SignedDuration::from_secs(300);
/// What a node may be silent for.
const LEASE_SECONDS: u64 = 40;

/// Makes the Node, or takes over the one of its name: what others wrote on it stays.
pub async fn register(client: &Client, config: &Kubelet) -> Result<(), ApiError> {
    let path = format!("{NODES}/{}", config.node);
    let labels = labels(config);
    let Some(found) = client.get(&path).await? else {
        let mut node = json!({"metadata": {"name": config.node, "labels": labels}, "spec": {}});
        node["status"] = status(config, &Value::Null);
        return client.create(NODES, &node).await.map(drop);
    };
    let patch = json!({"metadata": {"uid": found["metadata"]["uid"], "labels": labels}});
    client.patch(&path, &patch).await.map(drop)
}

/// Tells that the node lives, by its own clock.
pub async fn renew(client: &Client, config: &Kubelet) -> Result<(), ApiError> {
    let spec =
        json!({"holderIdentity": config.node, "leaseDurationSeconds": LEASE_SECONDS, "renewTime": micro_stamp()});
    let path = format!("{LEASES}/{}", config.node);
    match client.get(&path).await? {
        Some(mut lease) => {
            lease["spec"] = spec;
            client.replace(&path, &lease).await.map(drop)
        }
        None => {
            let mut lease = json!({"metadata": {"name": config.node}, "spec": spec});
            if let Some(node) = client.get(&format!("{NODES}/{}", config.node)).await? {
                lease["metadata"]["ownerReferences"] = json!([owner(&node)]);
            }
            client.create(LEASES, &lease).await.map(drop)
        }
    }
}

/// Tells the node's status, when it is another than the API knows.
pub async fn report(client: &Client, config: &Kubelet) -> Result<(), ApiError> {
    let path = format!("{NODES}/{}", config.node);
    let Some(mut node) = client.get(&path).await? else { return Ok(()) };
    let known = node["status"].clone();
    let status = status(config, &known);
    if is_same(&known, &status) {
        return Ok(());
    }
    node["status"] = status;
    client.replace(&format!("{path}/status"), &node).await.map(drop)
}

/// A reference to the node as an owner.
pub fn owner(node: &Value) -> Value {
    let metadata = &node["metadata"];
    json!({"apiVersion": "v1", "kind": "Node", "name": metadata["name"], "uid": metadata["uid"]})
}

fn labels(config: &Kubelet) -> Value {
    let mut labels = json!({
        "kubernetes.io/hostname": config.node, "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64",
        "node.kubernetes.io/instance-type": crate::standin::flavor::traits(&config.version).name,
    });
    // `master` is gone since 1.34 (rke2#7042).
    let roles =
        ["control-plane", "etcd", "master"].into_iter().filter(|role| *role != "master" || minor(&config.version) < 34);
    for role in roles.filter(|_| config.server) {
        labels[format!("node-role.kubernetes.io/{role}")] = json!("true");
    }
    labels
}

/// What the kubelet says, with the conditions that others wrote.
fn status(config: &Kubelet, known: &Value) -> Value {
    let now = stamp();
    let conditions = known["conditions"].as_array().map(Vec::as_slice).unwrap_or_default();
    let before = conditions.iter().find(|condition| condition["type"] == "Ready");
    let since = before.filter(|ready| ready["status"] == "True").map(|ready| ready["lastTransitionTime"].clone());
    let ready = json!({
        "type": "Ready", "status": "True", "reason": "KubeletReady", "message": "kubelet is posting ready status",
        "lastHeartbeatTime": now, "lastTransitionTime": since.unwrap_or(json!(now)),
    });
    let others = conditions.iter().filter(|condition| condition["type"] != "Ready").cloned();
    let room = json!({"cpu": "2", "memory": "4Gi", "pods": "110"});
    json!({
        "addresses": [
            {"type": "InternalIP", "address": config.address},
            {"type": "Hostname", "address": config.node},
        ],
        "nodeInfo": {
            "kubeletVersion": config.version, "kubeProxyVersion": config.version, "bootID": boot(),
            "architecture": "amd64", "operatingSystem": "linux", "containerRuntimeVersion": "containerd://2.0.5-k3s2",
        },
        "conditions": others.chain([ready]).collect::<Vec<Value>>(), "capacity": room, "allocatable": room,
    })
}

fn is_same(known: &Value, status: &Value) -> bool {
    let without_heartbeats = |status: &Value| {
        let mut status = status.clone();
        for condition in status["conditions"].as_array_mut().into_iter().flatten() {
            condition["lastHeartbeatTime"] = Value::Null;
        }
        status
    };
    let conditions = known["conditions"].as_array().map(Vec::as_slice).unwrap_or_default();
    let ready = conditions.iter().find(|condition| condition["type"] == "Ready");
    let told = ready.and_then(|ready| ready["lastHeartbeatTime"].as_str()?.parse::<Timestamp>().ok());
    let fresh = told.is_some_and(|told| Timestamp::now().duration_since(told) < AGAIN);
    fresh && without_heartbeats(known) == without_heartbeats(status)
}

fn boot() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}
