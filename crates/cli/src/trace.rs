//! Which spans of a run an engine tells, and what is known about each: a pure function of the journal.
//!
//! Each span is told once, by the engine that sees it end. A killed engine told nothing: the next one tells its part.

use jiff::Timestamp;
use rke2flow_engine::plan::Plan;
use rke2flow_engine::record::{Event, Record, Verdict};
use rke2flow_engine::report::{self, Reporter, Span, SpanKind, SpanOutcome};
use rke2flow_engine::run::{Replayed, RunError};

/// A span to be told, with its attributes.
#[derive(Debug, Clone, PartialEq)]
pub struct Told {
    /// Ids, name and times.
    pub span: Span,
    /// What people read.
    pub title: String,
    /// What is known about it.
    pub attributes: Vec<(&'static str, TraceValue)>,
}

/// A value of an attribute.
#[derive(Debug, Clone, PartialEq)]
pub enum TraceValue {
    /// A text.
    Text(String),
    /// A whole number.
    Number(i64),
    /// Yes or no.
    Flag(bool),
}

/// The spans that have ended since an engine last stopped in good order.
pub fn spans_since_last_stop(records: &[Record]) -> Result<Vec<Told>, RunError> {
    let mut reporter = Reporter::default();
    records.iter().try_for_each(|record| reporter.push(record))?;
    let (_, replayed, timeline) = reporter.finish()?;
    let told = last_stop_before_the_end(records);
    let closed = replayed.state.closed().is_some();
    let spans = report::spans(&replayed, &timeline).into_iter();
    Ok(spans.filter(|span| is_due(span, told, closed)).map(|span| tell(span, &replayed)).collect())
}

/// The run's own span, which everything else is a part of.
pub fn run_span(records: &[Record]) -> Option<Told> {
    let mut reporter = Reporter::default();
    records.iter().try_for_each(|record| reporter.push(record)).ok()?;
    let (_, replayed, timeline) = reporter.finish().ok()?;
    let run = report::spans(&replayed, &timeline).into_iter().find(|span| span.kind == SpanKind::Run)?;
    Some(tell(run, &replayed))
}

/// The run's span as a caller's `TRACEPARENT` (W3C Trace Context): what a run that rolls it back is a part of.
pub fn parent_of(records: &[Record]) -> Option<String> {
    let span = run_span(records)?.span;
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    Some(format!("00-{}-{}-01", hex(&span.trace_id), hex(&span.span_id)))
}

/// When the engine before this one stopped in good order; its own stop, the last record, does not count.
fn last_stop_before_the_end(records: &[Record]) -> Option<Timestamp> {
    let earlier = &records[..records.len().saturating_sub(1)];
    let stop = earlier.iter().rfind(|record| matches!(record.event, Event::EngineStopped { .. }));
    stop.map(|record| record.at)
}

fn is_due(span: &Span, told: Option<Timestamp>, closed: bool) -> bool {
    let ended = match span.kind {
        SpanKind::Run => closed,
        // A failed step is tried again, and ends once.
        SpanKind::Phase | SpanKind::Step => closed || matches!(span.outcome, SpanOutcome::Done | SpanOutcome::Skipped),
        SpanKind::Attempt => closed || span.outcome != SpanOutcome::Open,
    };
    // What was told before, at its end; a step that had failed then is told when the run is closed.
    let was_over = match span.kind {
        SpanKind::Run => false,
        SpanKind::Phase | SpanKind::Step => matches!(span.outcome, SpanOutcome::Done | SpanOutcome::Skipped),
        SpanKind::Attempt => span.outcome != SpanOutcome::Open,
    };
    let already = was_over && told.is_some_and(|told| span.end <= told);
    ended && !already
}

fn tell(span: Span, replayed: &Replayed) -> Told {
    let plan = &*replayed.plan;
    let (title, attributes) = match span.kind {
        SpanKind::Run => (format!("RUN {}", plan.runbook), of_run(replayed)),
        SpanKind::Phase => (span.name.clone(), of_phase(&span, plan, replayed.opened.speed)),
        SpanKind::Step => (span.name.clone(), of_step(&span, replayed)),
        SpanKind::Attempt => (short_name(&span.name), of_attempt(&span)),
    };
    Told { span, title, attributes }
}

/// By the CI/CD conventions of OpenTelemetry, where they fit: a run is a pipeline run.
fn of_run(replayed: &Replayed) -> Vec<(&'static str, TraceValue)> {
    let result = match replayed.state.closed() {
        Some(Verdict::Succeeded) => "success",
        Some(Verdict::Aborted) => "cancellation",
        Some(Verdict::Superseded { .. }) | None => "failure",
    };
    let mut attributes = vec![
        ("cicd.pipeline.name", text(&replayed.plan.runbook)),
        ("cicd.pipeline.run.id", text(&replayed.id)),
        ("cicd.pipeline.action.name", text("RUN")),
        ("cicd.pipeline.result", text(result)),
        ("rke2flow.cluster", text(&replayed.plan.cluster)),
        ("rke2flow.who", text(&replayed.opened.who)),
        ("rke2flow.engines", TraceValue::Number(i64::from(replayed.engines))),
    ];
    if replayed.opened.speed > 1 {
        attributes.push(("rke2flow.rehearsal_speed", TraceValue::Number(i64::from(replayed.opened.speed))));
    }
    attributes
}

fn of_phase(span: &Span, plan: &Plan, speed: u32) -> Vec<(&'static str, TraceValue)> {
    let Some(phase) = plan.phases.iter().find(|phase| phase.id.as_str() == span.name) else { return Vec::new() };
    let mut attributes = vec![("rke2flow.clock", text(format!("{:?}", phase.clock).to_lowercase()))];
    if let Some(budget) = phase.budget {
        let elapsed = span.end.duration_since(span.start).as_millis() * i128::from(speed.max(1));
        let budget = budget.get().as_millis() as i128;
        attributes.push(("rke2flow.budget_seconds", TraceValue::Number((budget / 1000) as i64)));
        attributes.push(("rke2flow.over_budget", TraceValue::Flag(elapsed > budget)));
    }
    attributes
}

fn of_step(span: &Span, replayed: &Replayed) -> Vec<(&'static str, TraceValue)> {
    let result = match span.outcome {
        SpanOutcome::Done => "success",
        SpanOutcome::Skipped => "skip",
        SpanOutcome::Failed(_) => "failure",
        SpanOutcome::Open => "cancellation",
    };
    vec![
        ("cicd.pipeline.task.name", text(&span.name)),
        ("cicd.pipeline.task.run.id", text(format!("{}/{}", replayed.id, span.name))),
        ("cicd.pipeline.task.run.result", text(result)),
    ]
}

fn of_attempt(span: &Span) -> Vec<(&'static str, TraceValue)> {
    let mut attributes = vec![
        ("rke2flow.instance", text(&span.name)),
        ("rke2flow.attempt", TraceValue::Number(i64::from(span.attempt))),
    ];
    if let Some((_, host)) = span.name.rsplit_once('@') {
        attributes.push(("host.name", text(host)));
    }
    attributes
}

/// `KillNode@server-1` of `stop-servers/KillNode@server-1`: the step is the span around it.
fn short_name(instance: &str) -> String {
    instance.split_once('/').map_or(instance, |(_, short)| short).to_owned()
}

fn text(value: impl std::fmt::Display) -> TraceValue {
    TraceValue::Text(value.to_string())
}
