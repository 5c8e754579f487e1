//! Cordon: no new pod is scheduled on the node.

use async_trait::async_trait;
use rke2flow_engine::action::{ActionInfo, Applied, Context, Disruption, Failure, Place, Probe};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::actions::{Goal, World, host_of, info, noted};
use crate::kinds::Node;

/// Goal: no new pod is scheduled on the node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cordon {}

#[async_trait]
impl Goal for Cordon {
    const INFO: ActionInfo = ActionInfo {
        disrupts: Disruption::Cordons,
        ..info("Cordon", "no new pod is scheduled on the node", Place::Host, 2)
    };

    async fn probe(&self, world: &World, context: &Context) -> Result<Probe, Failure> {
        let node = node(world, context).await?;
        if node.spec.unschedulable {
            return Ok(Probe::satisfied());
        }
        Ok(Probe::pending("the node takes new pods"))
    }

    async fn apply(&self, world: &World, context: &Context) -> Result<Applied, Failure> {
        let node = node(world, context).await?;
        if node.spec.unschedulable {
            return Ok(noted("it is cordoned already, and stays so"));
        }
        // Mark and cordon in one patch: a cut leaves neither or both, so that a person's own cordon is never taken for ours.
        let change = json!({
            "metadata": { "annotations": { CORDONED: context.run.as_str() } },
            "spec": { "unschedulable": true },
        });
        world.changes(context).patch(&Node::path(&node.metadata.name), &node.metadata, change).await?;
        Ok(noted("cordoned"))
    }
}

/// The annotation with the run that cordoned a node. A node that a person had cordoned before never gets it.
pub(crate) const CORDONED: &str = "rke2flow.io/cordoned";

/// The context's node; one that the API does not know is a failure.
pub(crate) async fn node(world: &World, context: &Context) -> Result<Node, Failure> {
    let host = host_of(context)?;
    let found = world.objects().get(&Node::path(host.as_str())).await?;
    found.ok_or_else(|| Failure::transient(format!("the API has no node {host}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actions::testing::Scene;

    #[tokio::test(start_paused = true)]
    async fn cordoning_is_idempotent() {
        Scene::new().on("agent-0", Cordon {}).idempotent().await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_that_a_person_has_cordoned_is_not_marked_as_ours() {
        let scene = Scene::new();
        scene.edit("/api/v1/nodes/agent-0", |node| node["spec"]["unschedulable"] = true.into());
        let bench = scene.on("agent-0", Cordon {});
        bench.satisfied().await;
        bench.apply().await;
        assert!(scene.object("/api/v1/nodes/agent-0").unwrap()["metadata"]["annotations"].is_null());
    }

    #[tokio::test(start_paused = true)]
    async fn a_run_whose_claim_is_gone_changes_nothing() {
        let scene = Scene::new();
        for host in ["server-0", "server-1", "server-2"] {
            scene.survey(host, |survey| survey.claim.as_mut().unwrap().claim.number = 4);
        }
        let failure = scene.on("agent-0", Cordon {}).failure_of_apply().await;
        assert_eq!(failure.class, rke2flow_engine::action::FailureClass::Fenced);
        assert!(scene.change(|state| state.changes.is_empty()));
    }
}
