//! StartUnit: the node's unit is active.

use async_trait::async_trait;
use rke2flow_engine::action::{ActionInfo, Applied, Context, Failure, Place, Probe};
use rke2flow_engine::id::HostName;
use rke2flow_engine::value::Facts;
use rke2flow_engine::value::{FactSpec, ValueType};
use serde::{Deserialize, Serialize};

use crate::actions::{Goal, World, host_of, info, stamp};
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
            "activating" => Probe::InProgress(on_its_way(world, host_of(context)?, &survey).await),
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

/// How many lines of a node's log are searched for the reason why it does not come up.
const LOG_LINES: u32 = 40;

/// What is known of a unit that starts. One that was restarted has failed before: its log says why.
pub(crate) async fn on_its_way(world: &World, host: &HostName, survey: &Survey) -> String {
    let state = format!("the unit is {}", survey.unit);
    if survey.unit_restarts == 0 {
        return state;
    }
    let restarted = format!("{state}, restarted {} times", survey.unit_restarts);
    let Ok(entry) = world.entry(host) else { return restarted };
    let unit = world.access().paths.unit(entry.role);
    // Without its log there is still its state.
    let log = world.hosts().log(host, &unit, LOG_LINES).await.unwrap_or_default();
    let lines = || log.lines().rev().filter(|line| !line.trim().is_empty());
    let said = lines().find(|line| line.contains("level=fatal")).or_else(|| lines().next());
    said.map_or(restarted.clone(), |line| format!("{restarted}; its log says: {}", line.trim()))
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
    async fn a_unit_that_fails_again_and_again_says_why() {
        let scene = Scene::new();
        scene.survey("server-0", |survey| (survey.unit, survey.unit_restarts) = ("activating".to_owned(), 7));
        let Probe::InProgress(why) = scene.on("server-0", StartUnit {}).probe().await else { panic!("not on its way") };
        assert_eq!(why, "the unit is activating, restarted 7 times; its log says: level=fatal msg=\"no luck\"");
    }

    #[tokio::test(start_paused = true)]
    async fn a_unit_on_its_way_is_not_started_again() {
        let scene = Scene::new();
        scene.survey("server-0", |survey| survey.unit = "activating".to_owned());
        assert!(matches!(scene.on("server-0", StartUnit {}).probe().await, Probe::InProgress(_)));
    }
}
