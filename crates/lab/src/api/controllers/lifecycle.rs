//! Nodes that have gone silent: their word is taken from them, and their pods serve nobody.

use std::collections::HashMap;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::view::{View, condition, is_ready, name, pod_path};
use crate::api::client::{ApiError, Client};
use crate::api::objects::stamp;

/// How long a node may be silent (kube-controller-manager's `--node-monitor-grace-period`).
const GRACE: Duration = Duration::from_secs(40);
const UNREACHABLE: &str = "node.kubernetes.io/unreachable";

/// When each node was last heard of. A lease counts from when it was first seen here and not from its own date, as in
/// Kubernetes: a node that a restored snapshot says is ready stays so for a while, dead or not.
#[derive(Default)]
pub struct Lifecycle {
    heard: HashMap<String, (Value, Instant)>,
}

impl Lifecycle {
    /// Another server leads: what was heard is of no use any more.
    pub fn forget(&mut self) {
        self.heard.clear();
    }

    /// Looks at every node.
    pub async fn watch(&mut self, client: &Client, view: &View) -> Result<(), ApiError> {
        self.heard.retain(|node, _| view.nodes.iter().any(|found| name(found) == node));
        for node in &view.nodes {
            let lease = view.leases.iter().find(|lease| name(lease) == name(node));
            let said = json!([node["metadata"]["uid"], lease.map(|lease| &lease["spec"]["renewTime"])]);
            let heard = self.heard.entry(name(node).to_owned()).or_insert_with(|| (said.clone(), Instant::now()));
            if heard.0 != said {
                *heard = (said, Instant::now());
            }
            let silent = heard.1.elapsed() > GRACE;
            if silent {
                lost(client, view, node).await?;
            }
            taint(client, node, silent).await?;
        }
        Ok(())
    }
}

async fn lost(client: &Client, view: &View, node: &Value) -> Result<(), ApiError> {
    let now = stamp();
    if condition(node, "Ready").is_none_or(|ready| ready["status"] != "Unknown") {
        let mut lost = node.clone();
        let others = node["status"]["conditions"].as_array().into_iter().flatten().filter(|one| one["type"] != "Ready");
        let ready = json!({
            "type": "Ready", "status": "Unknown", "reason": "NodeStatusUnknown",
            "message": "Kubelet stopped posting node status.", "lastTransitionTime": now,
            "lastHeartbeatTime": condition(node, "Ready").map(|ready| &ready["lastHeartbeatTime"]),
        });
        lost["status"]["conditions"] = others.cloned().chain([ready]).collect();
        client.replace(&format!("/api/v1/nodes/{}/status", name(node)), &lost).await?;
    }
    for pod in view.pods.iter().filter(|pod| pod["spec"]["nodeName"] == name(node) && is_ready(pod)) {
        let mut lost = pod.clone();
        for condition in lost["status"]["conditions"].as_array_mut().into_iter().flatten() {
            if condition["type"] == "Ready" {
                condition["status"] = json!("False");
                condition["lastTransitionTime"] = json!(now);
            }
        }
        client.replace(&format!("{}/status", pod_path(pod)), &lost).await?;
    }
    Ok(())
}

/// Nothing is scheduled to a node that is lost.
async fn taint(client: &Client, node: &Value, silent: bool) -> Result<(), ApiError> {
    let taints = node["spec"]["taints"].as_array().cloned().unwrap_or_default();
    let tainted = taints.iter().any(|taint| taint["key"] == UNREACHABLE);
    let mut changed: Vec<Value> = taints.into_iter().filter(|taint| taint["key"] != UNREACHABLE).collect();
    if silent == tainted || (tainted && !is_ready(node)) {
        return Ok(());
    }
    if silent {
        let taint = |effect: &str| json!({"key": UNREACHABLE, "effect": effect, "timeAdded": stamp()});
        changed.extend([taint("NoSchedule"), taint("NoExecute")]);
    }
    let taints = if changed.is_empty() { Value::Null } else { json!(changed) };
    let patch = json!({"metadata": {"uid": node["metadata"]["uid"]}, "spec": {"taints": taints}});
    client.patch(&format!("/api/v1/nodes/{}", name(node)), &patch).await.map(drop)
}
