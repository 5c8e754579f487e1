//! The run as spans of one trace. Ids are hashes of names, so that a run that was resumed, on whichever machine, is
//! still one trace.

use jiff::Timestamp;
use sha2::{Digest, Sha256};

use super::timeline::{PieceEnd, Timeline};
use crate::run::Replayed;

/// A span of the run's trace.
#[derive(Debug, Clone, PartialEq)]
pub struct Span {
    /// The trace: the caller's, or derived from the run.
    pub trace_id: [u8; 16],
    /// Derived from run, kind, name and attempt.
    pub span_id: [u8; 8],
    /// The span around it; none for the run.
    pub parent: Option<[u8; 8]>,
    /// What it is.
    pub kind: SpanKind,
    /// Run id, phase, step or instance.
    pub name: String,
    /// The first attempt is 1; 0 for everything else, gates included.
    pub attempt: u32,
    /// Its beginning.
    pub start: Timestamp,
    /// Its end, or the last record while it is open.
    pub end: Timestamp,
    /// How it ended.
    pub outcome: SpanOutcome,
}

/// What a span is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpanKind {
    /// The run.
    Run,
    /// A phase.
    Phase,
    /// A step.
    Step,
    /// An attempt, or a gate.
    Attempt,
}

/// How a span ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SpanOutcome {
    /// Well.
    Done,
    /// It was not needed.
    Skipped,
    /// It failed: what.
    Failed(String),
    /// It is open.
    Open,
}

/// Every span of a run, parents first.
pub fn spans(replayed: &Replayed, timeline: &Timeline) -> Vec<Span> {
    let run = replayed.id.as_str();
    let hash = |kind: &str, name: &str, attempt: u32| -> [u8; 8] {
        let digest = Sha256::digest(format!("{run}\n{kind}\n{name}\n{attempt}"));
        std::array::from_fn(|at| digest[at])
    };
    let trace_id = trace_id(replayed);
    let run_id = hash("run", run, 0);
    let outcome = match replayed.state.closed() {
        Some(_) => SpanOutcome::Done,
        None => SpanOutcome::Open,
    };
    let (start, end) = (replayed.opened_at, replayed.last_at);
    let (kind, name) = (SpanKind::Run, run.to_owned());
    let mut spans = vec![Span { trace_id, span_id: run_id, parent: None, kind, name, attempt: 0, start, end, outcome }];
    let plan = &replayed.plan;
    let mut phases: Vec<Extent> = vec![None; plan.phases.len()];
    let mut steps: Vec<Extent> = vec![None; plan.steps.len()];
    for piece in &timeline.pieces {
        widen(&mut steps[piece.step], piece.interval);
        widen(&mut phases[plan.steps[piece.step].phase], piece.interval);
    }
    for (index, phase) in plan.phases.iter().enumerate() {
        let (_, left) = replayed.state.phase_progress(index);
        let outcome = if left { SpanOutcome::Done } else { SpanOutcome::Open };
        let (name, span_id) = (phase.id.to_string(), hash("phase", phase.id.as_str(), 0));
        spans.extend(phases[index].map(|(start, end)| {
            let (kind, parent) = (SpanKind::Phase, Some(run_id));
            Span { trace_id, span_id, parent, kind, name, attempt: 0, start, end, outcome }
        }));
    }
    for (index, step) in plan.steps.iter().enumerate() {
        let progress = replayed.state.progress(index);
        let outcome = match (progress.failed, progress.done == progress.targets) {
            (0, true) => SpanOutcome::Done,
            (0, false) => SpanOutcome::Open,
            (failed, _) => SpanOutcome::Failed(format!("{failed} of {} targets failed", progress.targets)),
        };
        let (name, span_id) = (step.id.to_string(), hash("step", step.id.as_str(), 0));
        let parent = Some(hash("phase", plan.phases[step.phase].id.as_str(), 0));
        spans.extend(steps[index].map(|(start, end)| Span {
            trace_id,
            span_id,
            parent,
            kind: SpanKind::Step,
            name,
            attempt: 0,
            start,
            end,
            outcome,
        }));
    }
    spans.extend(attempts(replayed, timeline, trace_id, &hash));
    spans
}

/// Pieces of the same attempt, which several engines drove, are one span.
fn attempts(
    replayed: &Replayed,
    timeline: &Timeline,
    trace_id: [u8; 16],
    hash: &dyn Fn(&str, &str, u32) -> [u8; 8],
) -> Vec<Span> {
    let mut spans: Vec<Span> = Vec::new();
    let mut known = std::collections::HashMap::new();
    for piece in &timeline.pieces {
        let outcome = match &piece.end {
            PieceEnd::Done => SpanOutcome::Done,
            PieceEnd::Skipped => SpanOutcome::Skipped,
            PieceEnd::Failed(what) => SpanOutcome::Failed(what.clone()),
            PieceEnd::Interrupted | PieceEnd::Open => SpanOutcome::Open,
        };
        let name = piece.instance.to_string();
        let span_id = hash("attempt", &name, piece.attempt);
        let (start, end) = (piece.interval.from, piece.interval.to);
        match known.get(&span_id) {
            Some(&at) => {
                let span: &mut Span = &mut spans[at];
                (span.start, span.end, span.outcome) = (span.start.min(start), span.end.max(end), outcome);
            }
            None => {
                known.insert(span_id, spans.len());
                let parent = Some(hash("step", replayed.plan.steps[piece.step].id.as_str(), 0));
                let (kind, attempt) = (SpanKind::Attempt, piece.attempt);
                spans.push(Span { trace_id, span_id, parent, kind, name, attempt, start, end, outcome });
            }
        }
    }
    spans
}

/// From the first beginning to the last end.
type Extent = Option<(Timestamp, Timestamp)>;

fn widen(extent: &mut Extent, interval: super::Interval) {
    let (from, to) = extent.unwrap_or((interval.from, interval.to));
    *extent = Some((from.min(interval.from), to.max(interval.to)));
}

fn trace_id(replayed: &Replayed) -> [u8; 16] {
    // W3C Trace Context: `00-<trace id>-<span id>-<flags>`.
    let given = replayed.opened.trace_parent.as_deref().and_then(|text| text.split('-').nth(1));
    let given = given.and_then(|text| u128::from_str_radix(text, 16).ok());
    match given {
        Some(given) => given.to_be_bytes(),
        None => {
            let digest = Sha256::digest(format!("trace\n{}", replayed.id));
            std::array::from_fn(|at| digest[at])
        }
    }
}
