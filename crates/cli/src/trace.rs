//! The spans of a run, folded from its journal: run → phase → step → attempt.
//!
//! Every id grows from the run and the name of the thing, never from a process: whichever engine tells about an
//! attempt, on whichever machine, tells about the same span.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use rke2flow_engine::id::{InstanceId, PhaseId};
use rke2flow_engine::plan::{PhasePlan, Plan};
use rke2flow_engine::record::{Event, Record, Verdict};

/// Something that has ended.
#[derive(Debug, Clone, PartialEq)]
pub struct TraceSpan {
    /// What it is, unique in the run: `run`, `phase/x`, `step/x`, `attempt/x#2`.
    pub key: String,
    /// The key of what it is a part of; `None` for the run.
    pub parent: Option<String>,
    /// What people read.
    pub name: String,
    /// When it began.
    pub start: Timestamp,
    /// When it ended.
    pub end: Timestamp,
    /// What is known about it.
    pub attributes: Vec<(&'static str, TraceValue)>,
    /// Why it failed.
    pub failed: Option<String>,
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

/// The spans that ended since the last engine stopped in good order, so that each is told exactly once: a killed engine
/// told nothing, and the next one tells its part too.
pub fn spans_since_last_stop(records: &[Record], plan: &Plan) -> Vec<TraceSpan> {
    let last = records.len().saturating_sub(1);
    let told = records[..last]
        .iter()
        .rposition(|record| matches!(record.event, Event::EngineStopped { .. } | Event::RunClosed { .. }))
        .map(|position| records[position].seq);
    let mut fold = Fold::new(plan);
    for record in records {
        fold.take(record);
    }
    fold.spans.into_iter().filter(|(seq, _)| told.is_none_or(|told| *seq > told)).map(|(_, span)| span).collect()
}

const RUN: &str = "run";

struct Fold<'a> {
    plan: &'a Plan,
    instances: BTreeMap<String, Place>,
    left_in_step: Vec<usize>,
    step_began: Vec<Option<Timestamp>>,
    step_failed: Vec<Option<String>>,
    attempt_began: BTreeMap<(String, u32), Timestamp>,
    open_attempt: BTreeMap<String, u32>,
    ended: BTreeSet<String>,
    phase_began: BTreeMap<PhaseId, Timestamp>,
    opened: Option<Opened>,
    spans: Vec<(u64, TraceSpan)>,
}

struct Place {
    step: usize,
    host: String,
    action: String,
}

struct Opened {
    at: Timestamp,
    cluster: String,
    who: String,
    speed: u32,
}

impl<'a> Fold<'a> {
    fn new(plan: &'a Plan) -> Self {
        let mut instances = BTreeMap::new();
        let mut left_in_step = vec![0; plan.steps.len()];
        for instance in plan.instances() {
            let step = &plan.steps[instance.step];
            left_in_step[instance.step] += 1;
            let place = Place {
                step: instance.step,
                host: step.targets[instance.target].to_string(),
                action: step.at(instance.position).0.name.clone(),
            };
            instances.insert(instance.id.as_str().to_owned(), place);
        }
        Self {
            plan,
            instances,
            left_in_step,
            step_began: vec![None; plan.steps.len()],
            step_failed: vec![None; plan.steps.len()],
            attempt_began: BTreeMap::new(),
            open_attempt: BTreeMap::new(),
            ended: BTreeSet::new(),
            phase_began: BTreeMap::new(),
            opened: None,
            spans: Vec::new(),
        }
    }

    fn take(&mut self, record: &Record) {
        match &record.event {
            Event::RunOpened(opened) => {
                self.opened = Some(Opened {
                    at: record.at,
                    cluster: opened.cluster.name.clone(),
                    who: opened.who.clone(),
                    speed: opened.speed,
                });
            }
            Event::PhaseEntered { phase } => {
                self.phase_began.entry(phase.clone()).or_insert(record.at);
            }
            Event::PhaseLeft { phase } => self.phase_left(record, phase),
            Event::AttemptStarted { instance, attempt } => self.attempt_started(record.at, instance, *attempt),
            Event::Settled { instance, attempt, .. } => {
                self.attempt_ended(record, instance, *attempt, None);
                self.instance_ended(record, instance);
            }
            Event::AttemptFailed { instance, attempt, failure, .. } => {
                self.attempt_ended(record, instance, *attempt, Some(failure.to_string()));
            }
            Event::Skipped { instance, .. } => {
                if let Some(attempt) = self.open_attempt.get(instance.as_str()).copied() {
                    self.attempt_ended(record, instance, attempt, None);
                }
                self.instance_ended(record, instance);
            }
            Event::RunClosed { verdict, why } => self.run_closed(record, verdict, why),
            _ => {}
        }
    }

    fn attempt_started(&mut self, at: Timestamp, instance: &InstanceId, attempt: u32) {
        self.attempt_began.entry((instance.to_string(), attempt)).or_insert(at);
        self.open_attempt.insert(instance.to_string(), attempt);
        if let Some(place) = self.instances.get(instance.as_str()) {
            self.step_began[place.step].get_or_insert(at);
        }
    }

    fn attempt_ended(&mut self, record: &Record, instance: &InstanceId, attempt: u32, failed: Option<String>) {
        self.open_attempt.remove(instance.as_str());
        let (Some(start), Some(place)) = (
            self.attempt_began.remove(&(instance.to_string(), attempt)),
            self.instances.get(instance.as_str()),
        ) else {
            return;
        };
        let step = &self.plan.steps[place.step];
        if let Some(why) = &failed {
            self.step_failed[place.step] = Some(why.clone());
        }
        let span = TraceSpan {
            key: format!("attempt/{instance}#{attempt}"),
            parent: Some(format!("step/{}", step.id)),
            name: format!("{}@{}", place.action, place.host),
            start,
            end: record.at,
            attributes: vec![
                ("rke2flow.instance", text(instance)),
                ("rke2flow.action", text(&place.action)),
                ("rke2flow.attempt", TraceValue::Number(i64::from(attempt))),
                ("host.name", text(&place.host)),
            ],
            failed,
        };
        self.spans.push((record.seq, span));
    }

    fn instance_ended(&mut self, record: &Record, instance: &InstanceId) {
        let Some(place) = self.instances.get(instance.as_str()) else { return };
        if !self.ended.insert(instance.to_string()) {
            return;
        }
        let step = place.step;
        self.left_in_step[step] -= 1;
        if self.left_in_step[step] == 0 {
            self.step_failed[step] = None;
            self.step_ended(record, step);
        }
    }

    fn step_ended(&mut self, record: &Record, index: usize) {
        let Some(start) = self.step_began[index].take() else { return };
        let step = &self.plan.steps[index];
        let failed = self.step_failed[index].take();
        let result = if failed.is_some() { "failure" } else { "success" };
        let span = TraceSpan {
            key: format!("step/{}", step.id),
            parent: Some(format!("phase/{}", self.plan.phases[step.phase].id)),
            name: step.id.to_string(),
            start,
            end: record.at,
            attributes: vec![
                ("cicd.pipeline.task.name", text(&step.id)),
                ("cicd.pipeline.task.run.id", text(format!("{}/{}", record.run, step.id))),
                ("cicd.pipeline.task.run.result", text(result)),
                ("rke2flow.hosts", TraceValue::Number(step.targets.len() as i64)),
            ],
            failed,
        };
        self.spans.push((record.seq, span));
    }

    fn phase_left(&mut self, record: &Record, phase: &PhaseId) {
        let Some(start) = self.phase_began.remove(phase) else { return };
        let Some(plan) = self.plan.phases.iter().find(|candidate| candidate.id == *phase) else { return };
        let mut attributes = vec![("rke2flow.clock", text(format!("{:?}", plan.clock)))];
        attributes.extend(self.budget_of(plan, start, record.at));
        let span = TraceSpan {
            key: format!("phase/{phase}"),
            parent: Some(RUN.to_owned()),
            name: phase.to_string(),
            start,
            end: record.at,
            attributes,
            failed: None,
        };
        self.spans.push((record.seq, span));
    }

    fn budget_of(&self, phase: &PhasePlan, start: Timestamp, end: Timestamp) -> Vec<(&'static str, TraceValue)> {
        let Some(budget) = phase.budget else { return Vec::new() };
        let speed = i128::from(self.opened.as_ref().map_or(1, |opened| opened.speed));
        let elapsed_ms = end.duration_since(start).as_millis() * speed;
        let budget_ms = budget.get().as_millis() as i128;
        vec![
            ("rke2flow.budget_seconds", TraceValue::Number((budget_ms / 1000) as i64)),
            ("rke2flow.over_budget", TraceValue::Flag(elapsed_ms > budget_ms)),
        ]
    }

    fn run_closed(&mut self, record: &Record, verdict: &Verdict, why: &str) {
        for index in 0..self.plan.steps.len() {
            self.step_ended(record, index);
        }
        for phase in std::mem::take(&mut self.phase_began).into_iter().collect::<Vec<_>>() {
            self.phase_began.insert(phase.0.clone(), phase.1);
            self.phase_left(record, &phase.0);
        }
        let Some(opened) = &self.opened else { return };
        let (result, failed) = match verdict {
            Verdict::Succeeded => ("success", None),
            Verdict::Aborted => ("cancellation", Some(why.to_owned())),
            Verdict::Superseded { by } => ("failure", Some(format!("superseded by {by}"))),
        };
        let mut attributes = vec![
            ("cicd.pipeline.name", text(&self.plan.runbook)),
            ("cicd.pipeline.run.id", text(&record.run)),
            ("cicd.pipeline.action.name", text("RUN")),
            ("cicd.pipeline.result", text(result)),
            ("rke2flow.cluster", text(&opened.cluster)),
            ("rke2flow.who", text(&opened.who)),
        ];
        if opened.speed > 1 {
            attributes.push(("rke2flow.rehearsal_speed", TraceValue::Number(i64::from(opened.speed))));
        }
        let span = TraceSpan {
            key: RUN.to_owned(),
            parent: None,
            name: format!("RUN {}", self.plan.runbook),
            start: opened.at,
            end: record.at,
            attributes,
            failed,
        };
        self.spans.push((record.seq, span));
    }
}

fn text(value: impl std::fmt::Display) -> TraceValue {
    TraceValue::Text(value.to_string())
}
