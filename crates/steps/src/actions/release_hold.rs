//! ReleaseHold: the node may start again.

use async_trait::async_trait;
use rke2flow_engine::action::{ActionInfo, Applied, Context, Failure, Place, Probe};
use serde::{Deserialize, Serialize};

use crate::actions::{Goal, World, info};
use crate::command::Change;

/// Goal: the node may start again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReleaseHold {}

#[async_trait]
impl Goal for ReleaseHold {
    const INFO: ActionInfo = info("ReleaseHold", "the node may start again", Place::Host, 2);

    async fn probe(&self, world: &World, context: &Context) -> Result<Probe, Failure> {
        if world.survey(context).await?.hold {
            return Ok(Probe::pending("the hold file is there"));
        }
        Ok(Probe::satisfied())
    }

    async fn apply(&self, world: &World, context: &Context) -> Result<Applied, Failure> {
        world.order(context, Change::ReleaseHold).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actions::testing::Scene;

    #[tokio::test(start_paused = true)]
    async fn releasing_is_idempotent() {
        let scene = Scene::new();
        scene.survey("agent-0", |survey| survey.hold = true);
        scene.on("agent-0", ReleaseHold {}).idempotent().await;
    }
}
