use serde_json::{Value, json};

use super::*;
use crate::actions::testing::Scene;

fn drain() -> Drain {
    let no = || Param::Known(false);
    Drain { wanted: yes(), within: five_minutes(), delete_emptydir_data: no(), force: no() }
}

fn pod(owner: Option<&str>) -> Value {
    let owners: Vec<Value> = owner.map(|kind| json!({ "kind": kind, "controller": true })).into_iter().collect();
    json!({
        "metadata": { "ownerReferences": owners, "labels": { "app": "web" } },
        "spec": { "nodeName": "agent-0" }, "status": { "phase": "Running" },
    })
}

const WEB: &str = "/api/v1/namespaces/shop/pods/web-0";

/// A cordoned node with a pod that a controller makes again, and with what a drain leaves.
fn cordoned() -> Scene {
    let scene = Scene::new();
    scene.edit("/api/v1/nodes/agent-0", |node| node["spec"]["unschedulable"] = true.into());
    scene.put(WEB, pod(Some("ReplicaSet")));
    scene.put("/api/v1/namespaces/shop/pods/log-0", pod(Some("DaemonSet")));
    scene.put("/api/v1/namespaces/kube-system/pods/kube-proxy-agent-0", pod(Some("Node")));
    let mut ended = pod(Some("Job"));
    ended["status"]["phase"] = "Succeeded".into();
    scene.put("/api/v1/namespaces/shop/pods/once", ended);
    scene
}

#[tokio::test(start_paused = true)]
async fn draining_is_idempotent_and_leaves_what_is_bound_to_the_node() {
    let scene = cordoned();
    assert_eq!(scene.on("agent-0", drain()).pending().await, "1 pods run on the node: shop/web-0");
    scene.on("agent-0", drain()).idempotent().await;
    assert!(scene.object(WEB).is_none());
    for name in ["shop/pods/log-0", "shop/pods/once", "kube-system/pods/kube-proxy-agent-0"] {
        assert!(scene.object(&format!("/api/v1/namespaces/{name}")).is_some(), "{name}");
    }
    scene.on("agent-1", drain()).satisfied().await;
}

#[tokio::test(start_paused = true)]
async fn a_node_is_drained_only_when_that_is_wanted_and_only_when_it_is_cordoned() {
    let scene = cordoned();
    scene.on("agent-0", Drain { wanted: Param::Known(false), ..drain() }).satisfied().await;
    scene.edit("/api/v1/nodes/agent-0", |node| node["spec"]["unschedulable"] = false.into());
    let failure = scene.on("agent-0", drain()).failure_of_apply().await;
    assert!(failure.what.contains("cordon it first"), "{failure}");
    assert!(scene.object(WEB).is_some());
}

#[tokio::test(start_paused = true)]
async fn what_would_be_lost_is_refused_all_at_once_before_the_first_eviction() {
    let scene = cordoned();
    scene.put("/api/v1/namespaces/shop/pods/alone", pod(None));
    scene.edit(WEB, |pod| pod["spec"]["volumes"] = json!([{ "name": "cache", "emptyDir": {} }]));
    let failure = scene.on("agent-0", drain()).failure_of_apply().await;
    assert_eq!(failure.class, FailureClass::Refused);
    let expected = "no controller makes shop/alone again\nshop/web-0 have data in emptyDir volumes";
    assert_eq!(failure.observed, expected);
    assert!(scene.change(|state| state.changes.is_empty()));
    let yes = || Param::Known(true);
    scene.on("agent-0", Drain { force: yes(), delete_emptydir_data: yes(), ..drain() }).idempotent().await;
}

#[tokio::test(start_paused = true)]
async fn a_budget_that_allows_nothing_is_waited_for_and_named_with_its_pods() {
    let scene = cordoned();
    scene
        .change(|state| state.budget = "The disruption budget web needs 1 healthy pods and has 1 currently".to_owned());
    let began = tokio::time::Instant::now();
    let failure = scene.on("agent-0", drain()).failure_of_apply().await;
    assert_eq!(began.elapsed(), Duration::from_secs(300));
    assert_eq!(failure.what, "agent-0 was not drained within 5m");
    let expected = "shop/web-0 may not be evicted: The disruption budget web needs 1 healthy pods and has 1 currently";
    assert_eq!(failure.observed, expected);
    assert!(scene.object(WEB).is_some());
}

#[tokio::test(start_paused = true)]
async fn an_evicted_pod_counts_until_it_has_ended() {
    let scene = cordoned();
    scene.edit(WEB, |pod| pod["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into());
    let failure = scene.on("agent-0", drain()).failure_of_apply().await;
    assert_eq!(failure.observed, "shop/web-0 have not ended");
}

#[tokio::test(start_paused = true)]
async fn a_run_whose_claim_is_gone_evicts_nothing() {
    let scene = cordoned();
    for host in ["server-0", "server-1", "server-2"] {
        scene.survey(host, |survey| survey.claim.as_mut().unwrap().claim.number = 4);
    }
    let failure = scene.on("agent-0", drain()).failure_of_apply().await;
    assert_eq!(failure.class, FailureClass::Fenced);
    assert!(scene.object(WEB).is_some());
}
