//! Questions that people and the run loop ask of a state.

use std::collections::BTreeSet;

use super::{Consent, Graph, Lane, Pause, Standing, State};
use crate::action::{Failure, PlannedAction};
use crate::id::InstanceId;
use crate::plan::Plan;
use crate::record::Verdict;
use crate::value::Facts;

/// A gate at which the run waits for a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenGate {
    /// The instance in whose name it was opened.
    pub instance: InstanceId,
    /// The step: what `approve` takes.
    pub step: String,
    /// What is asked.
    pub show: String,
}

/// How many targets of a step have come how far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Progress {
    /// Targets in all.
    pub targets: usize,
    /// Begun.
    pub begun: usize,
    /// Done, or skipped.
    pub done: usize,
    /// Failed for now.
    pub failed: usize,
}

impl Graph {
    /// Lane and position of an instance given as text.
    pub(crate) fn find_text(&self, id: &str) -> Option<(usize, usize)> {
        let id: InstanceId = serde_json::from_value(serde_json::Value::from(id)).ok()?;
        self.find(&id)
    }
}

impl State {
    /// The plan.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The plan's numbering of lanes and instances.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// How far a lane has come.
    pub fn lane_state(&self, lane: usize) -> &Lane {
        &self.lanes[lane]
    }

    /// How far a step has come.
    pub fn progress(&self, step: usize) -> Progress {
        let state = &self.steps[step];
        let targets = self.graph.lanes_of(step).len();
        Progress { targets, begun: state.begun, done: state.done, failed: state.failed }
    }

    /// Whether a target of a step has come past a position of its sequence: done, or skipped.
    pub fn is_past(&self, step: usize, target: usize, position: usize) -> bool {
        let lane = &self.lanes[self.graph.lanes_of(step).start + target];
        lane.standing == Standing::Done || lane.position > position
    }

    /// Whether a phase was entered, and whether it was left.
    pub fn phase_progress(&self, phase: usize) -> (bool, bool) {
        (self.phases[phase].entered, self.phases[phase].left)
    }

    /// Whether nothing is left to run in a phase: all is done or skipped, or there never was anything.
    pub fn phase_is_over(&self, phase: usize) -> bool {
        self.phases[phase].done == self.phases[phase].lanes
    }

    /// How the run ended, when it has.
    pub fn closed(&self) -> Option<&Verdict> {
        self.run.closed.as_ref()
    }

    /// Who asked to abort, and why.
    pub fn aborting(&self) -> Option<&str> {
        self.run.aborting.as_deref()
    }

    /// Who paused the run, and why.
    pub fn paused(&self) -> Option<&str> {
        match &self.run.pause {
            Pause::Asked(why) | Pause::Paused(why) => Some(why),
            Pause::Running | Pause::Continuing(_) => None,
        }
    }

    /// What has failed and is not tried again by itself; when the run is given up, on its way back and out.
    pub fn failures(&self) -> Vec<(InstanceId, Failure)> {
        let failure = |&lane: &usize| match &self.lanes[lane].standing {
            Standing::Failed(failure) => Some((self.current(lane).clone(), failure.clone())),
            _ => None,
        };
        let counts = |lane: &&usize| self.run.aborting.is_none() || self.step_plan(**lane).always.is_some();
        self.index.failed.iter().filter(counts).filter_map(failure).collect()
    }

    /// What is being attempted, with the attempt's number.
    pub fn in_flight(&self) -> Vec<(InstanceId, u32)> {
        let lanes = self.index.attempting.iter().chain(&self.index.interrupted);
        lanes.map(|&lane| (self.current(lane).clone(), self.lanes[lane].attempt)).collect()
    }

    /// How many attempts run under this engine.
    pub(crate) fn in_flight_here(&self) -> usize {
        self.index.attempting.len()
    }

    /// The number of the claim that was recorded last.
    pub(crate) fn claim(&self) -> u64 {
        self.run.claim
    }

    /// Whether a command was journaled before.
    pub(crate) fn has_seen(&self, command: &str) -> bool {
        self.run.commands_seen.contains(command)
    }

    /// Actions that may still run.
    pub(crate) fn unfinished_actions(&self) -> impl Iterator<Item = &PlannedAction> {
        let steps = self.plan.steps.iter().zip(&self.steps).filter(|(_, state)| !state.complete);
        steps.flat_map(|(step, _)| step.done_when.iter().chain(&step.actions))
    }

    /// The lane of a step that may not begin yet, because its host goes last and others are not done. Without the fact,
    /// because the step that leaves it was skipped, none goes last.
    pub(crate) fn held_back(&self, step: usize) -> Option<usize> {
        let last = self.plan.steps[step].last.as_ref()?;
        let mut lanes = self.graph.lanes_of(step);
        if self.steps[step].done + 1 >= lanes.len() {
            return None;
        }
        let name = self.facts_of(last.step, 0)?.get(&last.fact)?.as_str()?;
        lanes.find(|&lane| self.target(lane).host().is_some_and(|host| host.as_str() == name))
    }

    /// The facts of a step's target, by their numbers.
    pub(crate) fn facts_of(&self, step: usize, target: usize) -> Option<&Facts> {
        let lane = self.graph.lanes_of(step).nth(target)?;
        Some(&self.lanes[lane].facts)
    }

    /// The names of steps that are not done, for a message.
    pub(crate) fn open_step_names(&self) -> String {
        /// How many names a message lists.
        const NAMES_MAX: usize = 20;
        let open = self.plan.steps.iter().zip(&self.steps).filter(|(_, state)| !state.complete);
        open.take(NAMES_MAX).map(|(step, _)| step.id.as_str()).collect::<Vec<_>>().join(", ")
    }

    /// Every gate at which a person has to decide. A run that is given up asks no more but on its way out.
    pub fn open_gates(&self) -> Vec<OpenGate> {
        let asked = |lane: usize| self.run.aborting.is_none() || self.step_plan(lane).always.is_some();
        let gate = |lane: usize, show: &str| OpenGate {
            instance: self.current(lane).clone(),
            step: self.step_plan(lane).id.to_string(),
            show: show.to_owned(),
        };
        let consents = self.index.consents.iter().filter_map(|&step| match &self.steps[step].consent {
            Consent::Asked { lane, show, .. } if asked(*lane) => Some(gate(*lane, show)),
            Consent::Asked { .. } | Consent::NotAsked | Consent::Given => None,
        });
        let texts = &self.index.open_gate_texts;
        let texts = texts.iter().filter(|(lane, _)| asked(**lane)).map(|(&lane, show)| gate(lane, show));
        consents.chain(texts).chain(self.rollback_gate()).collect()
    }

    /// The lanes that a step's or an instance's name means. The error says that there is none.
    fn named(&self, name: &str) -> Result<Vec<usize>, String> {
        if let Some((lane, _)) = self.graph.find_text(name) {
            return Ok(vec![lane]);
        }
        let step = self.plan.steps.iter().position(|step| step.id.as_str() == name);
        let step = step.ok_or_else(|| format!("`{name}` is neither a step nor an instance of this run"))?;
        Ok(self.graph.lanes_of(step).collect())
    }

    /// The lanes at whose gate this name's approval or denial would arrive.
    pub fn answerable(&self, name: &str) -> Result<Vec<usize>, String> {
        if self.is_rollback_gate(name) {
            return Ok(Vec::new());
        }
        let lanes = self.named(name)?;
        let asked: BTreeSet<usize> = self
            .index
            .consents
            .iter()
            .filter_map(|&step| match self.steps[step].consent {
                Consent::Asked { lane, .. } => Some(lane),
                Consent::NotAsked | Consent::Given => None,
            })
            .chain(self.index.gates.iter().copied())
            .collect();
        let open: Vec<usize> = lanes.into_iter().filter(|lane| asked.contains(lane)).collect();
        if open.is_empty() { Err(format!("no gate is open at `{name}`")) } else { Ok(open) }
    }

    /// The lanes that a skip of this name would skip. The error says why there is none.
    pub fn skippable(&self, name: &str) -> Result<Vec<usize>, String> {
        let lanes = self.named(name)?;
        if let Some(step) = lanes.first().map(|&lane| self.step_plan(lane)) {
            if step.takes_back() && self.course() != super::Course::Back {
                return Err(format!("`{}` runs only when the run is aborted", step.id));
            }
            if step.safety {
                return Err(format!("`{}` keeps the cluster safe and cannot be skipped", step.id));
            }
            if step.irreversible.is_some() {
                return Err(format!("`{}` is irreversible and cannot be skipped", step.id));
            }
        }
        let instance = self.graph.find_text(name);
        let free = |lane: &usize| {
            let state = &self.lanes[*lane];
            let at_rest =
                !matches!(state.standing, Standing::Attempting(_) | Standing::Interrupted(_) | Standing::Done);
            // One action alone can only be skipped when it is its turn: what follows it would start too early.
            let turn = instance.is_none_or(|(_, position)| state.begun && state.position == position);
            at_rest && turn
        };
        let free: Vec<usize> = lanes.into_iter().filter(free).collect();
        if free.is_empty() { Err(format!("nothing of `{name}` waits or has failed")) } else { Ok(free) }
    }

    /// The lanes that a retry of this name would try again. The error says why there is none.
    pub fn retriable(&self, name: &str) -> Result<Vec<usize>, String> {
        let again = |lane: &usize| {
            matches!(self.lanes[*lane].standing, Standing::Failed(_) | Standing::Scheduled(_) | Standing::Tripped(_))
        };
        let lanes: Vec<usize> = self.named(name)?.into_iter().filter(again).collect();
        if lanes.is_empty() { Err(format!("nothing of `{name}` has failed")) } else { Ok(lanes) }
    }
}
