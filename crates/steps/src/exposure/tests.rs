//! Who blocks a drain, and what has one pod only.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use async_trait::async_trait;
use rke2flow_engine::id::HostName;
use serde_json::{Value, json};

use super::{Blocking, Exposure, Single, of};
use crate::objects::Objects;
use crate::ports::{AccessError, KubeApi, KubeRequest, KubeResponse};

/// An API that has these collections, and refuses everything when it has none.
struct Collections(BTreeMap<&'static str, Vec<Value>>);

#[async_trait]
impl KubeApi for Collections {
    async fn call(&self, _server: Option<&HostName>, request: &KubeRequest) -> Result<KubeResponse, AccessError> {
        let plural = request.path.split('?').next().unwrap().rsplit('/').next().unwrap().to_owned();
        let status = if self.0.is_empty() { 503 } else { 200 };
        let items = self.0.get(plural.as_str()).cloned().unwrap_or_default();
        Ok(KubeResponse { status, body: json!({ "items": items, "metadata": {} }) })
    }
}

fn pod(name: &str, app: &str, node: &str, owner: Option<&str>) -> Value {
    let owners: Vec<Value> = owner.iter().map(|kind| json!({ "kind": kind })).collect();
    json!({
        "metadata": { "name": name, "namespace": "shop", "labels": { "app": app }, "ownerReferences": owners },
        "spec": { "nodeName": node }, "status": { "phase": "Running" },
    })
}

fn selecting(name: &str, app: &str, more: Value) -> Value {
    let mut object = json!({
        "metadata": { "name": name, "namespace": "shop" },
        "spec": { "selector": { "matchLabels": { "app": app } } },
    });
    for (part, fields) in more.as_object().unwrap() {
        for (key, value) in fields.as_object().unwrap() {
            object[part][key] = value.clone();
        }
    }
    object
}

fn shop() -> Collections {
    let mut gone = pod("old", "db", "agent-0", None);
    gone["status"]["phase"] = "Succeeded".into();
    let mut mirror = pod("etcd-agent-0", "etcd", "agent-0", None);
    mirror["metadata"]["annotations"] = json!({ "kubernetes.io/config.mirror": "x" });
    Collections(BTreeMap::from([
        (
            "pods",
            vec![
                pod("web-1", "web", "agent-0", Some("ReplicaSet")),
                pod("web-2", "web", "agent-1", Some("ReplicaSet")),
                pod("db-0", "db", "agent-0", Some("StatefulSet")),
                pod("log-1", "log", "agent-0", Some("DaemonSet")),
                pod("debug", "debug", "agent-1", None),
                gone,
                mirror,
            ],
        ),
        ("deployments", vec![selecting("web", "web", json!({ "spec": { "replicas": 2 } }))]),
        ("statefulsets", vec![selecting("db", "db", json!({ "spec": { "replicas": 1 } }))]),
        (
            "poddisruptionbudgets",
            vec![
                selecting("web", "web", json!({ "status": { "disruptionsAllowed": 1 } })),
                selecting(
                    "db",
                    "db",
                    json!({ "status": { "disruptionsAllowed": 0, "currentHealthy": 1, "desiredHealthy": 1 } }),
                ),
                selecting("log", "log", json!({ "status": { "disruptionsAllowed": 0 } })),
            ],
        ),
    ]))
}

async fn exposed(api: Collections, drained: &[&str], interrupted: &[&str]) -> Exposure {
    let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
    of(&Objects::new(Arc::new(api)), &set(drained), &set(interrupted)).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_budget_blocks_the_drain_of_a_node_with_its_pods_and_no_other() {
    let found = exposed(shop(), &["agent-0", "agent-1"], &[]).await;
    let why = "allows no eviction: 1 of 1 pods that it wants are healthy".to_owned();
    assert_eq!(found.blocking, [Blocking { budget: "shop/db".into(), why, nodes: vec!["agent-0".into()] }]);
    assert_eq!(exposed(shop(), &["agent-1"], &["agent-0"]).await.blocking, []);
}

#[tokio::test(start_paused = true)]
async fn a_pod_with_two_budgets_is_never_evicted() {
    let mut shop = shop();
    let second = selecting("web-too", "web", json!({ "status": { "disruptionsAllowed": 1 } }));
    shop.0.get_mut("poddisruptionbudgets").unwrap().push(second);
    let found = exposed(shop, &["agent-1"], &[]).await;
    assert_eq!(found.blocking[0].budget, "shop/web and shop/web-too");
    assert!(found.blocking[0].why.contains("several budgets"), "{found:?}");
}

#[tokio::test(start_paused = true)]
async fn workloads_of_one_pod_are_named_where_nodes_stop_serving() {
    let single =
        |kind: &str, name: &str, node: &str| Single { kind: kind.into(), name: name.into(), node: node.into() };
    let both = exposed(shop(), &[], &["agent-0", "agent-1"]).await.single;
    assert_eq!(both, [single("StatefulSet", "shop/db", "agent-0"), single("Pod", "shop/debug", "agent-1")]);
    assert_eq!(exposed(shop(), &["agent-1"], &[]).await.single, [single("Pod", "shop/debug", "agent-1")]);
    assert_eq!(exposed(shop(), &[], &["server-0"]).await.single, []);
}

#[tokio::test(start_paused = true)]
async fn an_api_that_refuses_is_no_cluster_without_workloads() {
    let none = BTreeSet::new();
    let refused = of(&Objects::new(Arc::new(Collections(BTreeMap::new()))), &none, &none).await;
    assert!(refused.unwrap_err().observed.contains("503"));
}
