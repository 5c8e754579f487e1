//! Folds a journal from its first record: sources and plan, then state. Resuming, `status` and reports share it.

use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;

use super::RunError;
use crate::id::RunId;
use crate::journal::{self, Tail};
use crate::plan::Plan;
use crate::record::{Event, Record, RunOpened, SourceKind};
use crate::state::State;

/// A run as its records tell it.
#[derive(Debug, Clone)]
pub struct Replayed {
    /// The run.
    pub id: RunId,
    /// When it was opened.
    pub opened_at: Timestamp,
    /// The first record.
    pub opened: RunOpened,
    /// The runbook's text.
    pub runbook: String,
    /// The cluster file's text.
    pub cluster: String,
    /// The plan.
    pub plan: Arc<Plan>,
    /// What is the case.
    pub state: State,
    /// When the last record was made.
    pub last_at: Timestamp,
    /// How many engines have taken the run up.
    pub engines: u32,
}

/// Reads records one by one.
#[derive(Debug, Default)]
pub struct Replay {
    opened: Option<(RunId, Timestamp, RunOpened)>,
    runbook: String,
    cluster: String,
    plan_text: String,
    plan: Option<Arc<Plan>>,
    state: Option<State>,
    last_at: Timestamp,
    engines: u32,
}

impl Replay {
    /// Takes the next record.
    pub fn push(&mut self, record: &Record) -> Result<(), RunError> {
        self.last_at = record.at;
        if let Some(state) = &mut self.state {
            self.engines += u32::from(matches!(record.event, Event::EngineStarted { .. }));
            return Ok(state.apply(record)?);
        }
        match &record.event {
            Event::RunOpened(opened) => self.opened = Some((record.run.clone(), record.at, opened.clone())),
            Event::SourceChunk { source: SourceKind::Runbook, text, .. } => self.runbook.push_str(text),
            Event::SourceChunk { source: SourceKind::Cluster, text, .. } => self.cluster.push_str(text),
            Event::PlanChunk { index, of, text } => {
                self.plan_text.push_str(text);
                if index + 1 == *of {
                    self.read_plan()?;
                }
            }
            other => return Err(RunError::Plan(format!("{} stands before the plan", other.kind()))),
        }
        Ok(())
    }

    fn read_plan(&mut self) -> Result<(), RunError> {
        let text = std::mem::take(&mut self.plan_text);
        let plan: Plan = serde_json::from_str(&text).map_err(|error| RunError::Plan(error.to_string()))?;
        let plan = Arc::new(plan);
        self.state = Some(State::new(plan.clone()));
        self.plan = Some(plan);
        Ok(())
    }

    /// Reads the run in this directory, also while another process writes it: takes no lock, changes nothing.
    pub fn read(directory: &Path) -> Result<(Replayed, Tail), RunError> {
        let mut replay = Self::default();
        let mut refused = Ok(());
        let reading = journal::read(directory, &mut |record| {
            if refused.is_ok() {
                refused = replay.push(&record);
            }
        })?;
        refused?;
        Ok((replay.finish()?, reading.tail))
    }

    /// The run so far.
    pub fn finish(self) -> Result<Replayed, RunError> {
        match (self.opened, self.plan, self.state) {
            (Some((id, opened_at, opened)), Some(plan), Some(state)) => Ok(Replayed {
                id,
                opened_at,
                opened,
                runbook: self.runbook,
                cluster: self.cluster,
                plan,
                state,
                last_at: self.last_at,
                engines: self.engines,
            }),
            _ => Err(RunError::NeverBegun),
        }
    }
}
