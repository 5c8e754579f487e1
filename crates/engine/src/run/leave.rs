//! How an engine goes: what it writes down last, and what goes on without it.

use super::commands::clip;
use super::drive::Drive;
use super::{EngineError, GoingOn, Outcome};
use crate::id::UnitName;
use crate::record::Event;
use crate::state::{Stage, Standing};

impl Drive {
    /// Writes down why the engine stops with the run open.
    pub(super) fn leave(&mut self, outcome: Outcome) -> Result<Outcome, EngineError> {
        self.ledger.tell_notes();
        let why = match &outcome {
            Outcome::Closed(_) => return Ok(outcome),
            Outcome::Failed { instances } => {
                let why = self.no_rollback.iter().map(|why| format!("; no rollback: {why}")).collect::<String>();
                clip(format!("failed: {}{why}", list(instances.iter().map(|(id, _)| id))))
            }
            Outcome::RollBack => "failed; another run rolls it back".to_owned(),
            Outcome::Stopped { .. } => "stopped by a person".to_owned(),
            Outcome::Paused { why } => format!("paused: {why}"),
            Outcome::WaitingAtGate { gates } if gates.is_empty() => {
                self.ledger.acknowledge()?;
                return Err(EngineError::Stuck { steps: self.ledger.state.open_step_names() });
            }
            Outcome::WaitingAtGate { gates } => {
                format!("waiting at {}", list(gates.iter().map(|gate| &gate.instance)))
            }
        };
        self.ledger.record(Event::EngineStopped { why })?;
        self.ledger.acknowledge()?;
        self.attempts.abort_all();
        Ok(outcome)
    }

    pub(super) fn going_on(&self) -> Vec<GoingOn> {
        let state = &self.ledger.state;
        let going_on = |&lane: &usize| {
            let instance = state.current(lane).clone();
            let attempt = state.lanes[lane].attempt;
            let unit = match state.lanes[lane].standing {
                Standing::Attempting(Stage::Looking) | Standing::Interrupted(Stage::Looking) => None,
                _ => Some(UnitName::new(&self.run, &instance, attempt)),
            };
            GoingOn { instance, target: state.target(lane).clone(), attempt, unit }
        };
        state.index.attempting.iter().chain(&state.index.interrupted).map(going_on).collect()
    }
}

fn list<T: ToString>(names: impl Iterator<Item = T>) -> String {
    /// How many names a line shows.
    const NAMES_MAX: usize = 20;
    names.take(NAMES_MAX).map(|name| name.to_string()).collect::<Vec<_>>().join(", ")
}
