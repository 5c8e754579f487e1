//! What a run cost, against its budgets: a fold of its records. People read it as text or markdown, programs as JSON.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::action::ATTENTION;
use crate::id::{InstanceId, PhaseId, RunId, StepId};
use crate::journal::{self, JournalError};
use crate::plan::{PhaseClock, Plan};
use crate::record::{Cause, Event, Record, Verdict};
use crate::run::{Replay, Replayed, RunError};
use crate::state::Progress;

mod against;
mod critical;
mod render;
mod spans;
mod timeline;

pub use against::{Against, Compared};
pub use critical::{Segment, SegmentKind};
pub(crate) use render::{align, table, time};
pub use spans::{Span, SpanKind, SpanOutcome, spans};
pub use timeline::{Interval, Piece, PieceEnd, Timeline, Wait, WaitKind, union_seconds};

/// The name and version of the JSON form.
pub const SCHEMA: &str = "rke2flow.dev/report/v1";

/// The report of a run. Durations are seconds of cluster time: wall time, times the speed of a rehearsal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// [`SCHEMA`].
    pub schema: String,
    /// The run.
    pub run: RunId,
    /// The runbook's name.
    pub runbook: String,
    /// The cluster's name.
    pub cluster: String,
    /// Who started it.
    pub who: String,
    /// The version that opened it.
    pub tool: String,
    /// How many times faster than life; 1 for a real run. Rehearsals never feed forecasts.
    pub speed: u32,
    /// When it was opened.
    pub opened_at: Timestamp,
    /// When its last record was made.
    pub ended_at: Timestamp,
    /// How it ended; none while it is open.
    pub verdict: Option<Verdict>,
    /// What failed and is not done, with why.
    pub failed: Vec<Failed>,
    /// From opening to the last record.
    pub seconds: f64,
    /// The time that the cluster was out, when the runbook has such phases and one of them began.
    pub recovery: Option<Recovery>,
    /// In the runbook's order.
    pub phases: Vec<PhaseReport>,
    /// In the runbook's order, without those that were left out.
    pub steps: Vec<StepReport>,
    /// What the run waited for from its first attempt to its last: adds up to that time.
    pub critical_path: Vec<Segment>,
    /// What was not run, and why.
    pub skipped: Vec<SkippedReport>,
    /// Guards that were passed over.
    pub waived: Vec<WaivedReport>,
    /// What a person must know of it.
    #[serde(default)]
    pub attention: Vec<AttentionReport>,
    /// How many engines drove the run.
    pub engines: u32,
    /// What was forecast of it; a report by itself knows of no other runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forecast: Option<Against>,
    /// The run that this one rolls back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rolls_back: Option<RunId>,
    /// The run that rolls this one back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rolled_back_by: Option<RunId>,
}

/// Something that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failed {
    /// The instance.
    pub instance: String,
    /// What failed.
    pub what: String,
    /// What was observed.
    pub observed: String,
}

/// The time to recover: from the first attempt of an outage phase to the end of the last one, everything included.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Recovery {
    /// When it began.
    pub started_at: Timestamp,
    /// When it ended; none while it goes on.
    pub ended_at: Option<Timestamp>,
    /// How long it took, or has taken so far.
    pub seconds: f64,
    /// What it may take.
    pub budget_seconds: Option<f64>,
    /// Against the budget.
    pub verdict: BudgetVerdict,
    /// Part of it during which no engine ran.
    pub gap_seconds: f64,
    /// Part of it during which a person was asked.
    pub gate_seconds: f64,
    /// Part of it during which the run was paused.
    pub pause_seconds: f64,
}

/// A time against its budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum BudgetVerdict {
    /// It did not begin.
    NotBegun,
    /// It goes on, within its budget so far.
    Open,
    /// It has no budget.
    NoBudget,
    /// It kept to its budget.
    Within,
    /// It took longer.
    Over,
}

/// One phase.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PhaseReport {
    /// Its name.
    pub id: PhaseId,
    /// Which clock it runs on.
    pub clock: PhaseClock,
    /// The union of its attempts.
    pub seconds: f64,
    /// What it may take.
    pub budget_seconds: Option<f64>,
    /// Against the budget.
    pub verdict: BudgetVerdict,
}

/// One step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepReport {
    /// Its name.
    pub id: StepId,
    /// Its phase.
    pub phase: PhaseId,
    /// Targets in all.
    pub targets: usize,
    /// Targets that are done or skipped.
    pub done: usize,
    /// Targets that failed and are not done.
    pub failed: usize,
    /// Attempts in all.
    pub attempts: usize,
    /// The union of its attempts.
    pub seconds: f64,
}

/// Something that was not run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SkippedReport {
    /// The instance.
    pub instance: String,
    /// Why.
    pub why: String,
    /// Who decided.
    pub by: Cause,
}

/// Something that a person must know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttentionReport {
    /// The instance that found or did it.
    pub instance: String,
    /// What it says.
    pub text: String,
}

/// A guard that was passed over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaivedReport {
    /// The guard.
    pub guard: String,
    /// Why.
    pub reason: String,
    /// Who.
    pub who: String,
}

/// Folds records into a report, one by one.
#[derive(Debug, Default)]
pub struct Reporter {
    replay: Replay,
    timeline: Timeline,
    skipped: Vec<SkippedReport>,
    waived: Vec<WaivedReport>,
    attention: Vec<AttentionReport>,
}

impl Reporter {
    /// Takes the next record.
    pub fn push(&mut self, record: &Record) -> Result<(), RunError> {
        self.replay.push(record)?;
        self.timeline.push(record);
        match &record.event {
            // A check of `done_when` that does not hold leaves nothing out.
            Event::Skipped { instance, .. } if instance.is_check() => {}
            Event::Skipped { instance, why, by } => {
                self.skipped.push(SkippedReport { instance: instance.to_string(), why: why.clone(), by: by.clone() });
            }
            Event::Waived { guard, reason, who } => {
                self.waived.push(WaivedReport { guard: guard.clone(), reason: reason.clone(), who: who.clone() });
            }
            Event::ApplyEnded { instance, applied, .. } => {
                self.tell(instance, applied.attention.iter().map(String::as_str))
            }
            Event::Settled { instance, facts, .. } => {
                let told = facts.get(ATTENTION).and_then(serde_json::Value::as_array);
                self.tell(instance, told.into_iter().flatten().filter_map(serde_json::Value::as_str));
            }
            _ => {}
        }
        Ok(())
    }

    fn tell<'a>(&mut self, instance: &InstanceId, texts: impl Iterator<Item = &'a str>) {
        let told = texts.map(|text| AttentionReport { instance: instance.to_string(), text: text.to_owned() });
        self.attention.extend(told);
    }

    /// The run and its timeline.
    pub fn finish(self) -> Result<(Report, Replayed, Timeline), RunError> {
        let replayed = self.replay.finish()?;
        let mut timeline = self.timeline;
        timeline.place(&replayed.state);
        let mut report = assemble(&replayed, &timeline, self.skipped, self.waived);
        report.attention = self.attention;
        Ok((report, replayed, timeline))
    }
}

impl Report {
    /// The report of the run in this directory, also while it runs.
    pub fn read(directory: &std::path::Path) -> Result<Self, RunError> {
        let mut reporter = Reporter::default();
        let mut refused = Ok(());
        journal::read(directory, &mut |record| {
            if refused.is_ok() {
                refused = reporter.push(&record);
            }
        })
        .map_err(|error: JournalError| RunError::Journal(error))?;
        refused?;
        Ok(reporter.finish()?.0)
    }

    /// The report of a run with these records.
    pub fn of<'a>(records: impl IntoIterator<Item = &'a Record>) -> Result<Self, RunError> {
        let mut reporter = Reporter::default();
        records.into_iter().try_for_each(|record| reporter.push(record))?;
        Ok(reporter.finish()?.0)
    }

    /// Whether the run or one of its phases took longer than it may.
    pub fn is_over_budget(&self) -> bool {
        let recovery = self.recovery.as_ref().map(|recovery| recovery.verdict);
        self.phases.iter().map(|phase| phase.verdict).chain(recovery).any(|verdict| verdict == BudgetVerdict::Over)
    }
}

fn assemble(
    replayed: &Replayed,
    timeline: &Timeline,
    skipped: Vec<SkippedReport>,
    waived: Vec<WaivedReport>,
) -> Report {
    let (plan, state) = (&*replayed.plan, &replayed.state);
    let speed = replayed.opened.speed.max(1);
    let whole = Interval { from: replayed.opened_at, to: replayed.last_at };
    let failed = state.failures().into_iter().map(|(instance, failure)| Failed {
        instance: instance.to_string(),
        what: failure.what,
        observed: failure.observed,
    });
    Report {
        schema: SCHEMA.to_owned(),
        run: replayed.id.clone(),
        runbook: plan.runbook.clone(),
        cluster: plan.cluster.clone(),
        who: replayed.opened.who.clone(),
        tool: replayed.opened.tool.clone(),
        speed,
        opened_at: replayed.opened_at,
        ended_at: replayed.last_at,
        verdict: state.closed().cloned(),
        failed: failed.collect(),
        seconds: whole.seconds() * f64::from(speed),
        recovery: recovery(replayed, timeline),
        phases: told_phases(replayed).map(|phase| phase_report(replayed, timeline, phase)).collect(),
        steps: step_reports(replayed, timeline),
        critical_path: critical::path(plan, state, timeline, speed),
        skipped,
        waived,
        attention: Vec::new(),
        engines: replayed.engines,
        forecast: None,
        rolls_back: replayed.opened.parent.clone(),
        rolled_back_by: state.rolled_back_by().cloned(),
    }
}

/// Every phase; the way back only when it was taken.
fn told_phases(replayed: &Replayed) -> impl Iterator<Item = usize> {
    let taken = |&phase: &usize| !replayed.plan.is_way_back(phase) || replayed.state.phase_progress(phase).0;
    (0..replayed.plan.phases.len()).filter(taken)
}

fn phase_report(replayed: &Replayed, timeline: &Timeline, phase: usize) -> PhaseReport {
    let plan = &replayed.plan.phases[phase];
    let in_phase = |piece: &&Piece| replayed.plan.steps[piece.step].phase == phase && piece.is_attempt();
    let intervals: Vec<Interval> = timeline.pieces.iter().filter(in_phase).map(|piece| piece.interval).collect();
    let seconds = union_seconds(&intervals) * f64::from(replayed.opened.speed.max(1));
    let budget_seconds = plan.budget.map(|budget| budget.get().as_secs_f64());
    let (entered, left) = replayed.state.phase_progress(phase);
    let verdict = judge(entered, left, seconds, budget_seconds);
    PhaseReport { id: plan.id.clone(), clock: plan.clock, seconds, budget_seconds, verdict }
}

fn judge(begun: bool, ended: bool, seconds: f64, budget: Option<f64>) -> BudgetVerdict {
    match budget {
        _ if !begun => BudgetVerdict::NotBegun,
        None => BudgetVerdict::NoBudget,
        Some(budget) if seconds > budget => BudgetVerdict::Over,
        Some(_) if ended => BudgetVerdict::Within,
        Some(_) => BudgetVerdict::Open,
    }
}

fn step_reports(replayed: &Replayed, timeline: &Timeline) -> Vec<StepReport> {
    let plan: &Plan = &replayed.plan;
    let mut intervals = vec![Vec::new(); plan.steps.len()];
    for piece in timeline.pieces.iter().filter(|piece| piece.is_attempt()) {
        intervals[piece.step].push(piece.interval);
    }
    let speed = f64::from(replayed.opened.speed.max(1));
    let report = |(index, step): (usize, &crate::plan::StepPlan)| {
        let Progress { targets, done, failed, .. } = replayed.state.progress(index);
        StepReport {
            id: step.id.clone(),
            phase: plan.phases[step.phase].id.clone(),
            targets,
            done,
            failed,
            attempts: timeline.attempts_of(index),
            seconds: union_seconds(&intervals[index]) * speed,
        }
    };
    let told = |(index, step): &(usize, &crate::plan::StepPlan)| {
        step.left_out.is_none() && (!step.takes_back() || replayed.state.progress(*index).begun > 0)
    };
    plan.steps.iter().enumerate().filter(told).map(report).collect()
}

fn recovery(replayed: &Replayed, timeline: &Timeline) -> Option<Recovery> {
    let plan = &replayed.plan;
    let is_outage = |phase: usize| plan.phases[phase].clock == PhaseClock::Outage;
    let outage = || timeline.pieces.iter().filter(|piece| is_outage(plan.steps[piece.step].phase));
    let started_at = outage().filter(|piece| piece.is_attempt()).map(|piece| piece.interval.from).min()?;
    // A run that went back is over when all is back, whatever became of the phases of its own goal.
    let went_back = (0..plan.phases.len()).any(|p| plan.is_way_back(p) && replayed.state.phase_progress(p).0);
    let counts = |&phase: &usize| is_outage(phase) && plan.is_way_back(phase) == went_back;
    let over = (0..plan.phases.len()).filter(counts).all(|phase| {
        let (entered, left) = replayed.state.phase_progress(phase);
        left || (!entered && replayed.state.phase_is_over(phase))
    });
    let ended_at = if over { outage().map(|piece| piece.interval.to).max() } else { None };
    let interval = Interval { from: started_at, to: ended_at.unwrap_or(replayed.last_at) };
    let speed = f64::from(replayed.opened.speed.max(1));
    let seconds = interval.seconds() * speed;
    let part = |kind: WaitKind| {
        let waits = timeline.waits.iter().filter(|wait| wait.kind == kind);
        let clipped: Vec<Interval> = waits.filter_map(|wait| wait.interval.within(interval)).collect();
        union_seconds(&clipped) * speed
    };
    let budget_seconds = plan.budget.map(|budget| budget.get().as_secs_f64());
    Some(Recovery {
        started_at,
        ended_at,
        seconds,
        budget_seconds,
        verdict: judge(true, over, seconds, budget_seconds),
        gap_seconds: part(WaitKind::EngineGone),
        gate_seconds: part(WaitKind::Gate),
        pause_seconds: part(WaitKind::Pause),
    })
}
