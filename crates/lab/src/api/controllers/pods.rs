//! Pods and ReplicaSets as controllers make them from a template.

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::view::{name, namespace};

/// The name of a template among those that a workload had.
pub fn hash(workload: &Value) -> String {
    let digest = Sha256::digest(workload["spec"]["template"].to_string());
    digest.iter().take(5).map(|byte| format!("{byte:02x}")).collect()
}

/// A pod of a workload's template, on a node unless the scheduler is to find one.
pub fn pod(workload: &Value, labels: &Value, node: Option<&str>) -> Value {
    let mut spec = workload["spec"]["template"]["spec"].clone();
    if let Some(node) = node {
        spec["nodeName"] = json!(node);
    }
    json!({
        "metadata": {
            "generateName": format!("{}-", name(workload)), "namespace": namespace(workload), "labels": labels,
            "ownerReferences": [owner(workload)],
        },
        "spec": spec,
    })
}

/// The ReplicaSet of a Deployment's template.
pub fn replica_set(deployment: &Value, hash: &str) -> Value {
    let mut template = deployment["spec"]["template"].clone();
    template["metadata"]["labels"]["pod-template-hash"] = json!(hash);
    let labels = template["metadata"]["labels"].clone();
    json!({
        "metadata": {
            "name": format!("{}-{hash}", name(deployment)), "namespace": namespace(deployment), "labels": labels,
            "ownerReferences": [owner(deployment)],
        },
        "spec": {"replicas": deployment["spec"]["replicas"], "selector": {"matchLabels": labels}, "template": template},
    })
}

fn owner(workload: &Value) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": workload["kind"], "name": name(workload), "uid": workload["metadata"]["uid"],
        "controller": true, "blockOwnerDeletion": true,
    })
}
