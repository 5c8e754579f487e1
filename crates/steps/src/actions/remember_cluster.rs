//! RememberCluster: what a restore of etcd would forget of the nodes and volumes is known.

use async_trait::async_trait;
use rke2flow_engine::action::{ATTENTION, ActionInfo, Context, Failure, Place, Probe};
use rke2flow_engine::value::{FactSpec, Facts, Param, ValueType};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::actions::cordon::CORDONED;
use crate::actions::{Goal, World, info, moment};
use crate::kinds::{Node, Taint, Volume};

/// Goal: what a restore of etcd would forget of the nodes and volumes is known.
///
/// An API that is down tells nothing: then nothing can be put back, and that is said.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RememberCluster {
    /// When the snapshot was taken, RFC 3339: of a node that was made later it knows neither labels nor taints.
    pub since: Param<String>,
}

#[async_trait]
impl Goal for RememberCluster {
    const INFO: ActionInfo = ActionInfo {
        facts: &[
            FactSpec { name: "nodes", kind: ValueType::List },
            FactSpec { name: "volumes", kind: ValueType::List },
            FactSpec { name: ATTENTION, kind: ValueType::List },
        ],
        changes: false,
        ..info(
            "RememberCluster",
            "what a restore of etcd would forget of the nodes and volumes is known",
            Place::Operator,
            2,
        )
    };

    async fn probe(&self, world: &World, _context: &Context) -> Result<Probe, Failure> {
        let since = moment(&self.since)?;
        let told = async {
            let nodes: Vec<Node> = world.objects().list("/api/v1/nodes").await?.unwrap_or_default();
            let volumes: Vec<Volume> = world.objects().list(Volume::ALL).await?.unwrap_or_default();
            Ok::<_, Failure>((nodes, volumes))
        };
        let (nodes, volumes, attention) = match told.await {
            Ok((nodes, volumes)) => (nodes, volumes, Vec::new()),
            Err(failure) => {
                let what = "labels, taints and cordons of nodes that the snapshot does not know, and volumes made since, \
                            are not known: the API did not answer before the outage";
                (Vec::new(), Vec::new(), vec![format!("{what} ({failure})")])
            }
        };
        let newer =
            |node: &Node| since.is_none_or(|since| node.metadata.creation_timestamp.is_some_and(|at| at > since));
        let nodes: Vec<String> = nodes.iter().map(|node| NodeBefore::of(node, newer(node)).to_text()).collect();
        let volumes: Vec<String> = volumes.iter().map(Volume::handle).collect();
        Ok(Probe::Satisfied(Facts::from([
            ("nodes".to_owned(), json!(nodes)),
            ("volumes".to_owned(), json!(volumes)),
            (ATTENTION.to_owned(), json!(attention)),
        ])))
    }
}

/// A node as it was before the outage. One JSON text of the list `nodes`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct NodeBefore {
    /// Its name.
    pub name: String,
    /// Its uid: another one since means that it registered anew.
    pub uid: String,
    /// Whether a person had cordoned it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub cordoned: bool,
    /// Labels, of a node that the snapshot does not know.
    #[serde(skip_serializing_if = "std::collections::BTreeMap::is_empty")]
    pub labels: std::collections::BTreeMap<String, String>,
    /// Taints, of a node that the snapshot does not know.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub taints: Vec<Taint>,
}

impl NodeBefore {
    fn of(node: &Node, newer: bool) -> Self {
        let Node { metadata, spec, .. } = node;
        let labels = metadata.labels.iter().filter(|(key, _)| newer && is_kept(key));
        Self {
            name: metadata.name.clone(),
            uid: metadata.uid.clone(),
            cordoned: spec.unschedulable && !metadata.annotations.contains_key(CORDONED),
            labels: labels.map(|(key, value)| (key.clone(), value.clone())).collect(),
            taints: spec.taints.iter().filter(|taint| newer && is_kept(&taint.key)).cloned().collect(),
        }
    }

    fn to_text(&self) -> String {
        serde_json::to_string(self).expect("texts and flags are JSON")
    }

    /// What [`RememberCluster`] has left.
    pub fn read(texts: &[String]) -> Result<Vec<Self>, Failure> {
        let read = |text: &String| serde_json::from_str(text);
        let nodes: Result<Vec<Self>, _> = texts.iter().map(read).collect();
        nodes.map_err(|error| Failure::permanent("cannot understand what the nodes were").observed(error.to_string()))
    }
}

/// Whether a label or taint is a person's: the kubelet, the cloud and Kubernetes set their own again, and what an upgrade
/// plan has noted about a version is not true any more.
fn is_kept(key: &str) -> bool {
    let domain = key.split_once('/').map_or("", |(domain, _)| domain);
    let own = |of: &str| domain == of || domain.ends_with(&format!(".{of}"));
    // A role such as `node-role.kubernetes.io/worker` is set by hand; the others of this domain are not.
    domain == "node-role.kubernetes.io"
        || !(own("kubernetes.io") || own("k8s.io") || own("upgrade.cattle.io") || own("rke2flow.io"))
}

/// The value of a fact that is a list of texts.
#[cfg(test)]
pub(crate) fn texts(value: &serde_json::Value) -> Vec<String> {
    value.as_array().into_iter().flatten().filter_map(|text| text.as_str().map(str::to_owned)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actions::stamp;
    use crate::actions::testing::{NOW, Scene};

    fn remember() -> RememberCluster {
        RememberCluster { since: Param::Known(stamp(NOW - 60).to_string()) }
    }

    #[tokio::test(start_paused = true)]
    async fn of_nodes_that_are_newer_than_the_snapshot_a_persons_labels_and_taints_are_kept() {
        let scene = Scene::new();
        scene.edit("/api/v1/nodes/agent-1", |node| {
            node["metadata"]["labels"] = json!({
                "zone": "a", "kubernetes.io/hostname": "agent-1", "node-role.kubernetes.io/worker": "true",
                "plan.upgrade.cattle.io/server-plan": "abc",
            });
            node["spec"] = json!({ "taints": [
                { "key": "gpu", "value": "yes", "effect": "NoSchedule" },
                { "key": "node.kubernetes.io/not-ready", "effect": "NoExecute" },
            ]});
        });
        scene.edit("/api/v1/nodes/agent-0", |node| {
            node["metadata"]["creationTimestamp"] = json!(stamp(NOW - 9000).to_string());
            node["spec"]["unschedulable"] = true.into();
        });
        let facts = scene.on("operator", remember()).satisfied().await;
        let nodes = NodeBefore::read(&texts(&facts["nodes"])).unwrap();
        let of = |name: &str| nodes.iter().find(|node| node.name == name).unwrap();
        assert!(of("agent-0").cordoned && of("agent-0").labels.is_empty());
        let labels: Vec<&str> = of("agent-1").labels.keys().map(String::as_str).collect();
        assert_eq!(labels, ["node-role.kubernetes.io/worker", "zone"]);
        let taints: Vec<&str> = of("agent-1").taints.iter().map(|taint| taint.key.as_str()).collect();
        assert_eq!((taints, of("agent-1").cordoned), (vec!["gpu"], false));
    }

    #[tokio::test(start_paused = true)]
    async fn an_api_that_is_down_holds_nothing_up_and_is_told() {
        let scene = Scene::new();
        scene.change(|state| state.api_down = true);
        let facts = scene.on("operator", remember()).satisfied().await;
        assert_eq!(facts["nodes"], json!([]));
        assert!(texts(&facts["attention"])[0].contains("did not answer"));
    }
}
