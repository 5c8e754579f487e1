//! TakeFromUpgradePlan: no Plan of rke2flow has anything to do with the node.

use std::time::Duration;

use async_trait::async_trait;
use rke2flow_engine::action::{ActionInfo, Applied, Context, Failure, Place, Probe};
use rke2flow_engine::id::HostName;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::actions::cordon::{CORDONED, node};
use crate::actions::upgrade_plan::{HANDED, OF_NODE, STAYS_CORDONED, jobs, taking_back};
use crate::actions::{Goal, World, host_of, info, noted, unless_missing};
use crate::kinds::{Job, Node, Pod};

/// Goal: no Plan of rke2flow has anything to do with the node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TakeFromUpgradePlan {}

#[async_trait]
impl Goal for TakeFromUpgradePlan {
    const INFO: ActionInfo =
        info("TakeFromUpgradePlan", "no Plan of rke2flow has anything to do with the node", Place::Host, 3);

    async fn probe(&self, world: &World, context: &Context) -> Result<Probe, Failure> {
        let node = node(world, context).await?;
        let mut left: Vec<String> = node
            .metadata
            .labels
            .get(HANDED)
            .map(|plan| format!("the node is handed to Plan {plan}"))
            .into_iter()
            .collect();
        let open = open_jobs(world, host_of(context)?).await?;
        left.extend(open.iter().map(|job| format!("job {} is not at its end", job.metadata.name)));
        Ok(unless_missing(left))
    }

    async fn apply(&self, world: &World, context: &Context) -> Result<Applied, Failure> {
        let jobs = take(world, context).await?;
        Ok(noted(format!("taken back; {jobs} jobs that had not ended were deleted")))
    }
}

/// How long the pods of a deleted job may take to go before their cordon is taken away all the same.
const PODS_LIMIT: Duration = Duration::from_secs(30);
/// Between two looks at them.
const POLL: Duration = Duration::from_secs(2);

/// The label first: the controller makes another job for a node that has it.
async fn take(world: &World, context: &Context) -> Result<usize, Failure> {
    let own = host_of(context)?;
    let node = node(world, context).await?;
    if node.metadata.labels.contains_key(HANDED) {
        world.changes(context).patch(&Node::path(own.as_str()), &node.metadata, taking_back()).await?;
    }
    let open = open_jobs(world, own).await?;
    for job in &open {
        world.changes(context).delete(&job.path(), &job.metadata).await?;
    }
    Ok(open.len())
}

/// Takes a node back on which nothing has been changed, together with the cordon that the controller left on it.
pub(crate) async fn take_back(world: &World, context: &Context) -> Result<(), Failure> {
    take(world, context).await?;
    // A pod that still runs would cordon the node again.
    let begun = context.clock.elapsed();
    while has_pods(world, host_of(context)?).await? && context.clock.elapsed() - begun < PODS_LIMIT {
        context.progress.say("the pod of the deleted job is still there");
        context.clock.sleep(POLL).await;
    }
    let node = node(world, context).await?;
    let annotations = &node.metadata.annotations;
    let spec = match (annotations.contains_key(CORDONED), annotations.contains_key(STAYS_CORDONED)) {
        (true, _) => json!({ "unschedulable": null }),
        (_, true) => json!({ "unschedulable": true }),
        _ => return Ok(()),
    };
    let change = json!({ "metadata": { "annotations": { CORDONED: null, STAYS_CORDONED: null } }, "spec": spec });
    world.changes(context).patch(&Node::path(&node.metadata.name), &node.metadata, change).await
}

async fn open_jobs(world: &World, host: &HostName) -> Result<Vec<Job>, Failure> {
    let here = |job: &Job| job.metadata.labels.get(OF_NODE).is_some_and(|node| node == host.as_str());
    Ok(jobs(world).await?.into_iter().filter(|job| here(job) && !job.is_complete()).collect())
}

async fn has_pods(world: &World, host: &HostName) -> Result<bool, Failure> {
    let path = format!("/api/v1/pods?labelSelector=upgrade.cattle.io%2Fnode%3D{host}");
    let pods: Vec<Pod> = world.objects().list(&path).await?.unwrap_or_default();
    let here = |pod: &Pod| {
        let (meta, phase) = (&pod.metadata, pod.status.phase.as_str());
        let ended = matches!(phase, "Succeeded" | "Failed");
        !ended && meta.run().is_some() && meta.labels.get(OF_NODE).is_some_and(|node| node == host.as_str())
    };
    Ok(pods.iter().any(here))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actions::hand_to_upgrade_plan::HandToUpgradePlan;
    use crate::actions::testing::NEW;
    use crate::actions::testing::suc::{self, Controller};
    use rke2flow_engine::value::Param;

    #[tokio::test(start_paused = true)]
    async fn taking_a_node_back_is_idempotent_and_leaves_no_job_that_could_go_on() {
        let scene = suc::with_plans(Controller::Works).await;
        scene
            .on("agent-0", HandToUpgradePlan { version: Param::Known(NEW.to_owned()), later: Param::default() })
            .apply()
            .await;
        scene.on("agent-0", TakeFromUpgradePlan {}).idempotent().await;
        assert_eq!(suc::jobs(&scene).len(), 1, "a job that is complete is the controller's to clean away");
        let scene = suc::with_plans(Controller::Works).await;
        scene
            .on("agent-0", HandToUpgradePlan { version: Param::Known(NEW.to_owned()), later: Param::default() })
            .apply()
            .await;
        scene.edit(&suc::jobs(&scene)[0], |job| job["status"] = json!({ "active": 1 }));
        scene.on("agent-0", TakeFromUpgradePlan {}).idempotent().await;
        assert!(suc::jobs(&scene).is_empty());
    }
}
