//! Deployments and DaemonSets: pods of the current template everywhere, and a status that counts what kubelets report.

use serde_json::{Value, json};

use super::pods;
use super::view::{View, belongs, ends, is_ready, name, namespace, pod_path};
use crate::api::client::{ApiError, Client};

/// Label of a DaemonSet's pods with their template.
const REVISION: &str = "controller-revision-hash";

/// Brings every Deployment forward.
pub async fn deployments(client: &Client, view: &View) -> Result<(), ApiError> {
    for deployment in view.deployments.iter().filter(|deployment| !ends(deployment)) {
        deploy(client, view, deployment).await?;
    }
    Ok(())
}

async fn deploy(client: &Client, view: &View, deployment: &Value) -> Result<(), ApiError> {
    let hash = pods::hash(deployment);
    let sets: Vec<&Value> = view.replica_sets.iter().filter(|set| belongs(set, deployment)).collect();
    let current = sets.iter().find(|set| set["spec"]["template"]["metadata"]["labels"]["pod-template-hash"] == hash);
    let collection = format!("/apis/apps/v1/namespaces/{}/replicasets", namespace(deployment));
    let Some(current) = current else {
        client.create(&collection, &pods::replica_set(deployment, &hash)).await?;
        return report(client, deployment, json!({"replicas": alive(view, &sets).len()})).await;
    };
    let wanted = deployment["spec"]["replicas"].as_u64().unwrap_or(1) as usize;
    let mut new = alive(view, &[current]);
    // Those that serve are kept before those that do not.
    new.sort_by_key(|pod| !is_ready(pod));
    let available = new.iter().filter(|pod| is_ready(pod)).count();
    for _ in new.len()..wanted {
        let labels = &current["spec"]["template"]["metadata"]["labels"];
        create(client, pods::pod(current, labels, None)).await?;
    }
    for extra in new.iter().skip(wanted) {
        client.delete(&pod_path(extra), extra, None).await?;
    }
    // An old pod goes once the new ones serve: 25 % of a few replicas may be missing, which is none.
    let old: Vec<&Value> = sets.iter().copied().filter(|set| name(set) != name(current)).collect();
    let outdated = alive(view, &old);
    if available >= wanted {
        for pod in &outdated {
            client.delete(&pod_path(pod), pod, None).await?;
        }
        for set in old.iter().filter(|set| view.pods_of(set).is_empty()) {
            client.delete(&format!("{collection}/{}", name(set)), set, None).await?;
        }
    }
    let ready = available + outdated.iter().filter(|pod| is_ready(pod)).count();
    let counts = json!({
        "replicas": new.len() + outdated.len(), "updatedReplicas": new.len(), "readyReplicas": ready,
        "availableReplicas": ready,
    });
    report(client, deployment, counts).await
}

/// Brings every DaemonSet forward.
pub async fn daemon_sets(client: &Client, view: &View) -> Result<(), ApiError> {
    for set in view.daemon_sets.iter().filter(|set| !ends(set)) {
        spread(client, view, set).await?;
    }
    Ok(())
}

async fn spread(client: &Client, view: &View, set: &Value) -> Result<(), ApiError> {
    let hash = pods::hash(set);
    let all = view.pods_of(set);
    let is_new = |pod: &Value| pod["metadata"]["labels"][REVISION] == hash;
    let mut labels = set["spec"]["template"]["metadata"]["labels"].clone();
    labels[REVISION] = json!(hash);
    let (mut current, mut updated, mut available) = (0, 0, 0);
    let mut outdated = Vec::new();
    for node in &view.nodes {
        let here: Vec<&&Value> = all.iter().filter(|pod| pod["spec"]["nodeName"] == name(node)).collect();
        // The successor of a pod that ends begins when its kubelet has ended it.
        if here.is_empty() {
            create(client, pods::pod(set, &labels, Some(name(node)))).await?;
        }
        let Some(pod) = here.iter().find(|pod| !ends(pod)) else { continue };
        current += 1;
        available += usize::from(is_ready(pod));
        updated += usize::from(is_new(pod));
        if !is_new(pod) {
            outdated.push(**pod);
        }
    }
    let wanted = view.nodes.len();
    // maxUnavailable is 1: those that do not serve go first, and of the others one while all serve.
    outdated.sort_by_key(|pod| is_ready(pod));
    let next = outdated.first().filter(|pod| !is_ready(pod) || available == wanted);
    if let Some(pod) = next {
        client.delete(&pod_path(pod), pod, None).await?;
    }
    let counts = json!({
        "desiredNumberScheduled": wanted, "currentNumberScheduled": current, "updatedNumberScheduled": updated,
        "numberAvailable": available, "numberReady": available, "numberMisscheduled": 0,
        "numberUnavailable": wanted - available,
    });
    report(client, set, counts).await
}

async fn create(client: &Client, pod: Value) -> Result<(), ApiError> {
    client.create(&format!("/api/v1/namespaces/{}/pods", namespace(&pod)), &pod).await.map(drop)
}

async fn report(client: &Client, workload: &Value, mut counts: Value) -> Result<(), ApiError> {
    counts["observedGeneration"] = workload["metadata"]["generation"].clone();
    if workload["status"] == counts {
        return Ok(());
    }
    let plural = format!("{}s", workload["kind"].as_str().unwrap_or_default().to_lowercase());
    let path = format!("/apis/apps/v1/namespaces/{}/{plural}/{}/status", namespace(workload), name(workload));
    let mut reported = workload.clone();
    reported["status"] = counts;
    client.replace(&path, &reported).await.map(drop)
}

fn alive<'v>(view: &'v View, sets: &[&Value]) -> Vec<&'v Value> {
    sets.iter().flat_map(|set| view.pods_of(set)).filter(|pod| !ends(pod)).collect()
}
