//! Creating a run, and opening one to go on with it.

use std::path::Path;

use super::replay::{Replay, Replayed};
use super::{RunError, ledger};
use crate::clock::Clock;
use crate::id::RunId;
use crate::journal::{FileJournal, Journal, RunDirectory, RunLock};
use crate::plan::Plan;
use crate::record::{Event, Record, RunOpened, SourceKind, Verdict};
use crate::state::Waiver;

/// The longest piece of a text in one record, in bytes as JSON.
const PIECE_BYTES_MAX: usize = 24 * 1024;

/// What a run starts from.
#[derive(Debug, Clone)]
pub struct NewRun {
    /// Its id.
    pub id: RunId,
    /// Its first record.
    pub opened: RunOpened,
    /// The plan.
    pub plan: Plan,
    /// The runbook's text.
    pub runbook: String,
    /// The cluster file's text.
    pub cluster: String,
    /// Guards that are passed over.
    pub waivers: Vec<Waiver>,
}

/// A run that this process may write. Holds the run's lock when it is on disk.
pub struct Run {
    pub(super) replayed: Replayed,
    pub(super) journal: Box<dyn Journal>,
    directory: Option<(RunDirectory, RunLock)>,
}

impl Run {
    /// Creates a run under `runs`, the directory of all runs. When this returns, its plan is durable.
    pub fn create(runs: &Path, new: NewRun, clock: &Clock) -> Result<Self, RunError> {
        let directory = RunDirectory::create(runs, &new.id)?;
        let lock = directory.lock()?;
        let journal = FileJournal::create(&directory)?;
        let run = Self::begin(Box::new(journal), new, clock)?;
        Ok(Self { directory: Some((directory, lock)), ..run })
    }

    /// Opens the run in this directory to go on with it.
    pub fn open(directory: &Path) -> Result<Self, RunError> {
        let directory = RunDirectory::at(directory);
        let lock = directory.lock()?;
        let journal = FileJournal::open(&directory)?;
        let run = Self::resume(Box::new(journal))?;
        Ok(Self { directory: Some((directory, lock)), ..run })
    }

    /// Begins a run in an empty journal.
    pub fn begin(mut journal: Box<dyn Journal>, new: NewRun, clock: &Clock) -> Result<Self, RunError> {
        let plan = serde_json::to_string(&new.plan).map_err(|error| RunError::Plan(error.to_string()))?;
        let plan_pieces = pieces(&plan);
        let of = plan_pieces.len() as u32;
        let plan_chunk = |(index, text)| Event::PlanChunk { index: index as u32, of, text };
        let events = std::iter::once(Event::RunOpened(new.opened))
            .chain(source(SourceKind::Runbook, &new.runbook))
            .chain(source(SourceKind::Cluster, &new.cluster))
            .chain(plan_pieces.into_iter().enumerate().map(plan_chunk))
            .chain(new.waivers.into_iter().map(|waiver| Event::Waived {
                guard: waiver.guard,
                reason: waiver.reason,
                who: waiver.who,
            }));
        let mut replay = Replay::default();
        ledger::write(journal.as_mut(), &new.id, 0, clock, events, &mut |record| replay.push(record))?;
        Ok(Self { replayed: replay.finish()?, journal, directory: None })
    }

    /// Goes on with the run in this journal.
    pub fn resume(mut journal: Box<dyn Journal>) -> Result<Self, RunError> {
        let mut replay = Replay::default();
        let mut refused = Ok(());
        journal.replay(&mut |record| {
            if refused.is_ok() {
                refused = replay.push(&record);
            }
        })?;
        refused?;
        Ok(Self { replayed: replay.finish()?, journal, directory: None })
    }

    pub(super) fn into_parts(self) -> (Replayed, Box<dyn Journal>, Option<(RunDirectory, RunLock)>) {
        (self.replayed, self.journal, self.directory)
    }

    /// Closes the run without reaching any host: because a later one has taken its place and what this one has on
    /// hosts, or because it never had the right to change one.
    pub fn close(mut self, verdict: Verdict, why: impl Into<String>, clock: &Clock) -> Result<(), RunError> {
        let closed = Event::RunClosed { verdict, why: why.into() };
        let (claim, state) = (self.replayed.state.claim(), &mut self.replayed.state);
        let mut apply = |record: &Record| Ok(state.apply(record)?);
        ledger::write(self.journal.as_mut(), &self.replayed.id, claim, clock, std::iter::once(closed), &mut apply)
    }

    /// Writes down which run rolls this one back, before that run exists. Durable when this returns.
    pub fn begin_rollback(mut self, run: RunId, clock: &Clock) -> Result<(), RunError> {
        let began = Event::RollbackBegan { run };
        let (claim, state) = (self.replayed.state.claim(), &mut self.replayed.state);
        let mut apply = |record: &Record| Ok(state.apply(record)?);
        ledger::write(self.journal.as_mut(), &self.replayed.id, claim, clock, std::iter::once(began), &mut apply)
    }

    /// The run so far.
    pub fn replayed(&self) -> &Replayed {
        &self.replayed
    }

    /// Where the run is on disk.
    pub fn directory(&self) -> Option<&RunDirectory> {
        self.directory.as_ref().map(|(directory, _)| directory)
    }

    /// What was mended when the journal was opened, one sentence each.
    pub fn notes(&self) -> Vec<String> {
        self.journal.notes()
    }
}

fn source(source: SourceKind, text: &str) -> impl Iterator<Item = Event> {
    let pieces = pieces(text);
    let of = pieces.len() as u32;
    pieces.into_iter().enumerate().map(move |(index, text)| Event::SourceChunk {
        source,
        index: index as u32,
        of,
        text,
    })
}

/// Cuts a text so that each piece fits into a record, whatever its characters cost in JSON. At least one piece.
fn pieces(text: &str) -> Vec<String> {
    let mut pieces = Vec::new();
    let (mut start, mut cost) = (0, 0);
    for (at, letter) in text.char_indices() {
        let letter_cost = match letter {
            '"' | '\\' => 2,
            control if control.is_control() => 6,
            other => other.len_utf8(),
        };
        if cost + letter_cost > PIECE_BYTES_MAX {
            pieces.push(text[start..at].to_owned());
            (start, cost) = (at, 0);
        }
        cost += letter_cost;
    }
    pieces.push(text[start..].to_owned());
    pieces
}
