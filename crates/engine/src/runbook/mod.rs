//! The runbook language (format 1): what a person writes, as it was read and checked.

mod budgets;
mod check;
mod facts;
mod hosts_at_once;
mod lists;
mod params;
mod read;
mod repeat;
mod way_back;

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Deserializer, de};

use crate::cluster::Topology;
use crate::duration::Span;
use crate::id::{HostName, PhaseId, StepId};
pub use crate::plan::{Always, OnFailure, PhaseClock, Retry};
use crate::source::{Mark, Marked, SourceText};

#[cfg(test)]
mod example;
#[cfg(test)]
mod fact_tests;
#[cfg(test)]
mod file_tests;
#[cfg(test)]
mod repeat_tests;
#[cfg(test)]
mod tests;

pub(crate) use facts::mark_of;
pub use hosts_at_once::HostsAtOnce;
pub use params::{ParamSpec, ParamType};
pub(crate) use read::Problems;
pub use read::{parse, read};
pub(crate) use repeat::name_in;
pub use repeat::{ROUNDS_MAX, Repeat};

/// The newest runbook format that is understood.
pub const FORMAT: u32 = 1;
/// How many steps a runbook may have.
pub const STEPS_MAX: usize = 100_000;
/// How many phases a runbook may have.
pub const PHASES_MAX: usize = 64;
/// How many actions a step may have, its `done_when` included.
pub const ACTIONS_PER_STEP_MAX: usize = 64;
/// How often an action may be tried.
pub const ATTEMPTS_MAX: u32 = 20;
/// The longest wait before a second attempt.
pub const BACKOFF_MAX: Span = Span::from_secs(5 * 60);
/// How long an attempt may take when the step does not say.
pub const TIMEOUT_DEFAULT: Span = Span::from_secs(10 * 60);
/// The longest time that a step may give to an attempt.
pub const TIMEOUT_MAX: Span = Span::from_secs(24 * 3600);

/// A runbook. `A` is the catalogue's enum of actions.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename = "Runbook", deny_unknown_fields, bound = "A: de::DeserializeOwned")]
pub struct Runbook<A> {
    /// The text that it was read from.
    #[serde(skip)]
    pub source: SourceText,
    /// Where the `${…}` of its actions stand.
    #[serde(skip)]
    pub(crate) templates: Vec<(Mark, String)>,
    /// Always 1.
    pub format: Marked<u32>,
    /// Its name.
    pub name: Marked<String>,
    /// One sentence for lists of runbooks.
    #[serde(default)]
    pub about: String,
    /// What independent branches do after a failure.
    #[serde(default)]
    pub on_failure: OnFailure,
    /// Whether a run of it may take the place of an open run of the same holder (decision 003).
    #[serde(default)]
    pub supersedes: bool,
    /// What `--set` can change.
    #[serde(default, deserialize_with = "params::unique_params")]
    pub params: BTreeMap<String, Marked<ParamSpec>>,
    /// From the first step of an outage phase to the end of the last one.
    #[serde(default)]
    pub budget: Option<Marked<Budgets>>,
    /// Phases that are gone through once for each value of a list (decision 145).
    #[serde(default)]
    pub repeat: Option<Repeat>,
    /// In order.
    pub phases: Vec<Phase>,
    /// In any order; the graph decides.
    pub steps: Vec<Step<A>>,
}

/// A budget per topology.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Budgets {
    /// With several servers.
    pub ha: Span,
    /// With one.
    pub single: Span,
}

impl Budgets {
    /// The one for a topology.
    pub fn of(&self, topology: Topology) -> Span {
        match topology {
            Topology::Ha => self.ha,
            Topology::Single => self.single,
        }
    }
}

/// What a budget measures.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Phase {
    /// Its name.
    pub id: Marked<PhaseId>,
    /// Which clock it runs on.
    pub clock: PhaseClock,
    /// How long it may take.
    #[serde(default)]
    pub budget: Option<Budgets>,
}

/// A goal on hosts: one node of the graph.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, bound = "A: de::DeserializeOwned")]
pub struct Step<A> {
    /// Its name.
    pub id: Marked<StepId>,
    /// Its phase.
    pub phase: Marked<String>,
    /// Where it runs.
    pub on: Marked<Selector>,
    /// The sequence on each target.
    #[serde(rename = "do", deserialize_with = "lists::tight")]
    pub actions: Vec<Placed<A>>,
    /// What must be done before.
    #[serde(default, deserialize_with = "lists::tight")]
    pub needs: Vec<Need>,
    /// How many targets may be between their first action and the end of their last.
    #[serde(default)]
    pub hosts_at_once: Marked<HostsAtOnce>,
    /// The target that begins when all others are done, by a fact that names it (decision 120).
    #[serde(default)]
    pub last: Option<Marked<String>>,
    /// All of these must hold, or the step is left out.
    #[serde(default)]
    pub when: Vec<Condition>,
    /// If the probes of all of these are satisfied on a target, its sequence is done already (decision 002).
    #[serde(default)]
    pub done_when: Vec<Placed<A>>,
    /// How often an action is tried.
    #[serde(default)]
    pub retry: Option<Marked<Retry>>,
    /// How long one attempt of one action may take.
    #[serde(default)]
    pub timeout: Option<Marked<Span>>,
    /// Why it cannot be undone: needs consent, is never skipped, is not repeated past the point.
    #[serde(default)]
    pub irreversible: Option<Marked<String>>,
    /// A failure is recorded and holds nothing; an attempt gets at most this long.
    #[serde(default)]
    pub best_effort: Option<Marked<Span>>,
    /// When it runs besides its place in the graph.
    #[serde(default)]
    pub always: Option<Always>,
    /// Never skippable.
    #[serde(default)]
    pub safety: bool,
}

/// An action with the marks of everything in it.
#[derive(Debug, Clone)]
pub struct Placed<A> {
    /// Where it begins.
    pub mark: Mark,
    /// The first mark after it.
    pub end: Mark,
    /// The action.
    pub spec: A,
}

/// Which targets a step runs on. Lost hosts drop out of every selector.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub enum Selector {
    /// The machine that runs rke2flow.
    Operator,
    /// Every host.
    All,
    /// Every server.
    Servers,
    /// Every agent.
    Agents,
    /// The server that is reset and restored.
    Init,
    /// Every server but that one.
    OtherServers,
    /// The host of this name.
    Host(HostName),
    /// The hosts that name this group.
    Group(String),
    /// The servers among the hosts of this parameter of type `Hosts`.
    ServersOf(String),
    /// The agents among the hosts of this parameter of type `Hosts`.
    AgentsOf(String),
}

/// An edge.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub enum Need {
    /// Every target of that step is done.
    All(Marked<String>),
    /// The same target is done with whichever of these steps it is in.
    SameHost(Vec<Marked<String>>),
}

/// Decided when planning, from the cluster file and the parameters alone.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub enum Condition {
    /// The cluster file has `velero`.
    Velero,
    /// The cluster file has `s3`.
    S3,
    /// The cluster file has `health_urls`.
    HealthUrls,
    /// Several servers.
    Ha,
    /// One server.
    Single,
    /// The distribution is RKE2.
    Rke2,
    /// The distribution is K3s.
    K3s,
    /// The parameter is not empty, not `false` and not 0.
    NonEmpty(Marked<String>),
    /// The condition does not hold.
    Not(Box<Condition>),
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Condition::NonEmpty(param) => write!(f, "NonEmpty(\"{param}\")"),
            Condition::Not(inner) => write!(f, "Not({inner})"),
            plain => write!(f, "{plain:?}"),
        }
    }
}

impl<'de, A: Deserialize<'de>> Deserialize<'de> for Placed<A> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mark = crate::source::take()?;
        let spec = A::deserialize(deserializer)?;
        Ok(Self { mark, end: crate::source::take()?, spec })
    }
}
