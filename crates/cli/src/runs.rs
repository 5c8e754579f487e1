//! The runs in the state directory: finding one, reading one, saying how it stands.

use std::fs;
use std::path::PathBuf;

use rke2flow_engine::id::RunId;
use rke2flow_engine::journal::{self, JournalError, RunDirectory};
use rke2flow_engine::record::{Event, Record, Verdict};
use rke2flow_engine::report::Report;
use rke2flow_engine::run::{Replay, Replayed, RunError};
use rke2flow_engine::state::Rollback;

use crate::args::Global;
use crate::exit::{Exit, Problem};
use crate::place;
use crate::what_runs;

/// How many runs are listed before a person has to name one.
const LISTED_MAX: usize = 20;

/// The directory of all runs.
pub struct Runs {
    directory: PathBuf,
    global: Global,
}

/// A run as its journal tells it.
pub struct Seen {
    /// Its directory.
    pub directory: RunDirectory,
    /// Its records.
    pub records: Vec<Record>,
    /// What they amount to.
    pub replayed: Replayed,
}

/// How a run stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stands {
    /// It is over.
    Closed(Verdict),
    /// An engine drives it.
    Running,
    /// An engine has it, and a person paused it.
    Paused,
    /// A step failed and nobody drives it.
    Failed,
    /// A person has to decide, and nobody drives it.
    AtGate,
    /// It failed, and another run rolls it back, or is about to.
    RolledBack,
    /// Stopped, or its engine was killed.
    Interrupted,
}

impl Stands {
    /// In one word.
    pub fn word(&self) -> &'static str {
        match self {
            Stands::Closed(Verdict::Succeeded) => "succeeded",
            Stands::Closed(Verdict::Aborted) => "aborted",
            Stands::Closed(Verdict::Superseded { .. }) => "superseded",
            Stands::Running => "running",
            Stands::Paused => "paused",
            Stands::Failed => "failed",
            Stands::AtGate => "waiting for consent",
            Stands::RolledBack => "being rolled back",
            Stands::Interrupted => "interrupted",
        }
    }
}

impl Seen {
    /// How it stands now.
    pub fn stands(&self) -> Stands {
        let state = &self.replayed.state;
        match (state.closed(), self.directory.is_running()) {
            (Some(verdict), _) => Stands::Closed(verdict.clone()),
            (None, true) if state.paused().is_some() => Stands::Paused,
            (None, true) => Stands::Running,
            (None, false) if matches!(state.rollback(), Rollback::Approved | Rollback::Began { .. }) => {
                Stands::RolledBack
            }
            (None, false) if matches!(state.rollback(), Rollback::Offered { .. }) => Stands::AtGate,
            (None, false) if !state.failures().is_empty() => Stands::Failed,
            (None, false) if !state.open_gates().is_empty() => Stands::AtGate,
            (None, false) if state.paused().is_some() => Stands::Paused,
            (None, false) => Stands::Interrupted,
        }
    }

    /// What it cost so far.
    pub fn report(&self) -> Result<Report, Problem> {
        Report::of(&self.records).map_err(|error| {
            Problem::new(Exit::Failed, format!("cannot report on run {}", self.replayed.id)).observed(error)
        })
    }

    /// The process and machine of the engine that took it up last.
    pub fn engine(&self) -> Option<(u32, String)> {
        self.records.iter().rev().find_map(|record| match &record.event {
            Event::EngineStarted { pid, machine, .. } => Some((*pid, machine.clone())),
            _ => None,
        })
    }
}

impl Runs {
    /// The runs of the state directory.
    pub fn of(global: &Global) -> Result<Self, Problem> {
        Ok(Self { directory: place::state_dir(global)?.join("runs"), global: global.clone() })
    }

    /// The options that decide where they are.
    pub fn global(&self) -> &Global {
        &self.global
    }

    /// Where they are.
    pub fn directory(&self) -> &PathBuf {
        &self.directory
    }

    /// Where one of them is.
    pub fn directory_of(&self, run: &RunId) -> RunDirectory {
        RunDirectory::at(self.directory.join(run.as_str()))
    }

    /// Every run, by id.
    fn all(&self) -> Vec<RunId> {
        let entries = fs::read_dir(&self.directory).into_iter().flatten();
        let mut runs: Vec<RunId> =
            entries.filter_map(|entry| RunId::new(entry.ok()?.file_name().into_string().ok()?).ok()).collect();
        runs.sort();
        runs
    }

    /// Reads a run's journal; takes no lock.
    pub fn see(&self, run: &RunId) -> Result<Seen, Problem> {
        let directory = self.directory_of(run);
        let cannot =
            |why: String| Problem::bad_input(format!("cannot read run {run}")).observed(why).next(self.again("runs"));
        let mut records = Vec::new();
        journal::read(directory.path(), &mut |record| records.push(record)).map_err(|error| match error {
            JournalError::Missing { .. } => {
                Problem::bad_input(format!("there is no run {run} in {}", self.directory.display()))
                    .next(self.again("runs"))
            }
            error => cannot(error.to_string()),
        })?;
        let mut replay = Replay::default();
        let replayed = records.iter().try_for_each(|record| replay.push(record)).and_then(|()| replay.finish());
        let replayed = replayed.map_err(|error: RunError| cannot(error.to_string()))?;
        Ok(Seen { directory, records, replayed })
    }

    /// Every run that can be read, oldest first. Ids tell the minute only.
    pub fn readable(&self) -> Vec<Seen> {
        let mut runs: Vec<Seen> = self.all().iter().filter_map(|run| self.see(run).ok()).collect();
        runs.sort_by_key(|seen| seen.replayed.opened_at);
        runs
    }

    /// The run that is meant for looking: the named one, else the only open one, else the newest.
    pub fn to_look_at(&self, named: Option<&RunId>) -> Result<Seen, Problem> {
        if let Some(run) = named {
            return self.see(run);
        }
        let mut runs = self.readable();
        let open: Vec<usize> = (0..runs.len()).filter(|&index| is_open(&runs[index], &runs)).collect();
        match open.as_slice() {
            [only] => Ok(runs.swap_remove(*only)),
            [] => runs.pop().ok_or_else(|| self.none()),
            several => Err(self.several(several.iter().map(|&index| &runs[index]))),
        }
    }

    /// The run that is meant for going on: the named one, else the only open one. Never guessed.
    pub fn to_go_on_with(&self, named: Option<&RunId>) -> Result<Seen, Problem> {
        if let Some(run) = named {
            return self.see(run);
        }
        let all = self.readable();
        let goes_on: Vec<bool> = all.iter().map(|seen| is_open(seen, &all)).collect();
        let mut open: Vec<Seen> =
            all.into_iter().zip(goes_on).filter(|(_, goes_on)| *goes_on).map(|(seen, _)| seen).collect();
        match (open.pop(), open.is_empty()) {
            (Some(only), true) => Ok(only),
            (None, _) => Err(Problem::bad_input("no run is open").next(self.again("runs"))),
            (Some(last), false) => {
                open.push(last);
                Err(self.several(open.iter()))
            }
        }
    }

    /// A command line that works on the same state directory.
    pub fn again(&self, rest: &str) -> String {
        again(&self.global, rest)
    }

    /// The command that brings the cluster back to the recovery point that a run has made; none: it has made none.
    pub fn way_back(&self, seen: &Seen) -> Option<String> {
        let id = &seen.replayed.id;
        let made = !seen.replayed.plan.supersedes && what_runs::has_point(&seen.records);
        let touched = !what_runs::lines(&seen.replayed.plan, &seen.records).is_empty();
        (made && touched).then(|| self.again(&format!("run rollback --set to={id}")))
    }

    fn none(&self) -> Problem {
        Problem::bad_input(format!("there is no run in {}", self.directory.display()))
            .next("rke2flow run RUNBOOK\nrke2flow rehearse upgrade   (needs no cluster)")
    }

    fn several<'a>(&self, runs: impl Iterator<Item = &'a Seen>) -> Problem {
        let lines: Vec<String> = runs
            .map(|seen| {
                let (run, plan) = (&seen.replayed.id, &seen.replayed.plan);
                format!("{run}  {} on {}, {}", plan.runbook, plan.cluster, seen.stands().word())
            })
            .take(LISTED_MAX)
            .collect();
        Problem::new(Exit::BadInput, "several runs are open: name one").observed(lines.join("\n"))
    }
}

/// Whether a run is open and goes on itself, not by the run that rolls it back.
fn is_open(seen: &Seen, all: &[Seen]) -> bool {
    let child = seen.replayed.state.rolled_back_by();
    let goes_on_as_child = child.is_some_and(|run| all.iter().any(|other| other.replayed.id == *run));
    seen.replayed.state.closed().is_none() && !goes_on_as_child
}

/// A command line with the options that decide where runs are.
pub fn again(global: &Global, rest: &str) -> String {
    let from_environment = std::env::var_os("RKE2FLOW_STATE_DIR").map(PathBuf::from);
    match &global.state_dir {
        Some(directory) if from_environment.as_ref() != Some(directory) => {
            format!("rke2flow --state-dir {} {rest}", directory.display())
        }
        _ => format!("rke2flow {rest}"),
    }
}
