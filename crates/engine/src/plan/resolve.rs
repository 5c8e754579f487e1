//! Answers `${host.x}`, `${fact.step.x}` and `${run.id}` when a step starts, from the plan and the facts alone.

use std::collections::HashMap;
use std::fmt;

use serde_json::Value;

use super::{HostEntry, Plan, PlannedAction};
use crate::cluster::Role;
use crate::id::{HostName, RunId, Target};
use crate::value::{self, Facts, Reference};

/// What `${host.x}` can name.
pub const HOST_FIELDS: [&str; 5] = ["name", "address", "role", "init", "init_address"];
/// What `${run.x}` can name.
pub const RUN_FIELDS: [&str; 1] = ["id"];
/// What `${round.x}` can name in a repeated phase.
pub const ROUND_FIELDS: [&str; 3] = ["value", "later", "number"];

/// Steps and hosts of a plan by name. Built once per plan.
#[derive(Debug, Clone)]
pub struct Index {
    steps: HashMap<String, usize>,
    hosts: HashMap<HostName, usize>,
}

impl Index {
    /// Indexes a plan.
    pub fn of(plan: &Plan) -> Self {
        let steps = plan.steps.iter().enumerate().map(|(index, step)| (step.id.as_str().to_owned(), index));
        let hosts = plan.hosts.iter().enumerate().map(|(index, host)| (host.name.clone(), index));
        Self { steps: steps.collect(), hosts: hosts.collect() }
    }

    /// Position of a step in [`Plan::steps`].
    pub fn step(&self, name: &str) -> Option<usize> {
        self.steps.get(name).copied()
    }

    /// Position of a host in [`Plan::hosts`].
    pub fn host(&self, name: &HostName) -> Option<usize> {
        self.hosts.get(name).copied()
    }

    /// Position of `target` in a step's targets. They are in the order of the cluster file, so this is a binary search.
    pub fn target(&self, plan: &Plan, step: usize, target: &Target) -> Option<usize> {
        let targets = &plan.steps[step].targets;
        let Some(host) = target.host() else { return targets.iter().position(|other| other == target) };
        let wanted = self.host(host)?;
        let rank = |other: &Target| other.host().and_then(|host| self.host(host)).unwrap_or(usize::MAX);
        targets.binary_search_by_key(&wanted, rank).ok()
    }
}

/// What a step on one target can refer to.
#[derive(Clone, Copy)]
pub struct Scope<'a> {
    /// The plan.
    pub plan: &'a Plan,
    /// Its index.
    pub index: &'a Index,
    /// The run.
    pub run: &'a RunId,
    /// Facts by position of the step in the plan and of the target in the step, all actions of the sequence together.
    pub facts: &'a dyn Fn(usize, usize) -> Option<&'a Facts>,
}

impl fmt::Debug for Scope<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scope").field("run", self.run).finish_non_exhaustive()
    }
}

impl Scope<'_> {
    /// An action's fields with every value in place, for the target at `target` of the step at `step`.
    pub fn render(&self, step: usize, target: usize, action: &PlannedAction) -> Result<Value, String> {
        value::render(&action.fields, &|reference| self.resolve(step, target, reference))
    }

    /// The value of one reference. The error says what is not known.
    pub fn resolve(&self, step: usize, target: usize, reference: &Reference) -> Result<Value, String> {
        let unknown = || format!("`{reference}` has no value");
        let here = &self.plan.steps[step].targets[target];
        match reference {
            Reference::Param(name) => self.plan.params.get(name).cloned().ok_or_else(unknown),
            Reference::Run(name) if name == "id" => Ok(Value::from(self.run.as_str())),
            Reference::Run(_) | Reference::Round(_) => Err(unknown()),
            Reference::Host(name) => self.host(here, name).ok_or_else(unknown),
            Reference::Fact { step: source, name } => self.fact(here, source, name),
        }
    }

    fn host(&self, here: &Target, field: &str) -> Option<Value> {
        let entry = |name: &HostName| self.index.host(name).and_then(|index| self.plan.hosts.get(index));
        let own = here.host().and_then(entry);
        let init = self.plan.init.as_ref().and_then(entry);
        host_field(own, init, field)
    }

    fn fact(&self, here: &Target, source: &str, name: &str) -> Result<Value, String> {
        let what = format!("`${{fact.{source}.{name}}}`");
        let step = self.index.step(source).ok_or_else(|| format!("{what}: there is no step `{source}`"))?;
        let targets = &self.plan.steps[step].targets;
        let target = match self.index.target(self.plan, step, here) {
            Some(target) => target,
            None if targets.len() == 1 => 0,
            None => {
                return Err(format!(
                    "{what}: `{source}` did not run on {here}, and it ran on {} targets instead of one",
                    targets.len()
                ));
            }
        };
        let value = (self.facts)(step, target).and_then(|facts| facts.get(name));
        value.cloned().ok_or_else(|| format!("{what}: `{source}` on {} has left no such fact", targets[target]))
    }
}

fn host_field(own: Option<&HostEntry>, init: Option<&HostEntry>, field: &str) -> Option<Value> {
    let text = match field {
        "name" => own?.name.as_str(),
        "address" => &own?.address,
        "role" => match own?.role {
            Role::Server => "server",
            Role::Agent => "agent",
        },
        "init" => init?.name.as_str(),
        "init_address" => &init?.address,
        _ => return None,
    };
    Some(Value::from(text))
}
