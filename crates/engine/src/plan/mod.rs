//! The plan: a runbook made concrete for one cluster. A static graph of instances that can be written down and read back.

mod build;
mod forecast;
mod graph;
mod params;
mod proof;
mod resolve;
mod rounds;
#[cfg(test)]
mod rounds_tests;
mod safety;
#[cfg(test)]
mod safety_tests;
mod show;
mod targets;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::action::PlannedAction;
use crate::cluster::{Role, Topology};
use crate::duration::Span;
use crate::id::{HostName, InstanceId, PhaseId, StepId, Target};
use crate::state::ROLLBACK_GATE;

pub use build::{INSTANCES_MAX, Planned, Request, build};
pub use forecast::{Basis, Expected, Forecast, Late, Leg, Slot};
pub use graph::{Cycle, StepGraph};
pub(crate) use params::cluster_field;
pub use resolve::{HOST_FIELDS, Index, ROUND_FIELDS, RUN_FIELDS, Scope};
pub use show::{PLAN_SCHEMA, dot, expected, forecast_line, json, text};

/// A runbook made concrete. Everything that running, resuming and reporting needs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// The runbook's name.
    pub runbook: String,
    /// What independent branches do after a failure.
    pub on_failure: OnFailure,
    /// Whether this run may take the place of an open one of the same holder, as a rollback does.
    pub supersedes: bool,
    /// From the first step of an outage phase to the end of the last one.
    pub budget: Option<Span>,
    /// One server or several.
    pub topology: Topology,
    /// The cluster's name, as written into claims.
    #[serde(default)]
    pub cluster: String,
    /// Every host of the cluster file, lost ones included, in its order: what `${host.x}` is answered from.
    #[serde(default)]
    pub hosts: Vec<HostEntry>,
    /// The server that is reset and restored: the cluster file's, or the first one that is not lost.
    #[serde(default)]
    pub init: Option<HostName>,
    /// Parameters with their values; they are in place in the actions already.
    #[serde(default)]
    pub params: BTreeMap<String, Value>,
    /// In order.
    pub phases: Vec<PhasePlan>,
    /// In the runbook's order.
    pub steps: Vec<StepPlan>,
}

/// What a plan remembers of a host of the cluster file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostEntry {
    /// Its name.
    pub name: HostName,
    /// Where SSH connects.
    pub address: String,
    /// Server or agent.
    pub role: Role,
    /// Declared powered off: it is in no step.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub lost: bool,
}

impl fmt::Display for Round {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "round {} of {}: {}", self.number, self.of, self.value)
    }
}

/// What independent branches do after a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum OnFailure {
    /// Start nothing new; what runs ends.
    #[default]
    Hold,
    /// What does not depend on the failed step goes on.
    Finish,
    /// As `Hold`; and a person is asked whether the run is to be rolled back (decision 131).
    Rollback,
}

/// Which clock a phase runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum PhaseClock {
    /// No outage yet.
    Before,
    /// Counts towards the time to recover.
    Outage,
    /// The cluster serves again.
    After,
}

/// What a budget measures.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PhasePlan {
    /// Its name.
    pub id: PhaseId,
    /// Which clock it runs on.
    pub clock: PhaseClock,
    /// For this topology.
    pub budget: Option<Span>,
    /// The round that it belongs to, when there are several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub round: Option<Round>,
}

/// One time through the phases that are repeated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Round {
    /// From 1.
    pub number: usize,
    /// How many there are.
    pub of: usize,
    /// What it is for, such as `v1.34.2+rke2r1`.
    pub value: String,
}

/// A goal on hosts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepPlan {
    /// Its name.
    pub id: StepId,
    /// Index into [`Plan::phases`].
    pub phase: usize,
    /// Where it runs, in the cluster file's order. Empty: nothing to do, and done as soon as what it needs is done,
    /// so that a step that was left out still keeps the order of those before and after it.
    pub targets: Vec<Target>,
    /// How many targets may be between their first action and the end of their last.
    pub hosts_at_once: usize,
    /// Which target begins when all others are done; known when the step starts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<LastPlan>,
    /// What must be done before.
    pub needs: Vec<NeedPlan>,
    /// If all of these hold on a target, its sequence is skipped as done already.
    pub done_when: Vec<PlannedAction>,
    /// The sequence on each target.
    pub actions: Vec<PlannedAction>,
    /// How often an action is tried, and how long is waited in between.
    pub retry: Retry,
    /// How long one attempt of one action may take.
    pub timeout: Span,
    /// Why it cannot be undone: needs consent, is never skipped.
    pub irreversible: Option<String>,
    /// A failure is recorded and holds nothing; the attempt gets at most this long.
    pub best_effort: Option<Span>,
    /// Runs when the run closes, however it ends; or only when it is aborted.
    pub always: Option<Always>,
    /// Never skippable.
    pub safety: bool,
    /// Why a condition left it out; it is satisfied then and has no targets.
    pub left_out: Option<String>,
}

/// When a step runs besides its place in the graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Always {
    /// When the run closes.
    OnClose,
    /// Only when the run is aborted before its irreversible step has begun to change anything: it takes back what the
    /// steps that it needs have begun (decision 094).
    OnAbort,
}

/// Where the name of the host stands that goes last (decision 120).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastPlan {
    /// Index into [`Plan::steps`]: a step with one target, done before this one starts.
    pub step: usize,
    /// The fact of that step.
    pub fact: String,
}

/// An edge between steps, by index into [`Plan::steps`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum NeedPlan {
    /// Every target of that step.
    All(usize),
    /// The same target's sequence in whichever of these steps it is in.
    SameHost(Vec<usize>),
}

impl NeedPlan {
    /// The steps that it names.
    pub fn steps(&self) -> &[usize] {
        match self {
            NeedPlan::All(step) => std::slice::from_ref(step),
            NeedPlan::SameHost(steps) => steps,
        }
    }
}

/// How often an action is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Retry {
    /// Attempts in all, from 1 to 20.
    #[serde(default = "default_attempts")]
    pub attempts: u32,
    /// Wait before the second attempt; doubled for each further one, at most 5 minutes.
    #[serde(default = "default_backoff")]
    pub backoff: Span,
}

fn default_attempts() -> u32 {
    3
}

fn default_backoff() -> Span {
    Span::from_secs(5)
}

impl Default for Retry {
    fn default() -> Self {
        Self { attempts: default_attempts(), backoff: default_backoff() }
    }
}

/// One action on one target: a node of the executable graph. Derived from [`StepPlan`], never written down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    /// Its name.
    pub id: InstanceId,
    /// Index into [`Plan::steps`].
    pub step: usize,
    /// Index into [`StepPlan::targets`].
    pub target: usize,
    /// Index into the target's sequence: `done_when` first, then `actions`.
    pub position: usize,
}

impl StepPlan {
    /// How long one attempt may take.
    pub fn attempt_limit(&self) -> std::time::Duration {
        self.best_effort.map_or(self.timeout, |limit| limit.min(self.timeout)).get()
    }

    /// Whether it runs only when the run is aborted, to take back what others have begun.
    pub fn takes_back(&self) -> bool {
        self.always == Some(Always::OnAbort)
    }

    /// Length of one target's sequence, checks of `done_when` included.
    pub fn sequence_len(&self) -> usize {
        self.done_when.len() + self.actions.len()
    }

    /// The action at a position of the sequence, and whether it is a check of `done_when`.
    pub fn at(&self, position: usize) -> (&PlannedAction, bool) {
        match self.done_when.get(position) {
            Some(check) => (check, true),
            None => (&self.actions[position - self.done_when.len()], false),
        }
    }
}

/// The graph of these steps; the error is a plan that this version did not write.
fn graph_of<'a>(steps: impl ExactSizeIterator<Item = &'a StepPlan>) -> Result<StepGraph, Cycle> {
    let count = steps.len();
    let edges = steps
        .enumerate()
        .flat_map(|(index, step)| step.needs.iter().flat_map(NeedPlan::steps).map(move |&before| (before, index)));
    StepGraph::new(count, edges)
}

impl Plan {
    /// The round that a step stands in, when there are several.
    pub fn round_of(&self, step: usize) -> Option<&Round> {
        self.phases.get(self.steps.get(step)?.phase)?.round.as_ref()
    }

    /// Whether an abort puts back what the run has changed.
    pub fn can_go_back(&self) -> bool {
        self.steps.iter().any(StepPlan::takes_back)
    }

    /// Whether a run of this plan can be rolled back when it fails; why not. Without `on_failure: Rollback` it is not.
    pub fn can_offer_rollback(&self) -> Result<(), String> {
        match self.on_failure {
            OnFailure::Hold | OnFailure::Finish => Ok(()),
            OnFailure::Rollback if self.supersedes => {
                Err(format!("{} takes the place of another run: it is not rolled back itself", self.runbook))
            }
            OnFailure::Rollback if self.steps.iter().any(|step| step.id.as_str() == ROLLBACK_GATE) => {
                Err(format!("it has a step `{ROLLBACK_GATE}`, and that is the name of the gate"))
            }
            OnFailure::Rollback => Ok(()),
        }
    }

    /// Whether a phase has nothing but what an abort runs.
    pub fn is_way_back(&self, phase: usize) -> bool {
        let mut steps = self.steps.iter().filter(|step| step.phase == phase).peekable();
        steps.peek().is_some() && steps.all(StepPlan::takes_back)
    }

    /// The graph of the steps.
    pub fn graph(&self) -> Result<StepGraph, Cycle> {
        graph_of(self.steps.iter())
    }

    /// Every instance, step by step, target by target, position by position.
    pub fn instances(&self) -> Vec<Instance> {
        let mut instances = Vec::new();
        for (index, step) in self.steps.iter().enumerate() {
            for (target_index, target) in step.targets.iter().enumerate() {
                for position in 0..step.sequence_len() {
                    let (action, check) = step.at(position);
                    let earlier = (0..position).filter(|&before| {
                        let (other, other_check) = step.at(before);
                        other_check == check && other.name == action.name
                    });
                    let name = if check { format!("{}?", action.name) } else { action.name.clone() };
                    let id = InstanceId::new(&step.id, &name, earlier.count() + 1, target);
                    instances.push(Instance { id, step: index, target: target_index, position });
                }
            }
        }
        instances
    }
}
