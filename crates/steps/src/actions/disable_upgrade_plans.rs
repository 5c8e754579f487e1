//! DisableUpgradePlans: no upgrade plan of the system-upgrade-controller acts, and none is in flight.

use async_trait::async_trait;
use rke2flow_engine::action::{ActionInfo, Applied, Context, Failure, Place, Probe};
use rke2flow_engine::value::{FactSpec, Facts, Param, ValueType};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::actions::{Goal, World, info, known, noted};
use crate::kinds::UpgradePlan;

/// Goal: no upgrade plan of the system-upgrade-controller acts, and none is in flight.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DisableUpgradePlans {
    /// Waits until what is under way has ended. Not after a restore, when nothing of it is alive and its state is old.
    #[serde(default = "wait")]
    pub wait_for_running: Param<bool>,
}

#[async_trait]
impl Goal for DisableUpgradePlans {
    const INFO: ActionInfo = ActionInfo {
        facts: &[FactSpec { name: "plans", kind: ValueType::List }],
        ..info(
            "DisableUpgradePlans",
            "no upgrade plan of the system-upgrade-controller acts, and none is in flight",
            Place::Operator,
            5,
        )
    };

    async fn probe(&self, world: &World, context: &Context) -> Result<Probe, Failure> {
        let plans = others(world, context).await?;
        let open: Vec<String> = plans.iter().filter(|plan| !is_fenced(plan)).map(name).collect();
        if !open.is_empty() {
            return Ok(Probe::pending(format!("{} may act", open.join(", "))));
        }
        let busy = plans.iter().filter(|plan| !plan.status.applying.is_empty());
        let busy: Vec<String> =
            busy.map(|plan| format!("{} acts on {}", name(plan), plan.status.applying.join(", "))).collect();
        if *known(&self.wait_for_running)? && !busy.is_empty() {
            return Ok(Probe::InProgress(busy.join("; ")));
        }
        let names: Value = plans.iter().map(name).collect();
        Ok(Probe::Satisfied(Facts::from([("plans".to_owned(), names)])))
    }

    async fn apply(&self, world: &World, context: &Context) -> Result<Applied, Failure> {
        let (left, open): (Vec<_>, Vec<_>) = others(world, context)
            .await?
            .into_iter()
            .filter(|plan| !is_fenced(plan) || plan.metadata.run().is_some())
            .partition(|plan| plan.metadata.run().is_some());
        for plan in &left {
            world.changes(context).delete(&plan.path(), &plan.metadata).await?;
        }
        for plan in &open {
            let change = json!({
                "metadata": { "annotations": { WAS_SELECTOR: plan.spec.node_selector.to_string() } },
                "spec": { "nodeSelector": { "matchLabels": { FENCED: context.run.as_str() } } },
            });
            world.changes(context).patch(&plan.path(), &plan.metadata, change).await?;
        }
        Ok(noted(format!("fenced {} plans, removed {} that an earlier run had left", open.len(), left.len())))
    }
}

/// A label that no node has: a Plan that asks for it acts on nothing.
pub(crate) const FENCED: &str = "rke2flow.io/fenced";
/// The annotation with the node selector that a Plan had before, as JSON.
pub(crate) const WAS_SELECTOR: &str = "rke2flow.io/was-node-selector";

/// Every Plan; none when the system-upgrade-controller is not installed.
pub(crate) async fn plans(world: &World) -> Result<Vec<UpgradePlan>, Failure> {
    Ok(world.objects().list(UpgradePlan::ALL).await?.unwrap_or_default())
}

/// Every Plan but this run's own. One of an earlier run is nobody's any more: it is removed, and never comes back.
async fn others(world: &World, context: &Context) -> Result<Vec<UpgradePlan>, Failure> {
    let own = |plan: &UpgradePlan| plan.metadata.run() == Some(context.run.as_str());
    Ok(plans(world).await?.into_iter().filter(|plan| !own(plan)).collect())
}

/// Whether a Plan can act on no node, and its original is kept.
pub(crate) fn is_fenced(plan: &UpgradePlan) -> bool {
    plan.spec.node_selector["matchLabels"][FENCED].is_string() && plan.metadata.annotations.contains_key(WAS_SELECTOR)
}

fn name(plan: &UpgradePlan) -> String {
    format!("Plan {}/{}", plan.metadata.namespace, plan.metadata.name)
}

fn wait() -> Param<bool> {
    Param::Known(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actions::testing::Scene;

    const PLAN: &str = "/apis/upgrade.cattle.io/v1/namespaces/system-upgrade/plans/server-plan";

    fn fence() -> DisableUpgradePlans {
        DisableUpgradePlans { wait_for_running: wait() }
    }

    #[tokio::test(start_paused = true)]
    async fn fencing_plans_is_idempotent() {
        let scene = Scene::new();
        scene.put(PLAN, json!({ "spec": { "nodeSelector": { "matchLabels": { "role": "server" } } } }));
        let facts = scene.on("operator", fence()).idempotent().await;
        assert_eq!(facts["plans"], json!(["Plan system-upgrade/server-plan"]));
    }

    #[tokio::test(start_paused = true)]
    async fn without_the_controller_there_is_nothing_to_fence() {
        Scene::new().on("operator", fence()).satisfied().await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_plan_of_this_run_is_let_be_and_one_of_an_earlier_run_is_removed() {
        let scene = Scene::new();
        let made_by = |run: &str| json!({ "metadata": { "labels": { "rke2flow.io/run": run } }, "spec": {} });
        let (own, earlier) = (PLAN.replace("server-plan", "own"), PLAN.replace("server-plan", "earlier"));
        scene.put(&own, made_by(crate::actions::testing::RUN));
        scene.put(&earlier, made_by("261101-0000-aaaa"));
        let before = scene.object(&own);
        scene.on("operator", fence()).idempotent().await;
        assert_eq!(scene.object(&own), before);
        assert!(scene.object(&earlier).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_plan_that_acts_is_waited_for_unless_its_word_is_old() {
        let scene = Scene::new();
        scene.put(PLAN, json!({ "spec": {}, "status": { "applying": ["server-0"] } }));
        scene.on("operator", fence()).apply().await;
        assert!(matches!(scene.on("operator", fence()).probe().await, Probe::InProgress(_)));
        scene.on("operator", DisableUpgradePlans { wait_for_running: Param::Known(false) }).satisfied().await;
    }
}
