//! EnableUnit: the node's unit starts at boot.

use async_trait::async_trait;
use rke2flow_engine::action::{ActionInfo, Applied, Context, Failure, Place, Probe};
use serde::{Deserialize, Serialize};

use crate::actions::{Goal, World, info};
use crate::command::Change;

/// Goal: the node's unit starts at boot. `install.sh` leaves that to a person (DOC:install/quickstart.md).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnableUnit {}

#[async_trait]
impl Goal for EnableUnit {
    const INFO: ActionInfo = info("EnableUnit", "the node's unit starts at boot", Place::Host, 2);

    async fn probe(&self, world: &World, context: &Context) -> Result<Probe, Failure> {
        let survey = world.survey(context).await?;
        Ok(match survey.unit_enabled {
            true => Probe::satisfied(),
            false if survey.unit.is_empty() => Probe::pending("there is no unit"),
            false => Probe::pending("the unit does not start at boot"),
        })
    }

    async fn apply(&self, world: &World, context: &Context) -> Result<Applied, Failure> {
        world.order(context, Change::EnableUnit).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actions::testing::Scene;

    #[tokio::test(start_paused = true)]
    async fn enabling_is_idempotent() {
        let scene = Scene::new();
        scene.survey("server-0", |survey| survey.unit_enabled = false);
        scene.on("server-0", EnableUnit {}).idempotent().await;
    }
}
