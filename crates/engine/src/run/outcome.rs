//! How driving a run ends.

use crate::action::Failure;
use crate::id::{InstanceId, Target, UnitName};
use crate::journal::JournalError;
use crate::record::{RecordError, Verdict};
use crate::state::{OpenGate, StateError};

use super::ClaimError;

/// How driving a run ended. All but [`Outcome::Closed`] leave it open and resumable.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// The run is closed.
    Closed(Verdict),
    /// Something failed and nothing else can be done.
    Failed {
        /// What failed, and why.
        instances: Vec<(InstanceId, Failure)>,
    },
    /// A person stopped the engine.
    Stopped {
        /// What goes on without it.
        going_on: Vec<GoingOn>,
    },
    /// A person has to decide, and nobody is here.
    WaitingAtGate {
        /// Where.
        gates: Vec<OpenGate>,
    },
    /// It failed, and a person consented to a rollback: another run takes its place.
    RollBack,
    /// A person paused the run.
    Paused {
        /// Who, and why.
        why: String,
    },
}

/// An attempt that goes on although nobody waits for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GoingOn {
    /// The instance.
    pub instance: InstanceId,
    /// Where.
    pub target: Target,
    /// The attempt.
    pub attempt: u32,
    /// The unit, when a change was begun.
    pub unit: Option<UnitName>,
}

/// Why a run could not be driven. What is acknowledged stays; the run is resumable.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The journal cannot be written.
    #[error("cannot go on without the journal: {0}")]
    Journal(#[from] JournalError),
    /// A record does not fit the state: a defect.
    #[error("{0}")]
    State(#[from] StateError),
    /// The right to act could not be had.
    #[error("cannot act on the cluster: {0}")]
    Claim(#[from] ClaimError),
    /// An unfinished action has another revision here.
    #[error(
        "`{action}` has revision {here} in this program, and the run was planned with revision {planned} by rke2flow {tool}: resume with that version, or accept with --accept-revision"
    )]
    Revision {
        /// The action.
        action: String,
        /// The revision in the plan.
        planned: u32,
        /// The revision here.
        here: u32,
        /// The version that opened the run.
        tool: String,
    },
    /// An unfinished action does not exist here.
    #[error("this program has no action `{action}`; the run was opened by rke2flow {tool}: resume with that version")]
    UnknownAction {
        /// The action.
        action: String,
        /// The version that opened the run.
        tool: String,
    },
    /// Nothing can be done, and yet the run is not done: a defect of the plan.
    #[error("nothing can go on, and these steps are not done: {steps}")]
    Stuck {
        /// Their names.
        steps: String,
    },
}

/// Why a run could not be created or opened.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The journal.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// A record does not fit the state.
    #[error(transparent)]
    State(#[from] StateError),
    /// It was cut off while it was being created: nothing was changed on any host.
    #[error("the run was cut off before its plan was written down; nothing was done, start it again")]
    NeverBegun,
    /// The plan in the journal cannot be read.
    #[error("the plan in the journal cannot be read: {0}")]
    Plan(String),
    /// What was read does not fit into records.
    #[error(transparent)]
    Record(#[from] RecordError),
}
