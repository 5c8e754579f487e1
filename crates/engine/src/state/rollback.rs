//! Rolling a failed run back (decision 131): what a person was asked, and what came of it.

use super::{Answer, OpenGate, State};
use crate::id::{InstanceId, RunId, StepId, Target};
use crate::plan::OnFailure;

/// The name of the gate: what `approve` takes.
pub const ROLLBACK_GATE: &str = "rollback";

/// How far rolling the run back has come.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Rollback {
    /// Nobody was asked.
    #[default]
    NotOffered,
    /// A person is asked; the answer that has arrived.
    Offered {
        /// What is asked.
        show: String,
        /// Yes or no, when it came through the inbox.
        answer: Option<Answer>,
    },
    /// A person said no.
    Denied,
    /// A person said yes; the run that rolls back does not exist yet.
    Approved,
    /// This run rolls it back.
    Began {
        /// That run.
        run: RunId,
    },
}

type Applied = Result<(), String>;

impl State {
    /// How far rolling the run back has come.
    pub fn rollback(&self) -> &Rollback {
        &self.run.rollback
    }

    /// The run that rolls this one back, once its name is written down.
    pub fn rolled_back_by(&self) -> Option<&RunId> {
        match &self.run.rollback {
            Rollback::Began { run } => Some(run),
            _ => None,
        }
    }

    /// Whether a failure holds the run, nothing is under way, and a person was not asked yet.
    pub(crate) fn may_offer_rollback(&self) -> bool {
        let quiet = self.index.attempting.is_empty() && self.index.interrupted.is_empty();
        self.plan.on_failure == OnFailure::Rollback
            && self.run.rollback == Rollback::NotOffered
            && quiet
            && !self.index.failed.is_empty()
            && self.index.tripped.is_empty()
            && !self.is_fenced()
            && self.run.aborting.is_none()
            && self.paused().is_none()
    }

    /// The gate, while it is open.
    pub(super) fn rollback_gate(&self) -> Option<OpenGate> {
        match &self.run.rollback {
            Rollback::Offered { show, .. } if self.run.aborting.is_none() => {
                let step = StepId::new(ROLLBACK_GATE).expect("it is a name");
                let instance = InstanceId::new(&step, "Rollback", 1, &Target::Operator);
                Some(OpenGate { instance, step: ROLLBACK_GATE.to_owned(), show: show.clone() })
            }
            _ => None,
        }
    }

    /// Whether this name means the gate, and it is open.
    pub fn is_rollback_gate(&self, name: &str) -> bool {
        self.rollback_gate().is_some_and(|gate| gate.step == name || gate.instance.as_str() == name)
    }

    pub(super) fn offer_rollback(&mut self, show: &str) -> Applied {
        if !self.may_offer_rollback() {
            return Err(format!("a rollback cannot be offered: {:?}", self.run.rollback));
        }
        self.run.rollback = Rollback::Offered { show: show.to_owned(), answer: None };
        Ok(())
    }

    pub(super) fn decide_rollback(&mut self, approved: bool) -> Applied {
        match &self.run.rollback {
            Rollback::Offered { .. } if approved => self.run.rollback = Rollback::Approved,
            Rollback::Offered { .. } => self.run.rollback = Rollback::Denied,
            other => return Err(format!("no rollback is offered: {other:?}")),
        }
        Ok(())
    }

    /// One that was cut off while it was being created is followed by another.
    pub(super) fn begin_rollback(&mut self, run: &RunId) -> Applied {
        match &self.run.rollback {
            Rollback::Approved | Rollback::Began { .. } => self.run.rollback = Rollback::Began { run: run.clone() },
            other => return Err(format!("nobody consented to a rollback: {other:?}")),
        }
        Ok(())
    }

    pub(super) fn answer_rollback(&mut self, given: &Answer) {
        if let Rollback::Offered { answer, .. } = &mut self.run.rollback {
            *answer = Some(given.clone());
        }
    }

    /// What failed is tried again, is passed over, or the run is given up: there is nothing to roll back now.
    pub(super) fn withdraw_rollback(&mut self) {
        if matches!(self.run.rollback, Rollback::Offered { .. } | Rollback::Denied) {
            self.run.rollback = Rollback::NotOffered;
        }
    }

    /// Whether the run goes no further itself: a person said yes.
    pub(crate) fn rolls_back(&self) -> bool {
        let approved = matches!(&self.run.rollback, Rollback::Offered { answer: Some(answer), .. } if answer.approved);
        approved || matches!(self.run.rollback, Rollback::Approved | Rollback::Began { .. })
    }
}
