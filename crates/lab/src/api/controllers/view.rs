//! The cluster at one turn.

use serde_json::Value;

use crate::api::client::{ApiError, Client};

/// Pods of every namespace.
const PODS: &str = "/api/v1/pods";
const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";
const REPLICA_SETS: &str = "/apis/apps/v1/replicasets";
const DEPLOYMENTS: &str = "/apis/apps/v1/deployments";
const DAEMON_SETS: &str = "/apis/apps/v1/daemonsets";
const NODES: &str = "/api/v1/nodes";

/// What there is.
pub struct View {
    pub pods: Vec<Value>,
    pub leases: Vec<Value>,
    pub replica_sets: Vec<Value>,
    pub deployments: Vec<Value>,
    pub daemon_sets: Vec<Value>,
    pub nodes: Vec<Value>,
}

impl View {
    /// Looks. What belongs to something is looked at before what it belongs to: an owner that is not seen is gone.
    pub async fn look(client: &Client) -> Result<Self, ApiError> {
        Ok(Self {
            pods: client.list(PODS).await?,
            leases: client.list(LEASES).await?,
            replica_sets: client.list(REPLICA_SETS).await?,
            deployments: client.list(DEPLOYMENTS).await?,
            daemon_sets: client.list(DAEMON_SETS).await?,
            nodes: client.list(NODES).await?,
        })
    }

    /// The pods of an owner.
    pub fn pods_of<'v>(&'v self, owner: &Value) -> Vec<&'v Value> {
        self.pods.iter().filter(|pod| belongs(pod, owner)).collect()
    }
}

/// Whether an object says that it belongs to another.
pub fn belongs(object: &Value, owner: &Value) -> bool {
    let uid = &owner["metadata"]["uid"];
    object["metadata"]["ownerReferences"].as_array().into_iter().flatten().any(|reference| reference["uid"] == *uid)
}

/// Its name.
pub fn name(object: &Value) -> &str {
    object["metadata"]["name"].as_str().unwrap_or_default()
}

/// Its namespace.
pub fn namespace(object: &Value) -> &str {
    object["metadata"]["namespace"].as_str().unwrap_or_default()
}

/// Whether its deletion was asked for.
pub fn ends(object: &Value) -> bool {
    object["metadata"]["deletionTimestamp"].is_string()
}

/// Whether it says that it is ready.
pub fn is_ready(object: &Value) -> bool {
    condition(object, "Ready").is_some_and(|condition| condition["status"] == "True")
}

/// A condition of its.
pub fn condition<'v>(object: &'v Value, kind: &str) -> Option<&'v Value> {
    object["status"]["conditions"].as_array()?.iter().find(|condition| condition["type"] == kind)
}

/// The path of a pod.
pub fn pod_path(pod: &Value) -> String {
    format!("/api/v1/namespaces/{}/pods/{}", namespace(pod), name(pod))
}
