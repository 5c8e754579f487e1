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
