//! Cordon: no new pod is scheduled on the node.

use async_trait::async_trait;
use rke2flow_engine::action::{ActionInfo, Applied, Context, Failure, Place, Probe};
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
    const INFO: ActionInfo = info("Cordon", "no new pod is scheduled on the node", Place::Host, 2);

    async fn probe(&self, world: &World, context: &Context) -> Result<Probe, Failure> {
        let node = node(world, context).await?;
        if node.spec.unschedulable {
            return Ok(Probe::satisfied());
        }
        Ok(Probe::pending("the node takes new pods"))
    }

    async fn apply(&self, world: &World, context: &Context) -> Result<Applied, Failure> {
        world.check_claim(context).await?;
        let node = node(world, context).await?;
        if node.spec.unschedulable {
            return Ok(noted("it is cordoned already, and stays so"));
        }
        // Mark and cordon in one patch: a cut leaves neither or both, so that a person's own cordon is never taken for ours.
        let change = json!({
            "metadata": { "annotations": { CORDONED: context.run.as_str() } },
            "spec": { "unschedulable": true },
        });
        world.objects().patch(&Node::path(&node.metadata.name), &node.metadata, change).await?;
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
