//! CleanUp: nothing that rke2flow put into the node's configuration is left.

use async_trait::async_trait;
use rke2flow_engine::action::{ActionInfo, Applied, Context, Failure, Place, Probe};
use serde::{Deserialize, Serialize};

use crate::actions::{Goal, World, info, unless_missing};
use crate::command::Change;

/// Goal: nothing that rke2flow put into the node's configuration is left.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CleanUp {}

#[async_trait]
impl Goal for CleanUp {
    const INFO: ActionInfo =
        info("CleanUp", "nothing that rke2flow put into the node's configuration is left", Place::Host, 2);

    async fn probe(&self, world: &World, context: &Context) -> Result<Probe, Failure> {
        let survey = world.survey(context).await?;
        let mut left = Vec::new();
        if !survey.server_override.is_empty() {
            left.push("the drop-in for `server:` is there".to_owned());
        }
        if survey.hold {
            left.push("the hold file is there".to_owned());
        }
        if survey.hold_drop_in {
            left.push("the hold's drop-in is there".to_owned());
        }
        Ok(unless_missing(left))
    }

    async fn apply(&self, world: &World, context: &Context) -> Result<Applied, Failure> {
        world.order(context, Change::CleanUp).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actions::testing::Scene;

    #[tokio::test(start_paused = true)]
    async fn cleaning_up_is_idempotent_and_leaves_nothing() {
        let scene = Scene::new();
        scene.survey("server-1", |survey| {
            (survey.hold, survey.hold_drop_in) = (true, true);
            survey.server_override = "261101-0000-aaaa https://10.0.0.0:9345".to_owned();
        });
        scene.on("server-1", CleanUp {}).idempotent().await;
    }
}
