//! RestoreNodes: nodes have the labels, taints and cordons that they had before the outage.

use std::collections::BTreeMap;

use async_trait::async_trait;
use rke2flow_engine::action::{ActionInfo, Applied, Context, Failure, Place, Probe};
use rke2flow_engine::value::Param;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::actions::cordon::CORDONED;
use crate::actions::remember_cluster::NodeBefore;
use crate::actions::{Goal, World, info, known, noted, unless_missing};
use crate::kinds::{Node, Taint};

/// Goal: nodes have the labels, taints and cordons that they had before the outage.
///
/// A node that is newer than the snapshot registers itself anew, with nothing that a person had put on it. A cordon of
/// the snapshot that was lifted since is lifted again, and one that was put on since is put on again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RestoreNodes {
    /// What `RememberCluster` has left.
    pub nodes: Param<Vec<String>>,
}

#[async_trait]
impl Goal for RestoreNodes {
    const INFO: ActionInfo = info(
        "RestoreNodes",
        "nodes have the labels, taints and cordons that they had before the outage",
        Place::Operator,
        3,
    );

    async fn probe(&self, world: &World, _context: &Context) -> Result<Probe, Failure> {
        let lacking = self.lacking(world).await?;
        Ok(unless_missing(lacking.iter().map(Lack::to_text).collect()))
    }

    async fn apply(&self, world: &World, context: &Context) -> Result<Applied, Failure> {
        let lacking = self.lacking(world).await?;
        for lack in &lacking {
            world
                .changes(context)
                .patch(&Node::path(&lack.node.metadata.name), &lack.node.metadata, lack.change())
                .await?;
        }
        let attention = lacking.iter().map(|lack| format!("put back: {}", lack.to_text())).collect();
        Ok(Applied { attention, ..noted(format!("{} nodes are as they were", lacking.len())) })
    }
}

/// What a node lacks.
struct Lack {
    node: Node,
    labels: BTreeMap<String, String>,
    taints: Vec<Taint>,
    /// Whether it should be cordoned, when that differs.
    cordon: Option<bool>,
}

impl RestoreNodes {
    async fn lacking(&self, world: &World) -> Result<Vec<Lack>, Failure> {
        let before = NodeBefore::read(known(&self.nodes)?)?;
        if before.is_empty() {
            return Ok(Vec::new());
        }
        let nodes: Vec<Node> = world.objects().list("/api/v1/nodes").await?.unwrap_or_default();
        let lack = |node: Node| Lack::of(node, before.iter());
        Ok(nodes.into_iter().filter_map(lack).collect())
    }
}

impl Lack {
    fn of<'a>(node: Node, mut before: impl Iterator<Item = &'a NodeBefore>) -> Option<Self> {
        let before = before.find(|before| before.name == node.metadata.name)?;
        // Labels and taints are only put back on a node that had to register anew: elsewhere the snapshot's word counts.
        let anew = before.uid != node.metadata.uid;
        let labels = before.labels.iter().filter(|(key, _)| anew && !node.metadata.labels.contains_key(*key));
        let has = |taint: &Taint| node.spec.taints.iter().any(|own| own.key == taint.key && own.effect == taint.effect);
        let taints: Vec<Taint> = before.taints.iter().filter(|taint| anew && !has(taint)).cloned().collect();
        let ours = node.metadata.annotations.contains_key(CORDONED);
        let cordon = (!ours && before.cordoned != node.spec.unschedulable).then_some(before.cordoned);
        let labels: BTreeMap<String, String> = labels.map(|(key, value)| (key.clone(), value.clone())).collect();
        let lacks = !labels.is_empty() || !taints.is_empty() || cordon.is_some();
        lacks.then_some(Self { labels, taints, cordon, node })
    }

    fn change(&self) -> Value {
        let mut change = json!({});
        if !self.labels.is_empty() {
            change["metadata"]["labels"] = json!(self.labels);
        }
        if !self.taints.is_empty() {
            let all: Vec<&Taint> = self.node.spec.taints.iter().chain(&self.taints).collect();
            change["spec"]["taints"] = json!(all);
        }
        match self.cordon {
            Some(true) => change["spec"]["unschedulable"] = json!(true),
            Some(false) => change["spec"]["unschedulable"] = Value::Null,
            None => {}
        }
        change
    }

    fn to_text(&self) -> String {
        let mut lacks: Vec<String> = self.labels.iter().map(|(key, value)| format!("label {key}={value}")).collect();
        lacks.extend(self.taints.iter().map(|taint| format!("taint {}={}:{}", taint.key, taint.value, taint.effect)));
        lacks.extend(
            self.cordon.map(|cordon| if cordon { "cordon" } else { "no cordon, as before the outage" }.to_owned()),
        );
        format!("{}: {}", self.node.metadata.name, lacks.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actions::testing::Scene;

    const NODE: &str = "/api/v1/nodes/agent-0";

    fn restore(before: &NodeBefore) -> RestoreNodes {
        RestoreNodes { nodes: Param::Known(vec![serde_json::to_string(before).unwrap()]) }
    }

    fn before(uid: &str) -> NodeBefore {
        let taint = Taint { key: "gpu".to_owned(), value: "yes".to_owned(), effect: "NoSchedule".to_owned() };
        NodeBefore {
            name: "agent-0".to_owned(),
            uid: uid.to_owned(),
            cordoned: false,
            labels: BTreeMap::from([("team".to_owned(), "shop".to_owned()), ("zone".to_owned(), "z".to_owned())]),
            taints: vec![taint],
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_that_registered_anew_gets_its_labels_and_taints_back_and_keeps_its_own() {
        let scene = Scene::new();
        scene.edit(NODE, |node| node["spec"]["taints"] = json!([{ "key": "own", "value": "", "effect": "NoExecute" }]));
        scene.on("operator", restore(&before("another"))).idempotent().await;
        let node = scene.object(NODE).unwrap();
        assert_eq!(
            node["metadata"]["labels"],
            json!({ "team": "shop", "zone": "a" }),
            "what it has is not overwritten"
        );
        let taints: Vec<&str> =
            node["spec"]["taints"].as_array().unwrap().iter().filter_map(|taint| taint["key"].as_str()).collect();
        assert_eq!(taints, ["own", "gpu"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_of_the_snapshot_keeps_the_labels_of_the_snapshot() {
        let scene = Scene::new();
        let uid = scene.object(NODE).unwrap()["metadata"]["uid"].as_str().unwrap().to_owned();
        scene.on("operator", restore(&before(&uid))).satisfied().await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_cordon_out_of_the_snapshot_is_lifted_and_a_later_one_is_put_on_again() {
        let scene = Scene::new();
        scene.edit(NODE, |node| node["spec"]["unschedulable"] = true.into());
        let lifted = NodeBefore { name: "agent-0".to_owned(), ..NodeBefore::default() };
        scene.on("operator", restore(&lifted)).idempotent().await;
        assert!(scene.object(NODE).unwrap()["spec"]["unschedulable"].is_null());
        scene.on("operator", restore(&NodeBefore { cordoned: true, ..lifted })).idempotent().await;
        assert_eq!(scene.object(NODE).unwrap()["spec"]["unschedulable"], true);
    }

    #[tokio::test(start_paused = true)]
    async fn our_own_cordon_is_left_to_uncordon() {
        let scene = Scene::new();
        scene.edit(NODE, |node| {
            node["spec"]["unschedulable"] = true.into();
            node["metadata"]["annotations"] = json!({ CORDONED: "261101-0000-aaaa" });
        });
        let lifted = NodeBefore { name: "agent-0".to_owned(), ..NodeBefore::default() };
        scene.on("operator", restore(&lifted)).satisfied().await;
    }
}
