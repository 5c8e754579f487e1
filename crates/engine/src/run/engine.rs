//! What an engine is made of.

use std::sync::Arc;

use tokio::sync::watch;

use super::{Claims, Consent, EngineError, NoClaims, NoRollback, NobodyHere, Observer, Outcome, RollbackOffer, Run};
use crate::action::Catalogue;
use crate::clock::Clock;
use crate::inbox::Inbox;

/// How much of the work goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Stop {
    /// All of it.
    #[default]
    Run,
    /// Nothing new is started; attempts end.
    Drain,
    /// Nothing is waited for any more.
    Now,
}

/// What is done with unfinished actions of another revision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Revisions {
    /// The run is refused.
    #[default]
    Strict,
    /// A person accepts this program's revision.
    Accepted,
}

/// Who says yes at gates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Gates {
    /// A person, each time.
    #[default]
    Ask,
    /// `--yes`.
    Yes,
}

/// Drives one run: journal, catalogue, clock, and who is asked and told.
pub struct Engine {
    pub(super) run: Run,
    pub(super) catalogue: Arc<dyn Catalogue>,
    pub(super) clock: Clock,
    pub(super) claims: Arc<dyn Claims>,
    pub(super) consent: Arc<dyn Consent>,
    pub(super) rollback: Arc<dyn RollbackOffer>,
    pub(super) observers: Vec<Box<dyn Observer>>,
    pub(super) inbox: Option<Inbox>,
    pub(super) stop: watch::Receiver<Stop>,
    pub(super) revisions: Revisions,
    pub(super) gates: Gates,
    pub(super) machine: String,
    pub(super) version: String,
}

impl Engine {
    /// An engine that nobody can stop, with nobody to ask and nobody else acting. A run on disk brings its inbox.
    pub fn new(run: Run, catalogue: Arc<dyn Catalogue>, clock: Clock) -> Self {
        let inbox = run.directory().map(|directory| Inbox::at(directory.inbox()));
        let gates = if run.replayed().opened.yes { Gates::Yes } else { Gates::Ask };
        let (_, stop) = watch::channel(Stop::Run);
        Self {
            run,
            catalogue,
            clock,
            claims: Arc::new(NoClaims),
            consent: Arc::new(NobodyHere),
            rollback: Arc::new(NoRollback),
            observers: Vec::new(),
            inbox,
            stop,
            revisions: Revisions::Strict,
            gates,
            machine: String::new(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }

    /// How the right to act is had.
    #[must_use]
    pub fn claims(mut self, claims: Arc<dyn Claims>) -> Self {
        self.claims = claims;
        self
    }

    /// How a person is asked at a gate.
    #[must_use]
    pub fn consent(mut self, consent: Arc<dyn Consent>) -> Self {
        self.consent = consent;
        self
    }

    /// How it is found out whether a run that failed can be rolled back.
    #[must_use]
    pub fn rollback(mut self, rollback: Arc<dyn RollbackOffer>) -> Self {
        self.rollback = rollback;
        self
    }

    /// Tells one more observer.
    #[must_use]
    pub fn observe(mut self, observer: Box<dyn Observer>) -> Self {
        self.observers.push(observer);
        self
    }

    /// How the engine is stopped.
    #[must_use]
    pub fn stop(mut self, stop: watch::Receiver<Stop>) -> Self {
        self.stop = stop;
        self
    }

    /// Where commands come from, instead of the run's own inbox.
    #[must_use]
    pub fn inbox(mut self, inbox: Inbox) -> Self {
        self.inbox = Some(inbox);
        self
    }

    /// What is done with unfinished actions of another revision.
    #[must_use]
    pub fn revisions(mut self, revisions: Revisions) -> Self {
        self.revisions = revisions;
        self
    }

    /// Who says yes at gates.
    #[must_use]
    pub fn gates(mut self, gates: Gates) -> Self {
        self.gates = gates;
        self
    }

    /// The operator's machine and the program's version, for the journal.
    #[must_use]
    pub fn signed(mut self, machine: impl Into<String>, version: impl Into<String>) -> Self {
        (self.machine, self.version) = (machine.into(), version.into());
        self
    }

    /// Drives the run until it is closed or nothing more can be done. May be dropped at any time: what is
    /// acknowledged stays, and the run can be gone on with.
    pub async fn drive(self) -> Result<Outcome, EngineError> {
        super::drive::drive(self).await
    }
}
