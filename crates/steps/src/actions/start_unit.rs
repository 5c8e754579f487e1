//! StartUnit: the node's unit is active.

use async_trait::async_trait;
use rke2flow_engine::action::{ActionInfo, Applied, Context, Failure, Place, Probe};
use rke2flow_engine::value::Facts;
use rke2flow_engine::value::{FactSpec, ValueType};
use serde::{Deserialize, Serialize};

use crate::actions::{Goal, World, info, stamp};
use crate::answer::Survey;
use crate::command::Change;

/// Goal: the node's unit is active.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StartUnit {}

#[async_trait]
impl Goal for StartUnit {
    const INFO: ActionInfo = ActionInfo {
        facts: &[FactSpec { name: "started_at", kind: ValueType::Time }],
        ..info("StartUnit", "the node's unit is active", Place::Host, 60)
    };

    async fn probe(&self, world: &World, context: &Context) -> Result<Probe, Failure> {
        let survey = world.survey(context).await?;
        Ok(match survey.unit.as_str() {
            "active" => Probe::Satisfied(started_at(&survey)),
            "activating" => {
                Probe::InProgress(format!("the unit is activating, restarted {} times", survey.unit_restarts))
            }
            _ if survey.hold => Probe::pending("the hold keeps the unit down"),
            "" => Probe::pending("there is no unit"),
            other => Probe::pending(format!("the unit is {other}")),
        })
    }

    async fn apply(&self, world: &World, context: &Context) -> Result<Applied, Failure> {
        if world.survey(context).await?.hold {
            return Err(Failure::permanent("cannot start the unit while the hold file is there"));
        }
        world.order(context, Change::StartUnit).await
    }
}

/// The fact that `StartUnit` and `RestartUnit` leave, by the host's own clock.
pub(crate) fn started_at(survey: &Survey) -> Facts {
    Facts::from([("started_at".to_owned(), stamp(survey.unit_active_since).to_string().into())])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actions::testing::Scene;

    #[tokio::test(start_paused = true)]
    async fn starting_is_idempotent_and_tells_when() {
        let scene = Scene::new();
        scene.kill(&["server-0"]);
        let facts = scene.on("server-0", StartUnit {}).idempotent().await;
        assert_eq!(facts["started_at"], "2026-11-22T02:59:59Z");
    }

    #[tokio::test(start_paused = true)]
    async fn a_held_node_is_not_started() {
        let scene = Scene::new();
        scene.kill(&["server-0"]);
        scene.survey("server-0", |survey| survey.hold = true);
        let bench = scene.on("server-0", StartUnit {});
        assert_eq!(bench.pending().await, "the hold keeps the unit down");
        assert!(bench.failure_of_apply().await.what.contains("hold"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_unit_on_its_way_is_not_started_again() {
        let scene = Scene::new();
        scene.survey("server-0", |survey| survey.unit = "activating".to_owned());
        assert!(matches!(scene.on("server-0", StartUnit {}).probe().await, Probe::InProgress(_)));
    }
}
