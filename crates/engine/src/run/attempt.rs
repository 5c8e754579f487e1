//! One attempt at one action: look, change, look until it holds. Runs as a task of its own and only sends messages.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use tokio::sync::{mpsc, oneshot};

use super::Claims;
use crate::action::{Action, Applied, Catalogue, Context, Failure, FailureClass, Probe};
use crate::duration::Span;
use crate::record::ProbeVerdict;
use crate::state::Stage;
use crate::value::Facts;

/// The shortest wait between two probes, whatever the action asks for.
const POLL_MIN: Duration = Duration::from_millis(10);

/// What an attempt says to the task that owns the ledger.
#[derive(Debug)]
pub(super) struct Message {
    pub lane: usize,
    pub attempt: u32,
    pub said: Said,
}

#[derive(Debug)]
pub(super) enum Said {
    Probed(ProbeVerdict, String),
    /// About to change something: `go` is answered when that is durable.
    Applying {
        go: oneshot::Sender<()>,
    },
    Applied(Applied),
    Settled(Facts),
    /// A check of `done_when` does not hold.
    DoesNotHold(String),
    Failed(Failure),
}

/// What the engine does with the action.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// A check of `done_when`: one look.
    Check,
    /// The world is waited for.
    Watch,
    /// The world is changed.
    Change,
    /// The world is changed for good: the claim is read again first.
    ChangeForGood,
}

pub(super) struct Attempt {
    pub lane: usize,
    pub purpose: Purpose,
    pub stage: Stage,
    pub name: String,
    /// The fields with values in place.
    pub fields: Result<serde_json::Value, String>,
    pub limit: Duration,
    pub context: Context,
    pub catalogue: Arc<dyn Catalogue>,
    pub claims: Arc<dyn Claims>,
    pub messages: mpsc::Sender<Message>,
}

impl Attempt {
    /// Runs the attempt to its end, which is always said: done, failed, panicked or out of time.
    pub async fn run(self) {
        let mut seen = String::new();
        let deadline = self.context.deadline;
        let work = AssertUnwindSafe(self.work(&mut seen)).catch_unwind();
        let end = match tokio::time::timeout_at(deadline, work).await {
            Ok(Ok(Ok(end))) => end,
            Ok(Ok(Err(failure))) => Said::Failed(failure),
            Ok(Err(panic)) => Said::Failed(panicked(panic.as_ref())),
            Err(_) => Said::Failed(self.out_of_time(&seen)),
        };
        self.say(end).await;
    }

    async fn work(&self, seen: &mut String) -> Result<Said, Failure> {
        let action = self.bind()?;
        let may_apply = self.changes() && self.stage != Stage::Settling;
        let first = match action.probe(&self.context).await {
            // A change was begun: it is followed to its end, also while its host does not answer for a moment.
            Err(failure) if self.stage != Stage::Looking && failure.class == FailureClass::Transient => {
                *seen = failure.to_string();
                return self.settle(action.as_ref(), may_apply, seen).await;
            }
            looked => looked?,
        };
        self.say_probed(&first, seen).await;
        match (self.purpose, first) {
            (Purpose::Check, Probe::Satisfied(facts)) => Ok(Said::Settled(facts)),
            (Purpose::Check, other) => Ok(Said::DoesNotHold(why(&other))),
            (_, Probe::Refused { expected, found }) => Err(refused(&expected, &found)),
            (_, Probe::Satisfied(facts)) if self.is_untouched() || action.steady().is_zero() => {
                Ok(Said::Settled(facts))
            }
            (_, Probe::Pending(_)) if may_apply => {
                self.apply(action.as_ref(), seen).await?;
                self.settle(action.as_ref(), false, seen).await
            }
            _ => self.settle(action.as_ref(), may_apply, seen).await,
        }
    }

    fn changes(&self) -> bool {
        matches!(self.purpose, Purpose::Change | Purpose::ChangeForGood)
    }

    /// Whether what is to be changed has not been touched by this run: then it need not prove that it is steady. An
    /// earlier attempt may have failed just because it was not.
    fn is_untouched(&self) -> bool {
        self.changes() && self.stage == Stage::Looking && self.context.attempt == 1
    }

    fn bind(&self) -> Result<Arc<dyn Action>, Failure> {
        let missing = |why: &String| Failure::permanent(format!("{} cannot be begun", self.name)).observed(why);
        let fields = self.fields.as_ref().map_err(missing)?;
        self.catalogue.bind(&self.name, fields, &self.context.target).map_err(|why| missing(&why))
    }

    async fn apply(&self, action: &dyn Action, seen: &mut String) -> Result<(), Failure> {
        if let (Purpose::ChangeForGood, Some(claim)) = (self.purpose, &self.context.claim) {
            self.claims.verify(claim).await.map_err(super::ClaimError::into_failure)?;
        }
        if self.stage == Stage::Looking {
            let (go, durable) = oneshot::channel();
            self.say(Said::Applying { go }).await;
            let gone =
                |_| Failure::transient("the engine stopped, or the run was given up, before the change was begun");
            durable.await.map_err(gone)?;
        }
        "the change has begun and has not ended".clone_into(seen);
        let applied = action.apply(&self.context).await?;
        self.say(Said::Applied(applied)).await;
        "the change was made".clone_into(seen);
        Ok(())
    }

    /// Looks until the goal holds and has held for as long as the action asks. A probe that cannot look for a moment
    /// (an API server that restarts) is asked again; the attempt's deadline ends it. What was on its way when the
    /// attempt began and has stopped short of the goal is changed, once.
    async fn settle(&self, action: &dyn Action, mut may_apply: bool, seen: &mut String) -> Result<Said, Failure> {
        let clock = &self.context.clock;
        let mut holds_since = None;
        loop {
            match action.probe(&self.context).await {
                Ok(Probe::Satisfied(facts)) => {
                    let now = clock.elapsed();
                    let held = now.saturating_sub(*holds_since.get_or_insert(now));
                    if held >= action.steady() {
                        return Ok(Said::Settled(facts));
                    }
                    *seen = format!("it holds, and has to for {}", Span::from(action.steady()));
                }
                Ok(Probe::Refused { expected, found }) => return Err(refused(&expected, &found)),
                Ok(Probe::Pending(_)) if may_apply => {
                    (may_apply, holds_since) = (false, None);
                    self.apply(action, seen).await?;
                }
                Ok(other) => {
                    holds_since = None;
                    *seen = why(&other);
                }
                Err(failure) if failure.class == FailureClass::Transient => {
                    holds_since = None;
                    *seen = failure.to_string();
                }
                Err(failure) => return Err(failure),
            }
            self.context.progress.say(seen);
            clock.sleep(action.poll().max(POLL_MIN)).await;
        }
    }

    async fn say_probed(&self, probe: &Probe, seen: &mut String) {
        let verdict = match probe {
            Probe::Satisfied(_) => ProbeVerdict::Satisfied,
            Probe::Pending(_) => ProbeVerdict::Pending,
            Probe::InProgress(_) => ProbeVerdict::InProgress,
            Probe::Refused { .. } => ProbeVerdict::Refused,
        };
        *seen = why(probe);
        self.say(Said::Probed(verdict, seen.clone())).await;
    }

    async fn say(&self, said: Said) {
        let message = Message { lane: self.lane, attempt: self.context.attempt, said };
        // A closed channel means that the engine is gone; there is nobody left to tell.
        let _ = self.messages.send(message).await;
    }

    fn out_of_time(&self, seen: &str) -> Failure {
        let waited = Span::from(self.limit);
        let seen = if seen.is_empty() { "the first look has not ended" } else { seen };
        Failure::transient(format!("{} was not reached within {waited}", self.name)).observed(seen)
    }
}

fn why(probe: &Probe) -> String {
    match probe {
        Probe::Satisfied(_) => String::new(),
        Probe::Pending(why) | Probe::InProgress(why) => why.clone(),
        Probe::Refused { expected, found } => format!("expected {expected}, found {found}"),
    }
}

fn refused(expected: &str, found: &str) -> Failure {
    Failure::permanent(format!("refused: expected {expected}")).observed(format!("found {found}"))
}

fn panicked(panic: &(dyn std::any::Any + Send)) -> Failure {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
    Failure::permanent("the action panicked: a defect of rke2flow").observed(text)
}
