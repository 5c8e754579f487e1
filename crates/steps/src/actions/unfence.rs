//! Unfence: upgrade plans and schedules are as they were before rke2flow stopped them.

use async_trait::async_trait;
use rke2flow_engine::action::{ATTENTION, ActionInfo, Applied, Context, Failure, Place, Probe};
use rke2flow_engine::value::{FactSpec, Facts, Param, ValueType};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::actions::disable_upgrade_plans::{FENCED, WAS_SELECTOR, plans};
use crate::actions::pause_schedules::{WAS_PAUSED, path, schedules};
use crate::actions::{Goal, World, info, known, noted, unless_missing};
use crate::kinds::{Meta, Node, Schedule, UpgradePlan};

/// Goal: upgrade plans and schedules are as they were before rke2flow stopped them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unfence {
    /// Plans that would take the cluster to another version than its nodes run stay fenced, and are told. For the end of a
    /// rollback, which such a plan would undo within minutes.
    #[serde(default)]
    pub keep_upgrades: Param<bool>,
}

#[async_trait]
impl Goal for Unfence {
    const INFO: ActionInfo = ActionInfo {
        facts: &[FactSpec { name: ATTENTION, kind: ValueType::List }],
        ..info(
            "Unfence",
            "upgrade plans and schedules are as they were before rke2flow stopped them",
            Place::Operator,
            5,
        )
    };

    async fn probe(&self, world: &World, _context: &Context) -> Result<Probe, Failure> {
        let (plans, schedules, kept) = self.left(world).await?;
        let plans = plans.iter().map(|plan| format!("Plan {} is fenced", plan.metadata.name));
        let schedules = schedules.iter().map(|schedule| format!("Schedule {} is paused", schedule.metadata.name));
        let missing: Vec<String> = plans.chain(schedules).collect();
        if !missing.is_empty() {
            return Ok(unless_missing(missing));
        }
        let kept: Vec<String> = kept.iter().map(told).collect::<Result<_, _>>()?;
        Ok(Probe::Satisfied(Facts::from([(ATTENTION.to_owned(), json!(kept))])))
    }

    async fn apply(&self, world: &World, context: &Context) -> Result<Applied, Failure> {
        let (plans, schedules, _) = self.left(world).await?;
        for plan in &plans {
            world.changes(context).patch(&plan.path(), &plan.metadata, unfenced(plan)?).await?;
        }
        for schedule in &schedules {
            let change = json!({
                "metadata": { "annotations": { WAS_PAUSED: null } },
                "spec": { "paused": false },
            });
            world.changes(context).patch(&path(world, schedule), &schedule.metadata, change).await?;
        }
        Ok(noted(format!("{} plans and {} schedules are as they were", plans.len(), schedules.len())))
    }
}

impl Unfence {
    /// What is to be taken down, and the plans that stay as they are.
    async fn left(&self, world: &World) -> Result<(Vec<UpgradePlan>, Vec<Schedule>, Vec<UpgradePlan>), Failure> {
        let (plans, schedules) = left(world).await?;
        if !*known(&self.keep_upgrades)? || plans.is_empty() {
            return Ok((plans, schedules, Vec::new()));
        }
        let nodes: Vec<Node> = world.objects().list("/api/v1/nodes").await?.unwrap_or_default();
        // `+` is no character of an image's tag: plans may say `v1.33.4-rke2r1` as well.
        let plain = |version: &str| version.replace('+', "-");
        let runs = |plan: &UpgradePlan| nodes.iter().all(|node| plain(node.version()) == plain(&plan.spec.version));
        let harmless = |plan: &UpgradePlan| !plan.spec.version.is_empty() && runs(plan);
        let (plans, kept) = plans.into_iter().partition(harmless);
        Ok((plans, schedules, kept))
    }
}

/// What a plan that stays fenced means, and how a person brings it back.
fn told(plan: &UpgradePlan) -> Result<String, Failure> {
    let wants = match (plan.spec.version.as_str(), plan.spec.channel.as_str()) {
        ("", channel) => format!("whatever the channel {channel} names"),
        (version, _) => version.to_owned(),
    };
    let Meta { namespace, name, .. } = &plan.metadata;
    let change = unfenced(plan)?;
    Ok(format!(
        "Plan {namespace}/{name} stays disabled: it would upgrade the cluster to {wants} again within minutes. When that is \
         wanted: kubectl -n {namespace} patch plans.upgrade.cattle.io {name} --type merge -p '{change}'"
    ))
}

/// Plans and schedules that still have the annotation with their original, of whichever run.
pub(crate) async fn left(world: &World) -> Result<(Vec<UpgradePlan>, Vec<Schedule>), Failure> {
    let plans = plans(world).await?.into_iter().filter(|plan| plan.metadata.annotations.contains_key(WAS_SELECTOR));
    let schedules = schedules(world).await?.into_iter();
    let schedules = schedules.filter(|schedule| schedule.metadata.annotations.contains_key(WAS_PAUSED));
    Ok((plans.collect(), schedules.collect()))
}

fn unfenced(plan: &UpgradePlan) -> Result<Value, Failure> {
    Ok(json!({
        "metadata": { "annotations": { WAS_SELECTOR: null } },
        "spec": { "nodeSelector": original_selector(plan)? },
    }))
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
    use crate::actions::testing::{NEW, OLD, Scene};

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
            scene.on("operator", Unfence { keep_upgrades: Param::default() }).idempotent().await;
            assert_eq!(scene.object(PLAN).unwrap()["spec"]["nodeSelector"], selector);
            assert_eq!(scene.object(SCHEDULE).unwrap()["spec"]["paused"], false);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_plan_without_a_selector_gets_none_and_not_one_for_every_node() {
        let scene = Scene::new();
        scene.put(PLAN, json!({ "spec": {} }));
        fence(&scene).await;
        scene.on("operator", Unfence { keep_upgrades: Param::default() }).idempotent().await;
        assert!(scene.object(PLAN).unwrap()["spec"]["nodeSelector"].is_null());
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_rollback_a_plan_that_would_upgrade_again_stays_disabled_and_is_told() {
        let kept = async |spec: Value| {
            let scene = Scene::new();
            scene.put(PLAN, json!({ "spec": spec }));
            fence(&scene).await;
            let bench = scene.on("operator", Unfence { keep_upgrades: Param::Known(true) });
            if let rke2flow_engine::action::Probe::Pending(_) = bench.probe().await {
                bench.apply().await;
            }
            let facts = bench.satisfied().await;
            let fenced = scene.object(PLAN).unwrap()["spec"]["nodeSelector"]["matchLabels"][FENCED].is_string();
            (fenced, facts[ATTENTION].to_string())
        };
        let selector = json!({ "matchLabels": { "role": "server" } });
        let (fenced, told) = kept(json!({ "channel": "https://c.test/stable", "nodeSelector": selector })).await;
        assert!(
            fenced && told.contains("https://c.test/stable") && told.contains("kubectl -n system-upgrade patch"),
            "{told}"
        );
        let (fenced, told) = kept(json!({ "version": NEW, "nodeSelector": selector })).await;
        assert!(fenced && told.contains(NEW), "{told}");
        let (fenced, told) = kept(json!({ "version": OLD.replace('+', "-"), "nodeSelector": selector })).await;
        assert!(!fenced && told == "[]", "{told}");
    }
}
