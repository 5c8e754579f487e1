//! RemoveUpgradePlans: nothing is left of the Plans that rke2flow made.

use std::time::Duration;

use async_trait::async_trait;
use rke2flow_engine::action::{ActionInfo, Applied, Context, Failure, Place, Probe};
use rke2flow_engine::id::HostName;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::actions::upgrade_job::{self, Work};
use crate::actions::upgrade_plan::{HANDED, jobs, left, made, marks};
use crate::actions::{Goal, LEASE_FRESH, World, info, noted, stamp, unless_missing};
use crate::kinds::{Node, UpgradePlan};

/// Goal: nothing is left of the Plans that rke2flow made.
///
/// Neither Plans nor their jobs, nor the labels by which nodes were handed to them and marked as done: a label of a Plan
/// whose name no other Plan will ever have says nothing to anybody.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RemoveUpgradePlans {}

#[async_trait]
impl Goal for RemoveUpgradePlans {
    const INFO: ActionInfo =
        info("RemoveUpgradePlans", "nothing is left of the Plans that rke2flow made", Place::Operator, 5);

    async fn probe(&self, world: &World, _context: &Context) -> Result<Probe, Failure> {
        Ok(unless_missing(left(world, &nodes(world).await?).await?))
    }

    async fn apply(&self, world: &World, context: &Context) -> Result<Applied, Failure> {
        wait_for_replacing(world, context).await?;
        let changes = world.changes(context);
        let plans = made(world).await?;
        for plan in &plans {
            changes.delete(&plan.path(), &plan.metadata).await?;
        }
        for job in jobs(world).await? {
            changes.delete(&job.path(), &job.metadata).await?;
        }
        for node in nodes(world).await? {
            let gone: serde_json::Map<String, Value> =
                marks(&node.metadata).into_iter().map(|label| (label, Value::Null)).collect();
            if !gone.is_empty() {
                let change = json!({ "metadata": { "labels": gone } });
                changes.patch(&Node::path(&node.metadata.name), &node.metadata, change).await?;
            }
        }
        Ok(noted(format!("{} Plans, their jobs and their labels are gone", plans.len())))
    }
}

/// Between two looks at what must not be cut off.
const POLL: Duration = Duration::from_secs(2);
/// How long a binary may take to be replaced: it is one copy.
const REPLACE_LIMIT: Duration = Duration::from_secs(120);

/// With its Plan, the controller deletes a job in the middle of its work: a binary that is being replaced is let be
/// until it is whole.
async fn wait_for_replacing(world: &World, context: &Context) -> Result<(), Failure> {
    let begun = context.clock.elapsed();
    loop {
        let busy = replacing(world).await?;
        if busy.is_empty() {
            return Ok(());
        }
        if context.clock.elapsed() - begun >= REPLACE_LIMIT {
            let what = "cannot remove the Plan while a binary is being replaced: it could be left half written";
            return Err(Failure::transient(what).observed(busy.join("; ")));
        }
        context.progress.say(&busy.join("; "));
        context.clock.sleep(POLL).await;
    }
}

/// The nodes whose binary is being replaced now. The word of a node that has fallen silent counts for nothing.
async fn replacing(world: &World) -> Result<Vec<String>, Failure> {
    let mut busy = Vec::new();
    for plan in made(world).await? {
        for node in nodes(world).await?.iter().filter(|node| node.metadata.labels.contains_key(HANDED)) {
            busy.extend(replaces(world, &plan, node).await?);
        }
    }
    Ok(busy)
}

async fn replaces(world: &World, plan: &UpgradePlan, node: &Node) -> Result<Option<String>, Failure> {
    let Ok(host) = HostName::new(node.metadata.name.as_str()) else { return Ok(None) };
    let (Work::Replaces(what), _) = upgrade_job::look(world, plan, node, &host).await? else { return Ok(None) };
    let Ok(survey) = world.hosts().survey(&host).await else { return Ok(None) };
    let fresh = stamp(survey.epoch - LEASE_FRESH.as_secs() as i64);
    let renewed = world.node(&host).await?.1.and_then(|lease| lease.spec.renew_time);
    Ok((survey.unit == "active" && renewed.is_some_and(|renewed| renewed >= fresh)).then(|| format!("{host}: {what}")))
}

async fn nodes(world: &World) -> Result<Vec<Node>, Failure> {
    Ok(world.objects().list("/api/v1/nodes").await?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actions::hand_to_upgrade_plan::HandToUpgradePlan;
    use crate::actions::testing::NEW;
    use crate::actions::testing::suc::{self, Controller};
    use rke2flow_engine::value::Param;

    fn hand() -> HandToUpgradePlan {
        HandToUpgradePlan { version: Param::Known(NEW.to_owned()), later: Param::default() }
    }

    #[tokio::test(start_paused = true)]
    async fn removing_plans_is_idempotent_and_takes_jobs_and_labels_along() {
        let scene = suc::with_plans(Controller::Works).await;
        scene.put("/apis/upgrade.cattle.io/v1/namespaces/system-upgrade/plans/theirs", json!({ "spec": {} }));
        scene.on("server-0", hand()).apply().await;
        scene.on("operator", RemoveUpgradePlans {}).idempotent().await;
        let labels = scene.object("/api/v1/nodes/server-0").unwrap()["metadata"]["labels"].clone();
        assert_eq!(labels, json!({ "zone": "a" }));
        assert!(suc::jobs(&scene).is_empty() && scene.object(&suc::plan("servers")).is_none());
        assert!(scene.object("/apis/upgrade.cattle.io/v1/namespaces/system-upgrade/plans/theirs").is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_binary_that_is_being_replaced_is_not_cut_off_unless_its_node_is_silent() {
        let scene = suc::with_plans(Controller::Hangs).await;
        let failure = scene.on("agent-0", hand()).failure_of_apply().await;
        assert!(failure.what.contains("half a binary"), "{failure}");
        let failure = scene.on("operator", RemoveUpgradePlans {}).failure_of_apply().await;
        assert!(failure.observed.contains("agent-0"), "{failure}");
        scene.survey("agent-0", |survey| survey.unit = "inactive".to_owned());
        scene.on("operator", RemoveUpgradePlans {}).idempotent().await;
    }
}
