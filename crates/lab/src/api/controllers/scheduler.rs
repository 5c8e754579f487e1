//! Where pods go that have no node yet.

use serde_json::{Value, json};

use super::view::{View, ends, is_ready, name, pod_path};
use crate::api::client::{ApiError, Client};

/// Binds every pod that can run somewhere, to the node with the fewest.
pub async fn bind(client: &Client, view: &View) -> Result<(), ApiError> {
    let mut bound: Vec<String> =
        view.pods.iter().filter_map(|pod| pod["spec"]["nodeName"].as_str().map(str::to_owned)).collect();
    let waiting = view.pods.iter().filter(|pod| !pod["spec"]["nodeName"].is_string() && !ends(pod));
    for pod in waiting {
        let fits = view.nodes.iter().filter(|node| takes(node, pod));
        let count = |node: &&Value| bound.iter().filter(|found| *found == name(node)).count();
        let Some(node) = fits.min_by_key(count) else { continue };
        let patch = json!({"metadata": {"uid": pod["metadata"]["uid"]}, "spec": {"nodeName": name(node)}});
        client.patch(&pod_path(pod), &patch).await?;
        bound.push(name(node).to_owned());
    }
    Ok(())
}

fn takes(node: &Value, pod: &Value) -> bool {
    let tolerated = |taint: &Value| {
        taint["effect"] == "PreferNoSchedule"
            || pod["spec"]["tolerations"].as_array().into_iter().flatten().any(|toleration| {
                let key = &toleration["key"];
                (key.is_null() || *key == taint["key"])
                    && (toleration["effect"].is_null() || toleration["effect"] == taint["effect"])
                    && (toleration["operator"] == "Exists" || toleration["value"] == taint["value"])
            })
    };
    let taints = node["spec"]["taints"].as_array();
    is_ready(node)
        && !ends(node)
        && node["spec"]["unschedulable"] != true
        && taints.is_none_or(|taints| taints.iter().all(tolerated))
}
