//! The plain progress of a run: one line per event, with elapsed time and the phase's budget.
//!
//! A fold of the same records that are in the journal; it holds nothing that the engine needs.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use rke2flow_engine::action::{Failure, FailureClass};
use rke2flow_engine::id::{InstanceId, PhaseId};
use rke2flow_engine::plan::Plan;
use rke2flow_engine::record::{Cause, Command, Event, Record, RunOpened, Verdict};

use super::{Colour, minutes, short};

/// Wall time between two hints of the same instance.
const HINT_EVERY: Duration = Duration::from_secs(5);

/// How much is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Detail {
    /// What is reached, what fails, what a person must do.
    Plain,
    /// Also what begins.
    More,
}

/// Turns records into lines.
pub struct Progress {
    colour: Colour,
    detail: Detail,
    speed: u32,
    opened: Option<Timestamp>,
    last: Timestamp,
    phase_of: BTreeMap<String, usize>,
    phases: Vec<Phase>,
    attempts: BTreeMap<String, Attempt>,
    hinted: BTreeMap<String, std::time::Instant>,
}

struct Phase {
    id: PhaseId,
    budget: Option<Duration>,
    spent: Duration,
    active: Option<Active>,
}

/// Attempts of a phase that are under way: its time is the union of its attempts, as in the report.
struct Active {
    since: Timestamp,
    attempts: usize,
}

struct Attempt {
    began: Timestamp,
    changed: bool,
}

impl Progress {
    /// Progress of a run of this plan.
    pub fn new(plan: &Plan, colour: Colour, detail: Detail) -> Self {
        let phases = plan.phases.iter().map(|phase| Phase {
            id: phase.id.clone(),
            budget: phase.budget.map(|budget| budget.get()),
            spent: Duration::ZERO,
            active: None,
        });
        let instances = plan.instances();
        let phase_of = instances.iter().map(|i| (i.id.as_str().to_owned(), plan.steps[i.step].phase)).collect();
        Self {
            colour,
            detail,
            speed: 1,
            opened: None,
            last: Timestamp::UNIX_EPOCH,
            phase_of,
            phases: phases.collect(),
            attempts: BTreeMap::new(),
            hinted: BTreeMap::new(),
        }
    }

    /// The lines that tell about a record; none for what is of no interest.
    pub fn record(&mut self, record: &Record) -> Vec<String> {
        let lines = self.lines(record);
        self.last = record.at;
        lines
    }

    fn lines(&mut self, record: &Record) -> Vec<String> {
        let at = record.at;
        match &record.event {
            Event::RunOpened(opened) => self.run_opened(at, record, opened),
            Event::EngineStarted { gap_ms, speed, .. } => {
                self.speed = (*speed).max(1);
                // Whatever was under way was cut off with the engine before.
                for instance in std::mem::take(&mut self.attempts).into_keys() {
                    self.attempt_ended(self.last, &instance);
                }
                if *gap_ms == 0 {
                    return Vec::new();
                }
                let gap = Duration::from_millis(*gap_ms) * self.speed;
                vec![self.line(at, None, &format!("run {} is taken up again after {}", record.run, short(gap)))]
            }
            Event::ClaimTaken { number, holder } => {
                vec![self.line(at, None, &format!("claim {number} taken for {holder}"))]
            }
            Event::PhaseEntered { phase } => self.phase_entered(at, phase),
            Event::PhaseLeft { phase } => self.phase_left(at, phase),
            Event::Paused { why } => vec![self.line(at, None, &self.colour.warn(&format!("paused: {why}")))],
            Event::Continued { why } => vec![self.line(at, None, &format!("goes on: {why}"))],
            Event::CommandReceived { command, .. } => vec![self.line(at, None, &format!("asked: {}", asked(command)))],
            Event::Waived { guard, reason, who } => {
                let text = self.colour.warn(&format!("guard {guard} is passed over by {who}: {reason}"));
                vec![self.line(at, None, &text)]
            }
            Event::EngineStopped { why } => vec![self.line(at, None, &format!("the engine stopped: {why}"))],
            Event::RunClosed { verdict, why } => self.run_closed(at, record, verdict, why),
            _ => self.of_instance(record),
        }
    }

    fn of_instance(&mut self, record: &Record) -> Vec<String> {
        let at = record.at;
        match &record.event {
            Event::AttemptStarted { instance, attempt } => {
                self.attempt_began(at, instance);
                let number = if *attempt > 1 { format!(" (attempt {attempt})") } else { String::new() };
                self.when(Detail::More, |this| vec![this.of(at, instance, &format!("begins{number}"))])
            }
            Event::ApplyStarted { instance, .. } => {
                if let Some(attempt) = self.attempts.get_mut(instance.as_str()) {
                    attempt.changed = true;
                }
                self.when(Detail::More, |this| vec![this.of(at, instance, "changes")])
            }
            Event::Settled { instance, facts, .. } => {
                let mut lines = vec![self.settled(at, instance)];
                let warnings = facts.get("warnings").and_then(|list| list.as_array()).into_iter().flatten();
                lines
                    .extend(warnings.filter_map(|text| Some(self.of(at, instance, &self.colour.warn(text.as_str()?)))));
                lines
            }
            Event::AttemptFailed { instance, attempt, failure, .. } => self.failed(at, instance, *attempt, failure),
            Event::RetryScheduled { instance, attempt, at: due, by } => {
                let wait = Duration::try_from(due.duration_since(at)).unwrap_or_default() * self.speed;
                let whose = match by {
                    Cause::Engine => String::new(),
                    Cause::Person(who) => format!(", asked by {who}"),
                };
                vec![self.of(at, instance, &format!("attempt {attempt} in {}{whose}", short(wait)))]
            }
            Event::Skipped { instance, why, by } => {
                if self.attempts.remove(instance.as_str()).is_some() {
                    self.attempt_ended(at, instance.as_str());
                }
                match by {
                    Cause::Engine => {
                        self.when(Detail::More, |this| vec![this.of(at, instance, &format!("skipped: {why}"))])
                    }
                    Cause::Person(who) => vec![self.of(at, instance, &format!("skipped by {who}: {why}"))],
                }
            }
            Event::GateOpened { instance, show } => {
                vec![self.of(at, instance, &self.colour.warn(&format!("waits for consent: {show}")))]
            }
            Event::GateDecided { instance, approved, who, reason } => {
                let answer = if *approved { "approved" } else { "refused" };
                let reason = if reason.is_empty() { String::new() } else { format!(": {reason}") };
                vec![self.of(at, instance, &format!("{answer} by {who}{reason}"))]
            }
            Event::RollbackOffered { show } => {
                vec![self.line(at, None, &self.colour.warn(&format!("rollback? {show}")))]
            }
            Event::RollbackDecided { approved, who, reason } => {
                let answer = if *approved { "approved" } else { "refused" };
                let reason = if reason.is_empty() { String::new() } else { format!(": {reason}") };
                vec![self.line(at, None, &format!("rollback {answer} by {who}{reason}"))]
            }
            Event::RollbackBegan { run } => vec![self.line(at, None, &format!("run {run} rolls this one back"))],
            _ => Vec::new(),
        }
    }

    /// The line for a hint of what an instance waits for; `None` when it was said a moment ago.
    pub fn hint(
        &mut self,
        instance: &InstanceId,
        hint: &str,
        now: std::time::Instant,
        at: Timestamp,
    ) -> Option<String> {
        // The first hint is not said at once: most waits are over before anybody could read about them.
        let said = self.hinted.entry(instance.to_string()).or_insert(now);
        if now.duration_since(*said) < HINT_EVERY {
            return None;
        }
        *said = now;
        let since = self.attempts.get(instance.as_str()).map(|attempt| self.cluster_time(attempt.began, at));
        let since = since.map_or_else(String::new, |since| format!(" ({})", short(since)));
        Some(self.of(at, instance, &self.colour.faint(&format!("… {hint}{since}"))))
    }

    fn when(&self, detail: Detail, lines: impl FnOnce(&Self) -> Vec<String>) -> Vec<String> {
        if self.detail >= detail { lines(self) } else { Vec::new() }
    }

    fn run_opened(&mut self, at: Timestamp, record: &Record, opened: &RunOpened) -> Vec<String> {
        self.opened = Some(at);
        self.speed = opened.speed.max(1);
        let rehearsal = if self.speed > 1 { format!(", rehearsal ×{}", self.speed) } else { String::new() };
        let what = format!("run {} of {} on {}{rehearsal}", record.run, opened.runbook.name, opened.cluster.name);
        vec![self.line(at, None, &what)]
    }

    fn phase_entered(&mut self, at: Timestamp, id: &PhaseId) -> Vec<String> {
        let Some(index) = self.phases.iter().position(|phase| phase.id == *id) else { return Vec::new() };
        let budget = self.phases[index].budget;
        let budget = budget.map_or_else(String::new, |budget| format!(", budget {}", minutes(budget)));
        vec![self.line(at, None, &format!("phase {id} begins{budget}"))]
    }

    fn phase_left(&mut self, at: Timestamp, id: &PhaseId) -> Vec<String> {
        let Some(phase) = self.phases.iter().find(|phase| phase.id == *id) else { return Vec::new() };
        let took = self.spent(phase, at);
        let text = match phase.budget {
            None => format!("phase {id} ended after {}", minutes(took)),
            Some(budget) if took > budget => {
                let over = format!("phase {id} ended after {} of {}, over budget", minutes(took), minutes(budget));
                self.colour.warn(&over)
            }
            Some(budget) => format!("phase {id} ended after {} of {}", minutes(took), minutes(budget)),
        };
        vec![self.line(at, None, &text)]
    }

    fn settled(&mut self, at: Timestamp, instance: &InstanceId) -> String {
        self.hinted.remove(instance.as_str());
        let attempt = self.attempts.remove(instance.as_str());
        if attempt.is_some() {
            self.attempt_ended(at, instance.as_str());
        }
        let took = attempt.as_ref().map(|attempt| short(self.cluster_time(attempt.began, at))).unwrap_or_default();
        let word = match attempt {
            Some(Attempt { changed: false, .. }) => self.colour.good("holds"),
            _ => self.colour.good("done"),
        };
        self.of(at, instance, &format!("{word} {took}"))
    }

    fn failed(&mut self, at: Timestamp, instance: &InstanceId, attempt: u32, failure: &Failure) -> Vec<String> {
        self.hinted.remove(instance.as_str());
        if self.attempts.remove(instance.as_str()).is_some() {
            self.attempt_ended(at, instance.as_str());
        }
        let kind = match failure.class {
            FailureClass::Transient => "failed",
            FailureClass::Permanent => "failed for good",
            FailureClass::Refused => "refused",
            FailureClass::Fenced => "fenced off",
        };
        let head = format!("{} (attempt {attempt}): {}", self.colour.bad(kind), failure.what);
        let mut lines = vec![self.of(at, instance, &head)];
        lines.extend(failure.observed.lines().map(|line| format!("         observed: {line}")));
        lines.extend(failure.next.lines().map(|line| format!("         next: {line}")));
        lines
    }

    fn run_closed(&mut self, at: Timestamp, record: &Record, verdict: &Verdict, why: &str) -> Vec<String> {
        let text = match verdict {
            Verdict::Succeeded => self.colour.good(&format!("run {} succeeded", record.run)),
            Verdict::Aborted => self.colour.warn(&format!("run {} was aborted: {why}", record.run)),
            Verdict::Superseded { by } => self.colour.warn(&format!("run {} was superseded by {by}", record.run)),
        };
        vec![self.line(at, None, &text)]
    }

    fn of(&self, at: Timestamp, instance: &InstanceId, text: &str) -> String {
        self.line(at, self.phase_of.get(instance.as_str()).copied(), &format!("{instance} {text}"))
    }

    fn line(&self, at: Timestamp, phase: Option<usize>, text: &str) -> String {
        let elapsed = self.opened.map_or(Duration::ZERO, |opened| self.cluster_time(opened, at));
        let mut line = format!("+{} ", minutes(elapsed));
        if let Some(phase) = phase.and_then(|index| self.phases.get(index)) {
            let spent = self.spent(phase, at);
            let budget = phase.budget.map_or_else(String::new, |budget| format!("/{}", minutes(budget)));
            line.push_str(&format!("[{} {}{budget}] ", phase.id, minutes(spent)));
        }
        line.push_str(text);
        line
    }

    fn attempt_began(&mut self, at: Timestamp, instance: &InstanceId) {
        let known = self.attempts.insert(instance.to_string(), Attempt { began: at, changed: false });
        let phase = self.phase_of.get(instance.as_str()).and_then(|index| self.phases.get_mut(*index));
        if let (None, Some(phase)) = (known, phase) {
            phase.active.get_or_insert(Active { since: at, attempts: 0 }).attempts += 1;
        }
    }

    fn attempt_ended(&mut self, at: Timestamp, instance: &str) {
        let speed = self.speed;
        let Some(phase) = self.phase_of.get(instance).and_then(|index| self.phases.get_mut(*index)) else { return };
        let Some(active) = &mut phase.active else { return };
        active.attempts -= 1;
        if active.attempts == 0 {
            phase.spent += Duration::try_from(at.duration_since(active.since)).unwrap_or_default() * speed;
            phase.active = None;
        }
    }

    fn spent(&self, phase: &Phase, at: Timestamp) -> Duration {
        let running = phase.active.as_ref().map(|active| self.cluster_time(active.since, at));
        phase.spent + running.unwrap_or_default()
    }

    fn cluster_time(&self, from: Timestamp, to: Timestamp) -> Duration {
        Duration::try_from(to.duration_since(from)).unwrap_or_default() * self.speed
    }
}

/// What a person asked, in words.
fn asked(command: &Command) -> String {
    let because = |reason: &str| if reason.is_empty() { String::new() } else { format!(": {reason}") };
    match command {
        Command::Pause { reason, who } => format!("pause, by {who}{}", because(reason)),
        Command::Continue { who } => format!("continue, by {who}"),
        Command::Abort { reason, who } => format!("abort, by {who}{}", because(reason)),
        Command::Approve { step, who, reason } => format!("approve {step}, by {who}{}", because(reason)),
        Command::Deny { step, who, reason } => format!("deny {step}, by {who}{}", because(reason)),
        Command::Skip { step, who, reason } => format!("skip {step}, by {who}{}", because(reason)),
        Command::Retry { step, who } => format!("retry {step}, by {who}"),
    }
}
