//! What is known about a run: the fold of its records. [`State::apply`] is the only way in which it changes.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use jiff::Timestamp;

use crate::action::{Failure, FailureClass};
use crate::id::{InstanceId, StepId, Target};
use crate::plan::{OnFailure, Plan, StepPlan};
use crate::record::{Cause, Verdict};
use crate::value::Facts;

mod apply;
mod back;
mod graph;
mod index;
mod lookup;
mod rollback;

pub(crate) use back::Course;
pub use graph::{Graph, LanePlan};
pub use lookup::{OpenGate, Progress};
pub use rollback::{ROLLBACK_GATE, Rollback};

/// The state of a run.
#[derive(Debug, Clone)]
pub struct State {
    pub(crate) plan: Arc<Plan>,
    pub(crate) graph: Arc<Graph>,
    pub(crate) lanes: Vec<Lane>,
    pub(crate) steps: Vec<StepState>,
    pub(crate) phases: Vec<PhaseState>,
    pub(crate) index: Index,
    pub(crate) run: RunState,
}

/// A record that cannot follow what came before: a defect, or a journal of another plan.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("record {seq} ({kind}) cannot follow: {why}")]
pub struct StateError {
    /// Its place in the journal.
    pub seq: u64,
    /// Its kind.
    pub kind: &'static str,
    /// What does not fit.
    pub why: String,
}

/// How far one target of one step has come.
#[derive(Debug, Clone)]
pub struct Lane {
    /// The position in the sequence that is current.
    pub position: usize,
    /// What is the case at that position.
    pub standing: Standing,
    /// Attempts of the current action so far.
    pub attempt: u32,
    /// Attempts that belong to earlier rounds: before a failed run was resumed, or before a person asked for a retry.
    pub earlier_attempts: u32,
    /// What the sequence found and made so far.
    pub facts: Facts,
    pub(crate) waits: usize,
    pub(crate) begun: bool,
    pub(crate) unsatisfied: bool,
    pub(crate) skip: Option<Skip>,
}

/// What is the case at a lane's current position.
#[derive(Debug, Clone, PartialEq)]
pub enum Standing {
    /// Not begun.
    Waiting,
    /// An attempt runs.
    Attempting(Stage),
    /// The engine went away during an attempt; the same attempt is to be gone on with.
    Interrupted(Stage),
    /// An attempt failed, and another one is due, but not yet scheduled.
    Tripped(Failure),
    /// Another attempt follows at this time.
    Scheduled(Timestamp),
    /// No attempt is left.
    Failed(Failure),
    /// A person has to decide; the decision, once received, with who and why.
    AtGate(Option<Answer>),
    /// The whole sequence is done.
    Done,
}

/// How far an attempt has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Nothing was changed.
    Looking,
    /// A change may have been made.
    Applying,
    /// The change was made; the goal is not proved yet.
    Settling,
}

/// A person's decision at a gate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Yes or no.
    pub approved: bool,
    /// Who, and how.
    pub who: String,
    /// Why, when it was said.
    pub reason: String,
}

/// Positions that are to be skipped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Skip {
    /// The first position that is not skipped.
    pub until: usize,
    pub why: String,
    pub by: Cause,
}

/// How far a step has come.
#[derive(Debug, Clone, Default)]
pub(crate) struct StepState {
    pub waits: usize,
    pub begun: usize,
    pub done: usize,
    pub failed: usize,
    pub complete: bool,
    pub consent: Consent,
    /// Lanes whose own needs are met and that have not begun, in file order.
    pub ready: BTreeSet<usize>,
}

/// Consent to an irreversible step.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) enum Consent {
    #[default]
    NotAsked,
    Asked {
        lane: usize,
        show: String,
        answer: Option<Answer>,
    },
    Given,
}

/// How far a phase has come.
#[derive(Debug, Clone, Default)]
pub(crate) struct PhaseState {
    pub lanes: usize,
    pub done: usize,
    pub entered: bool,
    pub left: bool,
}

/// What a decision looks at, kept up to date by every transition, so that none looks at all steps.
#[derive(Debug, Clone, Default)]
pub(crate) struct Index {
    /// Steps of which a lane could begin now.
    pub startable: BTreeSet<usize>,
    /// Lanes that have begun and whose next action could begin now.
    pub continuing: BTreeSet<usize>,
    pub interrupted: BTreeSet<usize>,
    pub attempting: BTreeSet<usize>,
    pub tripped: BTreeSet<usize>,
    pub scheduled: BTreeSet<(Timestamp, usize)>,
    pub failed: BTreeSet<usize>,
    pub gates: BTreeSet<usize>,
    pub consents: BTreeSet<usize>,
    /// Lanes of which positions are to be skipped.
    pub skipping: BTreeSet<usize>,
    /// Phases all of whose lanes are done and that are not left.
    pub finished_phases: BTreeSet<usize>,
    /// Lanes of steps on close and on abort among `attempting` and `interrupted`.
    pub always_attempts: usize,
    /// Steps of each course that are not complete.
    pub open_steps: usize,
    pub open_back_steps: usize,
    pub open_closing_steps: usize,
    pub open_gate_texts: BTreeMap<usize, String>,
}

/// What is the case for the run as a whole.
#[derive(Debug, Clone, Default)]
pub(crate) struct RunState {
    pub records: u64,
    pub speed: u32,
    pub pause: Pause,
    pub aborting: Option<String>,
    pub rollback: Rollback,
    /// The irreversible step that has begun to change something.
    pub past_the_point: Option<StepId>,
    pub closed: Option<Verdict>,
    pub commands_seen: HashSet<String>,
    pub waived: Vec<Waiver>,
    pub claim: u64,
    /// Lanes that a person asked to try again, and who.
    pub retries: BTreeMap<usize, String>,
}

/// Whether a person paused the run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) enum Pause {
    #[default]
    Running,
    /// Asked for, and not yet written down as reached.
    Asked(String),
    Paused(String),
    /// Asked to go on, and not yet written down.
    Continuing(String),
}

/// A guard that is passed over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiver {
    /// The guard: the name of an action or a step.
    pub guard: String,
    /// Why.
    pub reason: String,
    /// Who.
    pub who: String,
}

impl State {
    /// The state before the first step.
    pub fn new(plan: Arc<Plan>) -> Self {
        let graph = Arc::new(Graph::new(&plan));
        let lanes = (0..graph.lanes().len()).map(|lane| Lane::new(graph.lane_waits(lane))).collect();
        let steps = (0..plan.steps.len())
            .map(|step| StepState { waits: graph.step_waits(step), ..StepState::default() })
            .collect();
        let phases = vec![PhaseState::default(); plan.phases.len()];
        let run = RunState { speed: 1, ..RunState::default() };
        let mut state = Self { plan, graph, lanes, steps, phases, index: Index::default(), run };
        state.build_index();
        state
    }

    pub(crate) fn step_plan(&self, lane: usize) -> &StepPlan {
        &self.plan.steps[self.graph.lanes()[lane].step]
    }

    /// Whether a failure holds what has not begun.
    pub(crate) fn holds(&self) -> bool {
        self.plan.on_failure != OnFailure::Finish && !self.index.failed.is_empty()
    }

    /// Whether the hosts have refused this engine: another one acts on the cluster.
    pub(crate) fn is_fenced(&self) -> bool {
        let fenced = |lane: &usize| matches!(&self.lanes[*lane].standing, Standing::Failed(failure) if failure.class == FailureClass::Fenced);
        self.index.failed.iter().any(fenced)
    }

    /// Whether a failure holds only what depends on it.
    pub(crate) fn goes_on_after_failures(&self) -> bool {
        !self.holds() && !self.is_fenced()
    }

    /// The current instance of a lane.
    pub(crate) fn current(&self, lane: usize) -> &InstanceId {
        self.graph.instance(lane, self.lanes[lane].position)
    }

    /// Where a lane runs.
    pub(crate) fn target(&self, lane: usize) -> &Target {
        &self.step_plan(lane).targets[self.graph.lanes()[lane].target]
    }

    /// The facts that a step left for a target: its own if the step ran there, else those of the only target.
    pub fn facts(&self, step: &StepId, target: &Target) -> Option<&Facts> {
        let step = self.graph.step(step)?;
        let targets = &self.plan.steps[step].targets;
        let at = match targets.iter().position(|other| other == target) {
            Some(at) => at,
            None if targets.len() == 1 => 0,
            None => return None,
        };
        let lane = self.graph.lanes_of(step).nth(at)?;
        Some(&self.lanes[lane].facts)
    }
}

impl Lane {
    fn new(waits: usize) -> Self {
        Self {
            position: 0,
            standing: Standing::Waiting,
            attempt: 0,
            earlier_attempts: 0,
            facts: Facts::new(),
            waits,
            begun: false,
            unsatisfied: false,
            skip: None,
        }
    }
}
