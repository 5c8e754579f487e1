//! Uncordon: the node is not cordoned by rke2flow.

use async_trait::async_trait;
use rke2flow_engine::action::{ActionInfo, Applied, Context, Failure, Place, Probe};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::actions::cordon::{CORDONED, node};
use crate::actions::upgrade_plan::STAYS_CORDONED;
use crate::actions::{Goal, World, info, noted};
use crate::kinds::Node;

/// Goal: the node is not cordoned by rke2flow.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Uncordon {}

#[async_trait]
impl Goal for Uncordon {
    const INFO: ActionInfo = info("Uncordon", "the node is not cordoned by rke2flow", Place::Host, 2);

    async fn probe(&self, world: &World, context: &Context) -> Result<Probe, Failure> {
        let annotations = node(world, context).await?.metadata.annotations;
        Ok(match (annotations.get(CORDONED), annotations.get(STAYS_CORDONED)) {
            (Some(run), _) => Probe::pending(format!("run {run} has cordoned the node")),
            (None, Some(run)) => Probe::pending(format!("run {run} found the node cordoned by somebody else")),
            (None, None) => Probe::satisfied(),
        })
    }

    async fn apply(&self, world: &World, context: &Context) -> Result<Applied, Failure> {
        let node = node(world, context).await?;
        let annotations = &node.metadata.annotations;
        if annotations.contains_key(STAYS_CORDONED) && !annotations.contains_key(CORDONED) {
            let change =
                json!({ "metadata": { "annotations": { STAYS_CORDONED: null } }, "spec": { "unschedulable": true } });
            world.changes(context).patch(&Node::path(&node.metadata.name), &node.metadata, change).await?;
            return Ok(noted("somebody else had cordoned it: it is again"));
        }
        if !annotations.contains_key(CORDONED) {
            return Ok(noted("it was not cordoned by rke2flow"));
        }
        let change = json!({ "metadata": { "annotations": { CORDONED: null } }, "spec": { "unschedulable": null } });
        world.changes(context).patch(&Node::path(&node.metadata.name), &node.metadata, change).await?;
        Ok(noted("uncordoned"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actions::cordon::Cordon;
    use crate::actions::testing::Scene;

    #[tokio::test(start_paused = true)]
    async fn uncordoning_what_we_cordoned_is_idempotent() {
        let scene = Scene::new();
        scene.on("agent-0", Cordon {}).apply().await;
        scene.on("agent-0", Uncordon {}).idempotent().await;
        assert!(scene.object("/api/v1/nodes/agent-0").unwrap()["spec"]["unschedulable"].is_null());
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_person_has_cordoned_stays_so() {
        let scene = Scene::new();
        scene.edit("/api/v1/nodes/agent-0", |node| node["spec"]["unschedulable"] = true.into());
        let bench = scene.on("agent-0", Uncordon {});
        bench.satisfied().await;
        bench.apply().await;
        assert_eq!(scene.object("/api/v1/nodes/agent-0").unwrap()["spec"]["unschedulable"], true);
    }
}
