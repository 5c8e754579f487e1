//! The contract between the engine and what it executes: look, change, look until it holds.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::clock::Clock;
use crate::id::{InstanceId, RunId, StepId, Target, UnitName};
use crate::value::{FactSpec, Facts};

/// How one kind of goal is reached on one target.
///
/// `probe` only looks, and answers from the world, never from the journal. `apply` moves the world towards the goal;
/// it may be cut off anywhere and called again, and sends at most one detached command per attempt. After `apply`
/// the engine probes again until the goal holds (and stays so for [`Action::steady`]) or the deadline passes.
#[async_trait]
pub trait Action: Send + Sync {
    /// Looks and changes nothing.
    async fn probe(&self, context: &Context) -> Result<Probe, Failure>;

    /// Moves the world towards the goal. Not called for an action whose info says that it changes nothing.
    async fn apply(&self, context: &Context) -> Result<Applied, Failure>;

    /// How long the goal must hold without a break before the step is done.
    fn steady(&self) -> Duration {
        Duration::ZERO
    }

    /// Cluster time between two probes while settling.
    fn poll(&self) -> Duration {
        Duration::from_secs(2)
    }
}

/// What a probe saw.
#[derive(Debug, Clone, PartialEq)]
pub enum Probe {
    /// The goal holds.
    Satisfied(Facts),
    /// The goal does not hold, and nothing is on its way: why.
    Pending(String),
    /// Something is on its way to the goal: what. `apply` is not needed.
    InProgress(String),
    /// The world is neither before nor after: going on would do harm. A permanent failure.
    Refused {
        /// What the action can start from.
        expected: String,
        /// What it found.
        found: String,
    },
}

impl Probe {
    /// The goal holds and there is nothing to tell.
    pub fn satisfied() -> Self {
        Probe::Satisfied(Facts::new())
    }

    /// The goal does not hold.
    pub fn pending(why: impl Into<String>) -> Self {
        Probe::Pending(why.into())
    }
}

/// What `apply` did.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Applied {
    /// The receipt of the detached command, when there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receipt: Option<Receipt>,
    /// One line about what was done.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub note: String,
    /// What a person must know of it, line by line: the report tells it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attention: Vec<String>,
}

/// The fact by which an action that only looks says what a person must know: a list of lines that the report tells.
pub const ATTENTION: &str = "attention";

/// What a detached command left on its host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// The systemd unit that ran.
    pub unit: UnitName,
    /// Exit status of the script.
    pub exit: i32,
    /// The host's boot when the script started.
    pub boot: String,
    /// The end of its output, at most 4 KiB, secrets removed.
    #[serde(default)]
    pub tail: String,
}

/// Whether trying again can help.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum FailureClass {
    /// May pass: the network, a server that restarts.
    Transient,
    /// Will not pass by itself: a wrong world, a refused command, bad input.
    Permanent,
    /// A guard, a host key or an unreachable host refused before anything was changed.
    Refused,
    /// Another operator holds the cluster.
    Fenced,
}

/// Why an attempt failed, in the three parts that a person needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Whether trying again can help.
    pub class: FailureClass,
    /// What failed; lower case, no full stop.
    pub what: String,
    /// What was observed, with the tail of a remote log; at most 4 KiB.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub observed: String,
    /// What to do next: a command.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub next: String,
}

impl Failure {
    /// A failure that may pass.
    pub fn transient(what: impl Into<String>) -> Self {
        Self::of(FailureClass::Transient, what)
    }

    /// A failure that will not pass by itself.
    pub fn permanent(what: impl Into<String>) -> Self {
        Self::of(FailureClass::Permanent, what)
    }

    /// A failure of this class.
    pub fn of(class: FailureClass, what: impl Into<String>) -> Self {
        Self { class, what: what.into(), observed: String::new(), next: String::new() }
    }

    /// Adds what was observed.
    #[must_use]
    pub fn observed(mut self, observed: impl Into<String>) -> Self {
        self.observed = observed.into();
        self
    }

    /// Adds the next command.
    #[must_use]
    pub fn next(mut self, next: impl Into<String>) -> Self {
        self.next = next.into();
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        if !self.observed.is_empty() {
            write!(f, " (observed: {})", self.observed)?;
        }
        Ok(())
    }
}

impl std::error::Error for Failure {}

/// What an attempt may know and use.
#[derive(Debug, Clone)]
pub struct Context {
    /// The run.
    pub run: RunId,
    /// The cluster's name.
    pub cluster: String,
    /// The step.
    pub step: StepId,
    /// The instance.
    pub instance: InstanceId,
    /// Where it runs.
    pub target: Target,
    /// The attempt, from 1.
    pub attempt: u32,
    /// The name of this attempt's detached command, always the same one.
    pub unit: UnitName,
    /// The right to act on the cluster; every changing command carries it. `None` in a dry run: then nothing may change.
    pub claim: Option<Claim>,
    /// The round that the step stands in, from 1, when there are several.
    pub round: Option<usize>,
    /// Names of guards' checks and of steps that a person passes over (`--waive`).
    pub waived: Vec<String>,
    /// When the run was opened: anything older was there before.
    pub opened_at: jiff::Timestamp,
    /// Time.
    pub clock: Clock,
    /// When the attempt is given up.
    pub deadline: tokio::time::Instant,
    /// Hints for the display; may be dropped.
    pub progress: Progress,
}

impl Context {
    /// The run's id; with several rounds, the round's number behind it. Names that each round has of its own grow from
    /// it, and none of them is the beginning of another.
    pub fn round_id(&self) -> RunId {
        self.round.map_or_else(|| self.run.clone(), |round| self.run.of_round(round))
    }
}

/// Who may act on a cluster, remembered by its hosts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// Rises with every new holder.
    pub number: u64,
    /// `alice@laptop`.
    pub holder: String,
    /// The run it was taken for.
    pub run: RunId,
    /// The cluster's name.
    pub cluster: String,
}

/// Where an attempt says what it waits for. Hints, not facts: they may be dropped and are not journaled.
#[derive(Clone)]
pub struct Progress(Arc<dyn Fn(&str) + Send + Sync>);

impl Progress {
    /// Sends hints to `sink`.
    pub fn new(sink: impl Fn(&str) + Send + Sync + 'static) -> Self {
        Self(Arc::new(sink))
    }

    /// Drops hints.
    pub fn silent() -> Self {
        Self::new(|_| {})
    }

    /// Says what the attempt waits for now.
    pub fn say(&self, hint: &str) {
        (self.0)(hint);
    }
}

impl fmt::Debug for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Progress")
    }
}

/// Where an action can run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// On the operator's machine only.
    Operator,
    /// For a host only.
    Host,
    /// Either.
    Anywhere,
}

/// What the engine must know about a kind of action before it runs one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ActionInfo {
    /// The name in a runbook.
    pub name: &'static str,
    /// Raised when an unfinished run of the former revision cannot be gone on with.
    pub revision: u32,
    /// The goal in one sentence, for `plan` and the reference.
    pub goal: &'static str,
    /// Where it can run.
    pub place: Place,
    /// What it leaves for later steps.
    pub facts: &'static [FactSpec],
    /// Whether `apply` changes anything. If not, the engine only probes until the goal holds.
    pub changes: bool,
    /// Whether it stops an etcd member: `validate` then refuses several servers at once outside an outage.
    pub stops_etcd_member: bool,
    /// What it does to a node's service, for the blast radius of a plan. On the operator's machine: to every node.
    pub disrupts: Disruption,
    /// Whether a person decides it; the engine then neither probes nor applies.
    pub gate: bool,
    /// What it usually takes, in seconds of cluster time, for forecasts without history.
    pub typical_seconds: u32,
}

/// What those who use a node notice of an action.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Disruption {
    /// Nothing.
    #[default]
    Nothing,
    /// No new pod is placed there.
    Cordons,
    /// Its pods are evicted.
    Drains,
    /// RKE2 is restarted; containers live on.
    Restarts,
    /// RKE2 and all containers are stopped.
    Kills,
}

/// An action as it stands in the plan: its name and its fields, templates included.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlannedAction {
    /// The name.
    pub name: String,
    /// The revision that the plan was made with.
    pub revision: u32,
    /// The fields as JSON.
    pub fields: Value,
}

/// The catalogue of actions: what the engine asks for by name.
pub trait Catalogue: Send + Sync {
    /// What is known about an action; `None` when there is none of this name.
    fn info(&self, name: &str) -> Option<&'static ActionInfo>;

    /// Every name, for "did you mean" and the reference.
    fn names(&self) -> Vec<&'static str>;

    /// Makes an action from its fields, templates already replaced. The error says which field and what was expected.
    fn bind(&self, name: &str, fields: &Value, target: &Target) -> Result<Arc<dyn Action>, String>;
}

/// One action of a runbook as it was read: the catalogue's own enum, one variant per action.
///
/// The engine reads `Runbook<A>`, so that an unknown action or field is refused with its position; then it keeps
/// only name and fields.
pub trait ActionSpec: serde::de::DeserializeOwned + Serialize {
    /// The name in a runbook.
    fn name(&self) -> &'static str;

    /// The fields as JSON, templates included.
    fn fields(&self) -> Value;
}
