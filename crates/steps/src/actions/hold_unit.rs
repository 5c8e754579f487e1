//! HoldUnit: a reboot of the host does not bring its node back.

use async_trait::async_trait;
use rke2flow_engine::action::{ActionInfo, Applied, Context, Failure, Place, Probe};
use rke2flow_engine::value::{FactSpec, Facts, ValueType};
use serde::{Deserialize, Serialize};

use crate::actions::{Goal, World, info};
use crate::command::Change;

/// Goal: a reboot of the host does not bring its node back. The fact `installed` is the version on its disk, to which an
/// abort goes back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HoldUnit {}

#[async_trait]
impl Goal for HoldUnit {
    const INFO: ActionInfo = ActionInfo {
        facts: &[FactSpec { name: "installed", kind: ValueType::Text }],
        ..info("HoldUnit", "a reboot of the host does not bring its node back", Place::Host, 2)
    };

    async fn probe(&self, world: &World, context: &Context) -> Result<Probe, Failure> {
        let survey = world.survey(context).await?;
        let parts = [(survey.hold, "the hold file is missing"), (survey.hold_drop_in, "the hold's drop-in is missing")];
        let missing: Vec<String> =
            parts.iter().filter(|(there, _)| !there).map(|(_, missing)| (*missing).to_owned()).collect();
        if !missing.is_empty() {
            return Ok(Probe::pending(missing.join("; ")));
        }
        Ok(Probe::Satisfied(Facts::from([("installed".to_owned(), survey.installed.into())])))
    }

    async fn apply(&self, world: &World, context: &Context) -> Result<Applied, Failure> {
        world.order(context, Change::Hold).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actions::testing::Scene;

    #[tokio::test(start_paused = true)]
    async fn holding_is_idempotent() {
        Scene::new().on("agent-0", HoldUnit {}).idempotent().await;
    }

    #[tokio::test(start_paused = true)]
    async fn half_a_hold_is_no_hold() {
        let scene = Scene::new();
        scene.survey("agent-0", |survey| survey.hold = true);
        assert_eq!(scene.on("agent-0", HoldUnit {}).pending().await, "the hold's drop-in is missing");
    }
}
