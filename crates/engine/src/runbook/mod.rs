//! The runbook language (format 1): what a person writes, as it was read and checked.

mod budgets;
mod check;
mod facts;
mod read;

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::cluster::Topology;
use crate::duration::Span;
use crate::id::{HostName, PhaseId, StepId};
pub use crate::plan::{Always, OnFailure, PhaseClock, Retry};
use crate::source::{Mark, Marked, SourceText};
use crate::value::ValueType;

#[cfg(test)]
mod example;
#[cfg(test)]
mod tests;

pub(crate) use facts::mark_of;
pub(crate) use read::Problems;
pub use read::{parse, read};

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
    #[serde(default, deserialize_with = "unique_params")]
    pub params: BTreeMap<String, Marked<ParamSpec>>,
    /// From the first step of an outage phase to the end of the last one.
    #[serde(default)]
    pub budget: Option<Marked<Budgets>>,
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
    #[serde(rename = "do")]
    pub actions: Vec<Placed<A>>,
    /// What must be done before.
    #[serde(default)]
    pub needs: Vec<Need>,
    /// How many targets may be between their first action and the end of their last.
    #[serde(default)]
    pub hosts_at_once: Marked<HostsAtOnce>,
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

/// How many targets of a step may be at work at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostsAtOnce {
    /// This many.
    Count(u32),
    /// This part of the targets, rounded down, but at least one.
    Percent(u8),
    /// All of them.
    All,
}

impl Default for HostsAtOnce {
    fn default() -> Self {
        HostsAtOnce::Count(1)
    }
}

impl HostsAtOnce {
    /// The number for this many targets; at least 1.
    pub fn of(self, targets: usize) -> usize {
        let wanted = match self {
            HostsAtOnce::Count(count) => count as usize,
            HostsAtOnce::Percent(percent) => targets * usize::from(percent) / 100,
            HostsAtOnce::All => targets,
        };
        wanted.clamp(1, targets.max(1))
    }
}

impl<'de> Deserialize<'de> for HostsAtOnce {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneOfThree;
        impl Visitor<'_> for OneOfThree {
            type Value = HostsAtOnce;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number from 1, a percentage such as \"25%\", or \"all\"")
            }

            fn visit_u64<E: de::Error>(self, count: u64) -> Result<HostsAtOnce, E> {
                match u32::try_from(count) {
                    Ok(count) if count > 0 => Ok(HostsAtOnce::Count(count)),
                    _ => Err(E::invalid_value(de::Unexpected::Unsigned(count), &self)),
                }
            }

            fn visit_i64<E: de::Error>(self, count: i64) -> Result<HostsAtOnce, E> {
                Err(E::invalid_value(de::Unexpected::Signed(count), &self))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<HostsAtOnce, E> {
                if text == "all" {
                    return Ok(HostsAtOnce::All);
                }
                let percent = text.strip_suffix('%').and_then(|number| number.parse::<u8>().ok());
                match percent {
                    Some(percent @ 1..=100) => Ok(HostsAtOnce::Percent(percent)),
                    _ => Err(E::invalid_value(de::Unexpected::Str(text), &self)),
                }
            }
        }
        deserializer.deserialize_any(OneOfThree)
    }
}

/// A parameter: its type and its default.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub enum ParamSpec {
    /// Any text.
    Text(String),
    /// A release; the default may be `${cluster.version}`.
    Version(String),
    /// A run id, the name of a snapshot file, or `latest`.
    RecoveryPoint(String),
    /// Kubernetes namespaces.
    Namespaces(Vec<String>),
    /// Hosts of the cluster file.
    Hosts(Vec<String>),
    /// A whole number.
    Number(i64),
    /// Yes or no.
    Flag(bool),
    /// A length of time.
    Duration(Span),
    /// No default: `--set` must give it.
    Required(ParamType),
}

/// What a parameter is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum ParamType {
    /// Any text.
    Text,
    /// A release.
    Version,
    /// A run id, the name of a snapshot file, or `latest`.
    RecoveryPoint,
    /// Kubernetes namespaces.
    Namespaces,
    /// Hosts of the cluster file.
    Hosts,
    /// A whole number.
    Number,
    /// Yes or no.
    Flag,
    /// A length of time.
    Duration,
}

impl ParamSpec {
    /// What it is.
    pub fn kind(&self) -> ParamType {
        match self {
            ParamSpec::Text(_) => ParamType::Text,
            ParamSpec::Version(_) => ParamType::Version,
            ParamSpec::RecoveryPoint(_) => ParamType::RecoveryPoint,
            ParamSpec::Namespaces(_) => ParamType::Namespaces,
            ParamSpec::Hosts(_) => ParamType::Hosts,
            ParamSpec::Number(_) => ParamType::Number,
            ParamSpec::Flag(_) => ParamType::Flag,
            ParamSpec::Duration(_) => ParamType::Duration,
            ParamSpec::Required(kind) => *kind,
        }
    }

    /// Its default, `${cluster.…}` still in place; `None` when `--set` must give a value.
    pub fn default_value(&self) -> Option<Value> {
        match self {
            ParamSpec::Text(text) | ParamSpec::Version(text) | ParamSpec::RecoveryPoint(text) => {
                Some(Value::from(text.as_str()))
            }
            ParamSpec::Namespaces(list) | ParamSpec::Hosts(list) => Some(Value::from(list.clone())),
            ParamSpec::Number(number) => Some(Value::from(*number)),
            ParamSpec::Flag(flag) => Some(Value::from(*flag)),
            ParamSpec::Duration(span) => Some(Value::from(span.to_string())),
            ParamSpec::Required(_) => None,
        }
    }
}

impl ParamType {
    /// The type of its value in a template.
    pub fn value_type(self) -> ValueType {
        match self {
            ParamType::Text | ParamType::RecoveryPoint => ValueType::Text,
            ParamType::Version => ValueType::Version,
            ParamType::Namespaces | ParamType::Hosts => ValueType::List,
            ParamType::Number => ValueType::Number,
            ParamType::Flag => ValueType::Flag,
            ParamType::Duration => ValueType::Duration,
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

/// A map that refuses a name given twice: the last one would silently win otherwise.
fn unique_params<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, Marked<ParamSpec>>, D::Error> {
    struct Unique;
    impl<'de> Visitor<'de> for Unique {
        type Value = BTreeMap<String, Marked<ParamSpec>>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a map of parameters such as {\"to\": Text(\"latest\")}")
        }

        fn visit_map<M: de::MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
            let mut params = BTreeMap::new();
            while let Some(name) = map.next_key::<String>()? {
                if params.contains_key(&name) {
                    return Err(de::Error::custom(format_args!("the parameter `{name}` is given twice")));
                }
                params.insert(name, map.next_value()?);
            }
            Ok(params)
        }
    }
    deserializer.deserialize_map(Unique)
}
