//! Guard: every precondition of the run holds; all that do not are told at once.

mod backups;
mod certificates;
mod check;
mod controllers;
mod datastore;
mod disks;
mod etcd;
mod evidence;
mod hosts;
mod judgement;
mod objects;
#[cfg(test)]
mod tests;
mod token;
mod versions;

use async_trait::async_trait;
use futures::future::join_all;
use rke2flow_engine::action::{ActionInfo, Context, Failure, FailureClass, Place, Probe};
use rke2flow_engine::clock::Clock;
use rke2flow_engine::value::{FactSpec, Facts, Param, ValueType};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

use self::check::Seen;
pub use self::check::{Check, Level};
use self::evidence::Evidence;
pub use self::judgement::{Judgement, Outcome};
use crate::actions::{Goal, World, info, known};
use crate::ports::Access;

/// Goal: every precondition of the run holds; all that do not are told at once.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Guard {
    /// Which checks; all of them when left out.
    #[serde(default = "all")]
    pub checks: Vec<Check>,
    /// The version that the cluster is about to run; empty: no upgrade is meant.
    #[serde(default)]
    pub version: Param<String>,
    /// Releases of later rounds of the same run: a host that runs one of them has this one behind it.
    #[serde(default)]
    pub later: Param<Vec<String>>,
    /// Whether the runbook drains nodes: only then a PodDisruptionBudget can stop it.
    #[serde(default)]
    pub drains: Param<bool>,
    /// RKE2's own hash of the token that the recovery point was taken under; empty: no point is given.
    #[serde(default)]
    pub token_hash: Param<String>,
    /// Names of checks whose refusal is passed over, beside those of `--waive`.
    #[serde(default)]
    pub waived: Param<Vec<String>>,
    /// Hosts that are lost: nothing is expected of them.
    #[serde(default)]
    pub lost: Param<Vec<String>>,
}

/// What checks are asked about.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Question {
    /// The version that the cluster is about to run; empty: no upgrade is meant.
    pub version: String,
    /// Releases that the same run goes to afterwards: what runs one of them has this one behind it.
    pub later: Vec<String>,
    /// Whether nodes are drained; `None`: nobody knows yet.
    pub drains: Option<bool>,
    /// RKE2's own hash of the token that a recovery point was taken under; empty: none is meant.
    pub token_hash: String,
    /// Hosts that are lost: nothing is expected of them.
    pub lost: Vec<String>,
}

#[async_trait]
impl Goal for Guard {
    const INFO: ActionInfo = ActionInfo {
        facts: &[
            FactSpec { name: "checks", kind: ValueType::List },
            FactSpec { name: "warnings", kind: ValueType::List },
        ],
        changes: false,
        ..info("Guard", "every precondition of the run holds; all that do not are told at once", Place::Operator, 10)
    };

    async fn probe(&self, world: &World, context: &Context) -> Result<Probe, Failure> {
        let waived = self.waived(context)?;
        let question = Question {
            version: known(&self.version)?.clone(),
            later: known(&self.later)?.clone(),
            drains: Some(*known(&self.drains)?),
            token_hash: known(&self.token_hash)?.clone(),
            lost: known(&self.lost)?.clone(),
        };
        let mut judgements = judge(world, &self.checks, &question, &context.clock).await;
        for judgement in judgements.iter_mut().filter(|judgement| waived.contains(&judgement.check)) {
            *judgement = judgement.clone().waived();
        }
        if judgements.iter().any(|judgement| judgement.outcome == Outcome::Fail) {
            return Err(refusal(&judgements));
        }
        let of = |outcomes: &[Outcome]| {
            let told = judgements.iter().filter(|judgement| outcomes.contains(&judgement.outcome));
            told.map(ToString::to_string).collect::<Vec<_>>().into()
        };
        let all = [Outcome::Pass, Outcome::Warn, Outcome::Waived];
        Ok(Probe::Satisfied(Facts::from([
            ("checks".to_owned(), of(&all)),
            ("warnings".to_owned(), of(&[Outcome::Warn, Outcome::Waived])),
        ])))
    }
}

/// Looks at a cluster with every check. Changes nothing, and needs no claim.
pub async fn examine(access: &Access, question: &Question) -> Vec<Judgement> {
    judge(&World::new(access.clone()), Check::ALL, question, &Clock::real()).await
}

/// All checks look at once; none waits for another.
async fn judge(world: &World, checks: &[Check], question: &Question, clock: &Clock) -> Vec<Judgement> {
    let evidence = Evidence::new(world, question, clock);
    let one = |check: Check| {
        let evidence = &evidence;
        async move {
            let row = check.row();
            let seen = (row.judge)(evidence).await.unwrap_or_else(|failure| cannot_tell(row.level, &failure));
            Judgement::of(check, seen)
        }
    };
    join_all(checks.iter().copied().map(one)).await
}

/// What cannot be looked at is not well.
fn cannot_tell(level: Level, failure: &Failure) -> Seen {
    let mut seen = Seen::default();
    let observed = if failure.observed.is_empty() { String::new() } else { format!(": {}", failure.observed) };
    let what = format!("nobody can tell: {}{observed}", failure.what);
    let fix = if failure.next.is_empty() { "rke2flow doctor".to_owned() } else { failure.next.clone() };
    match level {
        Level::Refuse => seen.refuse(what, fix),
        Level::Warn => seen.warn(what, fix),
    }
    seen
}

fn refusal(judgements: &[Judgement]) -> Failure {
    let failed: Vec<Check> =
        judgements.iter().filter(|one| one.outcome == Outcome::Fail).map(|one| one.check).collect();
    let what = format!("{} of {} checks refuse the run; nothing was changed", failed.len(), judgements.len());
    let mut next = vec!["mend what fails; `rke2flow doctor` shows it again".to_owned()];
    for check in failed {
        next.push(match check.unwaivable() {
            None => format!("--waive {check}=REASON   (passes over it; the reason is written down)"),
            Some(why) => format!("{check} cannot be waived: {why}"),
        });
    }
    Failure::of(FailureClass::Refused, what).observed(Judgement::text(judgements)).next(next.join("\n"))
}

impl Guard {
    /// What the runbook and the person pass over. A misspelt name would waive nothing, or be thought to: it is refused.
    fn waived(&self, context: &Context) -> Result<BTreeSet<Check>, Failure> {
        let mut waived = BTreeSet::new();
        for name in known(&self.waived)? {
            waived.insert(waivable(name).map_err(Failure::permanent)?);
        }
        // Of `--waive` only what are checks: it may name steps too, and whoever typed it was told.
        waived.extend(context.waived.iter().filter_map(|name| waivable(name).ok()));
        Ok(waived)
    }
}

/// The check of this name; why it cannot be waived when there is none, or when nobody may pass over it.
pub fn waivable(name: &str) -> Result<Check, String> {
    let Some(check) = Check::named(name) else {
        let known: Vec<&str> =
            Check::ALL.iter().filter(|check| check.unwaivable().is_none()).map(|check| check.name()).collect();
        return Err(format!("there is no check `{name}` to waive; there are {}", known.join(", ")));
    };
    match check.unwaivable() {
        None => Ok(check),
        Some(why) => Err(format!("the check {check} cannot be waived: {why}")),
    }
}

fn all() -> Vec<Check> {
    Check::ALL.to_vec()
}
