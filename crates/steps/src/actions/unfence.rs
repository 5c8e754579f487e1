//! Unfence: upgrade plans and schedules are as they were before rke2flow stopped them.

use async_trait::async_trait;
use rke2flow_engine::action::{ActionInfo, Applied, Context, Failure, Place, Probe};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::actions::disable_upgrade_plans::{FENCED, WAS_SELECTOR, plans};
use crate::actions::pause_schedules::{WAS_PAUSED, path, schedules};
use crate::actions::{Goal, World, info, noted, unless_missing};
use crate::kinds::{Schedule, UpgradePlan};

/// Goal: upgrade plans and schedules are as they were before rke2flow stopped them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unfence {}

#[async_trait]
impl Goal for Unfence {
    const INFO: ActionInfo = info(
        "Unfence",
        "upgrade plans and schedules are as they were before rke2flow stopped them",
        Place::Operator,
        5,
    );

    async fn probe(&self, world: &World, _context: &Context) -> Result<Probe, Failure> {
        let (plans, schedules) = left(world).await?;
        let plans = plans.iter().map(|plan| format!("Plan {} is fenced", plan.metadata.name));
        let schedules = schedules.iter().map(|schedule| format!("Schedule {} is paused", schedule.metadata.name));
        Ok(unless_missing(plans.chain(schedules).collect()))
    }

    async fn apply(&self, world: &World, context: &Context) -> Result<Applied, Failure> {
        world.check_claim(context).await?;
        let (plans, schedules) = left(world).await?;
        for plan in &plans {
            let change = json!({
                "metadata": { "annotations": { WAS_SELECTOR: null } },
                "spec": { "nodeSelector": original_selector(plan)? },
            });
            world.objects().patch(&plan.path(), &plan.metadata, change).await?;
        }
        for schedule in &schedules {
            let change = json!({
                "metadata": { "annotations": { WAS_PAUSED: null } },
                "spec": { "paused": false },
            });
            world.objects().patch(&path(world, schedule), &schedule.metadata, change).await?;
        }
        Ok(noted(format!("{} plans and {} schedules are as they were", plans.len(), schedules.len())))
    }
}

/// Plans and schedules that still have the annotation with their original, of whichever run.
pub(crate) async fn left(world: &World) -> Result<(Vec<UpgradePlan>, Vec<Schedule>), Failure> {
    let plans = plans(world).await?.into_iter().filter(|plan| plan.metadata.annotations.contains_key(WAS_SELECTOR));
    let schedules = schedules(world).await?.into_iter();
    let schedules = schedules.filter(|schedule| schedule.metadata.annotations.contains_key(WAS_PAUSED));
    Ok((plans.collect(), schedules.collect()))
}

/// The merge that brings a Plan's own selector back. A Plan without one acts on nothing, one with an empty one on every
/// node: the two must not be confused.
fn original_selector(plan: &UpgradePlan) -> Result<Value, Failure> {
    let kept = plan.metadata.annotations.get(WAS_SELECTOR).map(String::as_str).unwrap_or("null");
    let original: Value = serde_json::from_str(kept).map_err(|error| {
        let what = format!("cannot read the original selector of Plan {}", plan.metadata.name);
        Failure::permanent(what).observed(format!("{WAS_SELECTOR}: {kept} ({error})"))
    })?;
    Ok(match original {
        Value::Object(mut selector) => {
            match selector.get_mut("matchLabels") {
                Some(Value::Object(labels)) => drop(labels.insert(FENCED.to_owned(), Value::Null)),
                _ => drop(selector.insert("matchLabels".to_owned(), Value::Null)),
            }
            Value::Object(selector)
        }
        _ => Value::Null,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actions::disable_upgrade_plans::DisableUpgradePlans;
    use crate::actions::pause_schedules::PauseSchedules;
    use crate::actions::testing::Scene;
    use rke2flow_engine::value::Param;

    const PLAN: &str = "/apis/upgrade.cattle.io/v1/namespaces/system-upgrade/plans/server-plan";
    const SCHEDULE: &str = "/apis/velero.io/v1/namespaces/velero/schedules/nightly";

    async fn fence(scene: &Scene) {
        scene.on("operator", DisableUpgradePlans { wait_for_running: Param::Known(true) }).apply().await;
        scene.on("operator", PauseSchedules { wait_for_running: Param::Known(true) }).apply().await;
    }

    #[tokio::test(start_paused = true)]
    async fn plans_and_schedules_are_as_they_were() {
        for selector in
            [json!({ "matchLabels": { "role": "server" } }), json!({ "matchExpressions": [{ "key": "a" }] }), json!({})]
        {
            let scene = Scene::new();
            scene.put(PLAN, json!({ "spec": { "nodeSelector": selector } }));
            scene.put(SCHEDULE, json!({ "spec": { "paused": false } }));
            fence(&scene).await;
            scene.on("operator", Unfence {}).idempotent().await;
            assert_eq!(scene.object(PLAN).unwrap()["spec"]["nodeSelector"], selector);
            assert_eq!(scene.object(SCHEDULE).unwrap()["spec"]["paused"], false);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_plan_without_a_selector_gets_none_and_not_one_for_every_node() {
        let scene = Scene::new();
        scene.put(PLAN, json!({ "spec": {} }));
        fence(&scene).await;
        scene.on("operator", Unfence {}).idempotent().await;
        assert!(scene.object(PLAN).unwrap()["spec"]["nodeSelector"].is_null());
    }
}
