//! What is left over: objects whose owner is gone, and pods of nodes that are gone.

use serde_json::Value;

use super::view::{View, belongs, name, namespace, pod_path};
use crate::api::client::{ApiError, Client};

/// Removes it.
pub async fn collect(client: &Client, view: &View) -> Result<(), ApiError> {
    for lease in view.leases.iter().filter(|lease| is_orphan(view, lease)) {
        let path = format!("/apis/coordination.k8s.io/v1/namespaces/{}/leases/{}", namespace(lease), name(lease));
        client.delete(&path, lease, None).await?;
    }
    for set in view.replica_sets.iter().filter(|set| is_orphan(view, set)) {
        let path = format!("/apis/apps/v1/namespaces/{}/replicasets/{}", namespace(set), name(set));
        client.delete(&path, set, None).await?;
    }
    for pod in &view.pods {
        let node = pod["spec"]["nodeName"].as_str();
        if node.is_some_and(|node| !view.nodes.iter().any(|found| name(found) == node)) {
            // Nobody is there to end it.
            client.delete(&pod_path(pod), pod, Some(0)).await?;
        } else if is_orphan(view, pod) && !super::view::ends(pod) {
            client.delete(&pod_path(pod), pod, None).await?;
        }
    }
    Ok(())
}

/// Whether all that it belongs to is gone. Owners of other kinds than are looked at here are taken to be there.
fn is_orphan(view: &View, object: &Value) -> bool {
    let owners = object["metadata"]["ownerReferences"].as_array().map(Vec::as_slice).unwrap_or_default();
    let known = |owner: &Value| match owner["kind"].as_str() {
        Some("Node") => Some(&view.nodes),
        Some("Deployment") => Some(&view.deployments),
        Some("ReplicaSet") => Some(&view.replica_sets),
        Some("DaemonSet") => Some(&view.daemon_sets),
        _ => None,
    };
    let gone = |owner: &Value| known(owner).is_some_and(|all| !all.iter().any(|found| belongs(object, found)));
    !owners.is_empty() && owners.iter().all(gone)
}
