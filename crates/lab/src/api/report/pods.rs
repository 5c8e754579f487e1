//! The node's pods: static ones are mirrored, those of the API are run, and what runs is told.

use serde_json::{Value, json};
use tokio::sync::watch;

use super::node::owner;
use crate::api::client::{ApiError, Client};
use crate::api::objects::stamp;
use crate::process::RunningPod;

/// On the mirror of a static pod.
const MIRROR: &str = "kubernetes.io/config.mirror";

/// Brings the API and the node together.
pub async fn sync(
    client: &Client,
    node: &str,
    running: &[RunningPod],
    bound: &watch::Sender<Vec<RunningPod>>,
) -> Result<(), ApiError> {
    let pods = client.list(&format!("/api/v1/pods?fieldSelector=spec.nodeName%3D{node}")).await?;
    let (mirrors, others): (Vec<&Value>, Vec<&Value>) = pods.iter().partition(|pod| is_mirror(pod));
    let wanted = others.iter().filter(|pod| !ends(pod));
    bound.send_replace(wanted.map(|pod| wants(pod)).collect());
    for pod in &mirrors {
        match running.iter().find(|found| found.is_static && is_of(found, pod)) {
            Some(runs) if image(pod) == runs.image && !ends(pod) => tell(client, pod, Some(runs)).await?,
            // A mirror is replaced and never changed; its successor is made in the next turn.
            _ => drop(client.delete(&path(pod), pod, Some(0)).await?),
        }
    }
    for pod in running.iter().filter(|pod| pod.is_static && !mirrors.iter().any(|mirror| is_of(pod, mirror))) {
        mirror(client, node, pod).await?;
    }
    for pod in &others {
        match running.iter().find(|found| !found.is_static && is_of(found, pod)) {
            None if ends(pod) => drop(client.delete(&path(pod), pod, Some(0)).await?),
            runs => tell(client, pod, runs).await?,
        }
    }
    Ok(())
}

async fn mirror(client: &Client, node: &str, pod: &RunningPod) -> Result<(), ApiError> {
    // Without its Node there is nobody whom the mirror belongs to.
    let Some(found) = client.get(&format!("/api/v1/nodes/{node}")).await? else { return Ok(()) };
    let component = pod.name.strip_suffix(&format!("-{node}")).unwrap_or(&pod.name);
    let object = json!({
        "metadata": {
            "name": pod.name, "namespace": pod.namespace, "labels": {"component": component, "tier": "control-plane"},
            "annotations": {MIRROR: pod.image, "kubernetes.io/config.source": "file"}, "ownerReferences": [owner(&found)],
        },
        "spec": {"nodeName": node, "containers": [{"name": component, "image": pod.image}]},
    });
    client.create(&format!("/api/v1/namespaces/{}/pods", pod.namespace), &object).await.map(drop)
}

/// Tells whether a pod runs and is ready, when the API knows it otherwise.
async fn tell(client: &Client, pod: &Value, runs: Option<&RunningPod>) -> Result<(), ApiError> {
    let is_ready = runs.is_some_and(|runs| runs.ready);
    let ready = if is_ready { "True" } else { "False" };
    let phase = match runs {
        None if pod["status"]["phase"] == "Pending" => return Ok(()),
        _ => "Running",
    };
    let known = pod["status"]["conditions"].as_array().into_iter().flatten().find(|one| one["type"] == "Ready");
    if pod["status"]["phase"] == phase && known.is_some_and(|known| known["status"] == ready) {
        return Ok(());
    }
    let now = stamp();
    let state = if is_ready {
        json!({"running": {"startedAt": now}})
    } else {
        json!({"waiting": {"reason": "ContainerCreating"}})
    };
    let started = if pod["status"]["startTime"].is_string() { pod["status"]["startTime"].clone() } else { json!(now) };
    let mut told = pod.clone();
    told["status"] = json!({
        "phase": phase, "startTime": started,
        "conditions": [
            {"type": "Ready", "status": ready, "lastTransitionTime": now},
            {"type": "ContainersReady", "status": ready, "lastTransitionTime": now},
        ],
        "containerStatuses": [{
            "name": pod["spec"]["containers"][0]["name"], "image": image(pod), "ready": is_ready, "restartCount": 0,
            "state": state,
        }],
    });
    match client.replace(&format!("{}/status", path(pod)), &told).await {
        Err(ApiError::Refused { status: 404, .. }) => Ok(()),
        done => done.map(drop),
    }
}

fn wants(pod: &Value) -> RunningPod {
    let text = |field: &str| pod["metadata"][field].as_str().unwrap_or_default().to_owned();
    RunningPod {
        namespace: text("namespace"),
        name: text("name"),
        image: image(pod).to_owned(),
        is_static: false,
        ready: false,
    }
}

fn is_of(running: &RunningPod, pod: &Value) -> bool {
    pod["metadata"]["name"] == running.name.as_str() && pod["metadata"]["namespace"] == running.namespace.as_str()
}

fn is_mirror(pod: &Value) -> bool {
    pod["metadata"]["annotations"][MIRROR].is_string()
}

fn ends(pod: &Value) -> bool {
    pod["metadata"]["deletionTimestamp"].is_string()
}

fn image(pod: &Value) -> &str {
    pod["spec"]["containers"][0]["image"].as_str().unwrap_or_default()
}

fn path(pod: &Value) -> String {
    let text = |field: &str| pod["metadata"][field].as_str().unwrap_or_default();
    format!("/api/v1/namespaces/{}/pods/{}", text("namespace"), text("name"))
}
