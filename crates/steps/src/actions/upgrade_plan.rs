//! The Plans that a run makes for the system-upgrade-controller: what they are called, and how nodes are handed to them.

use std::fmt;

use rke2flow_engine::action::{Context, Failure};
use rke2flow_engine::cluster::Role;
use rke2flow_engine::id::{HostName, RunId};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::actions::cordon::CORDONED;
use crate::actions::disable_upgrade_plans::plans;
use crate::actions::{World, host_of};
use crate::kinds::{Job, Meta, Node, UpgradePlan};

/// Which nodes a Plan is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Of {
    /// Servers: one after the other.
    Servers,
    /// Agents.
    Agents,
}

impl Of {
    /// The Plan that a host is in.
    pub(crate) fn role(role: Role) -> Self {
        match role {
            Role::Server => Of::Servers,
            Role::Agent => Of::Agents,
        }
    }

    /// Whether a host is in it.
    pub(crate) fn includes(self, role: Role) -> bool {
        Self::role(role) == self
    }
}

impl fmt::Display for Of {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Of::Servers => "servers",
            Of::Agents => "agents",
        })
    }
}

/// The label of a node that has been handed to a Plan: its name. A Plan of ours selects by nothing else, so that the
/// controller gets a node when we give it one, and none by itself.
pub(crate) const HANDED: &str = "rke2flow.io/upgrade-plan";
/// The annotation with the run that found a node cordoned by somebody else. The controller takes every cordon away when
/// its job is complete (SUC pkg/upgrade/handle_batch.go): this one is put back.
pub(crate) const STAYS_CORDONED: &str = "rke2flow.io/stays-cordoned";
/// The controller's label of a node that a Plan is done with is this and the Plan's name.
pub(crate) const DONE_PREFIX: &str = "plan.upgrade.cattle.io/";
/// The controller's label of a job and its pods: the Plan.
pub(crate) const OF_PLAN: &str = "upgrade.cattle.io/plan";
/// The controller's label of a job and its pods: the node.
pub(crate) const OF_NODE: &str = "upgrade.cattle.io/node";

/// What every Plan of ours is called by; short enough for a label (63 characters).
const PREFIX: &str = "rke2flow-";

/// The name of a run's Plan; each round has its own.
pub(crate) fn name(run: &RunId, of: Of) -> String {
    format!("{PREFIX}{run}-{of}")
}

/// A Plan's version as the controller writes it: `+` is no character of an image's tag.
pub(crate) fn tag(version: &str) -> String {
    version.replace('+', "-")
}

/// The Plan of this run that the context's host is in.
pub(crate) async fn of_host(world: &World, context: &Context) -> Result<Option<UpgradePlan>, Failure> {
    let wanted = name(&context.round_id(), Of::role(world.entry(host_of(context)?)?.role));
    let ours = |plan: &UpgradePlan| plan.metadata.name == wanted && plan.metadata.run() == Some(context.run.as_str());
    Ok(plans(world).await?.into_iter().find(ours))
}

/// Every Plan that rke2flow made, of whichever run.
pub(crate) async fn made(world: &World) -> Result<Vec<UpgradePlan>, Failure> {
    Ok(plans(world).await?.into_iter().filter(|plan| plan.metadata.run().is_some()).collect())
}

/// Every job of such a Plan. The controller hands a Plan's own labels on to its jobs (SUC pkg/upgrade/job/job.go).
pub(crate) async fn jobs(world: &World) -> Result<Vec<Job>, Failure> {
    let path = format!("{}?labelSelector=upgrade.cattle.io%2Fplan", Job::ALL);
    let all: Vec<Job> = world.objects().list(&path).await?.unwrap_or_default();
    let ours = |job: &Job| job.metadata.labels.contains_key(OF_PLAN) && job.metadata.run().is_some();
    Ok(all.into_iter().filter(ours).collect())
}

/// Labels of a node that only mean something as long as a Plan of ours is there.
pub(crate) fn marks(node: &Meta) -> Vec<String> {
    let own = |label: &&String| {
        label.as_str() == HANDED || label.strip_prefix(DONE_PREFIX).is_some_and(|plan| plan.starts_with(PREFIX))
    };
    node.labels.keys().filter(own).cloned().collect()
}

/// What is left of Plans that rke2flow made, in words.
pub(crate) async fn left(world: &World, nodes: &[Node]) -> Result<Vec<String>, Failure> {
    let plans = made(world).await?.into_iter().map(|plan| format!("Plan {} is there", plan.metadata.name));
    let jobs = jobs(world).await?.into_iter().map(|job| format!("Job {} is there", job.metadata.name));
    let mut left: Vec<String> = plans.chain(jobs).collect();
    for node in nodes {
        left.extend(marks(&node.metadata).iter().map(|label| format!("{} has the label {label}", node.metadata.name)));
    }
    Ok(left)
}

/// Hands a node to a Plan, and says in the same breath whose its cordon is: one that comes from now on is the
/// controller's, and ours to take back; one that is there already is somebody else's, and stays.
pub(crate) fn handing(node: &Node, plan: &str, run: &RunId) -> Value {
    let annotations = &node.metadata.annotations;
    let known = annotations.contains_key(CORDONED) || annotations.contains_key(STAYS_CORDONED);
    let cordon = if node.spec.unschedulable { STAYS_CORDONED } else { CORDONED };
    let marks = if known { json!({}) } else { json!({ cordon: run.as_str() }) };
    json!({ "metadata": { "labels": { HANDED: plan }, "annotations": marks } })
}

/// Takes a node back from whichever Plan it was handed to.
pub(crate) fn taking_back() -> Value {
    json!({ "metadata": { "labels": { HANDED: null } } })
}

/// Whether the node has been handed to this Plan.
pub(crate) fn is_handed(node: &Node, plan: &str) -> bool {
    node.metadata.labels.get(HANDED).is_some_and(|name| name == plan)
}

/// The job of a Plan on a node.
pub(crate) fn is_on(meta: &Meta, plan: &str, host: &HostName) -> bool {
    let says = |label: &str, value: &str| meta.labels.get(label).is_some_and(|found| found == value);
    says(OF_PLAN, plan) && says(OF_NODE, host.as_str())
}
