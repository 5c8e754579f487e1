//! What to do next: a pure function of plan, state and time. It looks only at what the index says is possible.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::plan::Plan;
use crate::record::{Cause, Event, Verdict};
use crate::state::{Answer, Consent, Course, Pause, Rollback, Standing, State};

/// The longest wait between two attempts, in cluster time.
pub const BACKOFF_MAX: Duration = Duration::from_secs(300);

/// How many attempts may run at the same time.
pub const ATTEMPTS_MAX: usize = 256;

/// How many decisions are taken at once.
const DECISIONS_MAX: usize = 1024;

/// One thing to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Decision {
    /// Write this down; it says all there is to do.
    Record(Box<Event>),
    /// Begin an attempt at a lane's current action, or open its gate if it is one.
    Begin {
        /// The lane.
        lane: usize,
    },
    /// Go on with the attempt that was interrupted.
    TakeUp {
        /// The lane.
        lane: usize,
    },
    /// Ask for consent to an irreversible step.
    AskConsent {
        /// The lane in whose name it is asked.
        lane: usize,
        /// Why it cannot be undone.
        show: String,
    },
    /// Release the claim and close the run.
    Close {
        /// How it ends.
        verdict: Verdict,
        /// One line about it.
        why: String,
    },
}

impl Decision {
    /// Whether it starts something, or only says that something is about to be started.
    pub fn is_start(&self) -> bool {
        match self {
            Decision::Begin { .. } | Decision::TakeUp { .. } | Decision::AskConsent { .. } => true,
            Decision::Record(event) => matches!(**event, Event::PhaseEntered { .. }),
            Decision::Close { .. } => false,
        }
    }
}

/// Decides what to do now. Bookkeeping comes first and alone: it changes what else is possible. Empty: there is
/// nothing to do until an attempt ends, a time comes or a person speaks.
pub fn decide(plan: &Plan, state: &State, now: Timestamp) -> Vec<Decision> {
    if state.run.closed.is_some() {
        return Vec::new();
    }
    let records = bookkeeping(plan, state, now);
    if !records.is_empty() {
        return records.into_iter().take(DECISIONS_MAX).map(|event| Decision::Record(Box::new(event))).collect();
    }
    if matches!(state.run.pause, Pause::Paused(_)) && state.run.aborting.is_none() {
        return Vec::new();
    }
    if state.rolls_back() && state.run.aborting.is_none() {
        return Vec::new();
    }
    let mut work = Work { plan, state, decisions: Vec::new(), asked: Vec::new() };
    work.take_up();
    if state.is_fenced() {
        return work.decisions;
    }
    work.go_on();
    work.retry(now);
    work.start();
    if work.decisions.is_empty() {
        work.close();
    }
    work.decisions
}

/// When the next attempt is due, if one is scheduled.
pub fn next_due(state: &State) -> Option<Timestamp> {
    state.index.scheduled.iter().find(|(_, lane)| may_run(state, *lane)).map(|(at, _)| *at)
}

fn bookkeeping(plan: &Plan, state: &State, now: Timestamp) -> Vec<Event> {
    let mut events = Vec::new();
    match &state.run.pause {
        Pause::Asked(why) => events.push(Event::Paused { why: why.clone() }),
        Pause::Continuing(why) => events.push(Event::Continued { why: why.clone() }),
        Pause::Running | Pause::Paused(_) => {}
    }
    events.extend(gate_answers(state));
    events.extend(rollback_answer(state));
    events.extend(skips(state));
    if events.is_empty() {
        events.extend(retries(state, now));
    }
    events.extend(
        state.index.finished_phases.iter().map(|&phase| Event::PhaseLeft { phase: plan.phases[phase].id.clone() }),
    );
    events
}

/// What is skipped and has its turn: skipped earlier, it would let what comes after it start before what it needs.
fn skips(state: &State) -> impl Iterator<Item = Event> {
    state.index.skipping.iter().filter(|&&lane| is_free(state, lane)).filter_map(|&lane| {
        let skip = state.lanes[lane].skip.as_ref()?;
        let instance = state.current(lane).clone();
        Some(Event::Skipped { instance, why: skip.why.clone(), by: skip.by.clone() })
    })
}

fn gate_answers(state: &State) -> Vec<Event> {
    let decided = |lane: usize, answer: &Answer| Event::GateDecided {
        instance: state.current(lane).clone(),
        approved: answer.approved,
        who: answer.who.clone(),
        reason: answer.reason.clone(),
    };
    let consents = state.index.consents.iter().filter_map(|&step| match &state.steps[step].consent {
        Consent::Asked { lane, answer: Some(answer), .. } => Some(decided(*lane, answer)),
        _ => None,
    });
    let gates = state.index.gates.iter().filter_map(|&lane| match &state.lanes[lane].standing {
        Standing::AtGate(Some(answer)) => Some(decided(lane, answer)),
        _ => None,
    });
    consents.chain(gates).collect()
}

fn rollback_answer(state: &State) -> Option<Event> {
    let Rollback::Offered { answer: Some(answer), .. } = state.rollback() else { return None };
    let (approved, who, reason) = (answer.approved, answer.who.clone(), answer.reason.clone());
    Some(Event::RollbackDecided { approved, who, reason })
}

fn retries(state: &State, now: Timestamp) -> Vec<Event> {
    let scheduled = |lane: usize, at: Timestamp, by: Cause| Event::RetryScheduled {
        instance: state.current(lane).clone(),
        attempt: state.lanes[lane].attempt + 1,
        at,
        by,
    };
    let asked = state.run.retries.iter().filter(|(lane, _)| {
        matches!(state.lanes[**lane].standing, Standing::Failed(_) | Standing::Scheduled(_) | Standing::Tripped(_))
    });
    let asked = asked.map(|(&lane, who)| scheduled(lane, now, Cause::Person(who.clone())));
    let tripped = state.index.tripped.iter().filter(|lane| !state.run.retries.contains_key(lane));
    let tripped = tripped.map(|&lane| scheduled(lane, now + backoff(state, lane), Cause::Engine));
    asked.chain(tripped).collect()
}

/// The wait before a lane's next attempt, on the wall clock.
fn backoff(state: &State, lane: usize) -> SignedDuration {
    let used = state.lanes[lane].attempt - state.lanes[lane].earlier_attempts;
    let first = state.step_plan(lane).retry.backoff.get();
    let doubled = first.saturating_mul(1 << used.saturating_sub(1).min(20)).min(BACKOFF_MAX);
    SignedDuration::try_from(doubled / state.run.speed).unwrap_or(SignedDuration::from_secs(300))
}

/// Whether a lane that has begun may go on: an abort leaves it where it is.
fn may_run(state: &State, lane: usize) -> bool {
    let step = state.graph.lanes()[lane].step;
    let stays = state.run.aborting.is_some() && state.course_of(step) == Course::Forward;
    let waits_for_consent = matches!(state.steps[step].consent, Consent::Asked { .. });
    is_free(state, lane) && !stays && !waits_for_consent
}

/// Whether what a lane needs is done.
fn is_free(state: &State, lane: usize) -> bool {
    state.lanes[lane].waits == 0 && state.steps[state.graph.lanes()[lane].step].waits == 0
}

/// Collects what could begin.
struct Work<'a> {
    plan: &'a Plan,
    state: &'a State,
    decisions: Vec<Decision>,
    /// Steps whose consent is asked for in this decision.
    asked: Vec<usize>,
}

impl Work<'_> {
    /// What was interrupted is gone on with whatever else is the case: it may be under way on its host.
    fn take_up(&mut self) {
        let free = self.free_attempts();
        let lanes = self.state.index.interrupted.iter().take(free);
        self.decisions.extend(lanes.map(|&lane| Decision::TakeUp { lane }));
    }

    /// A sequence that has begun goes on after a failure elsewhere: between its actions is no safe point.
    fn go_on(&mut self) {
        for &lane in &self.state.index.continuing {
            if self.free_attempts() > 0 && may_run(self.state, lane) {
                self.begin(lane);
            }
        }
    }

    fn retry(&mut self, now: Timestamp) {
        for &(_, lane) in self.state.index.scheduled.iter().take_while(|(at, _)| *at <= now) {
            if self.free_attempts() > 0 && may_run(self.state, lane) {
                self.begin(lane);
            }
        }
    }

    fn start(&mut self) {
        let course = self.state.course();
        if course == Course::Forward && (self.state.holds() || self.state.run.aborting.is_some()) {
            return;
        }
        for &step in &self.state.index.startable {
            if self.state.course_of(step) != course {
                continue;
            }
            let begun = self.state.steps[step].begun - self.state.steps[step].done;
            let free = self.plan.steps[step].hosts_at_once.max(1).saturating_sub(begun);
            self.pass_over_void(step);
            let held_back = self.state.held_back(step);
            let may_begin = |lane: &&usize| Some(**lane) != held_back && !self.state.is_void(**lane);
            for &lane in self.state.steps[step].ready.iter().filter(may_begin).take(free) {
                if self.free_attempts() == 0 {
                    return;
                }
                self.begin(lane);
            }
        }
    }

    /// What has nothing to take back is done.
    fn pass_over_void(&mut self, step: usize) {
        if !self.plan.steps[step].takes_back() {
            return;
        }
        for &lane in self.state.steps[step].ready.iter().filter(|lane| self.state.is_void(**lane)) {
            let (why, by) = self.state.void(lane);
            let skipped = Event::Skipped { instance: self.state.current(lane).clone(), why, by };
            self.decisions.push(Decision::Record(Box::new(skipped)));
        }
    }

    fn close(&mut self) {
        let index = &self.state.index;
        let busy = !index.attempting.is_empty() || !index.interrupted.is_empty();
        if busy || self.state.course() != Course::Closing || index.open_closing_steps > 0 {
            return;
        }
        let (verdict, why) = match &self.state.run.aborting {
            Some(why) if index.open_steps > 0 => (Verdict::Aborted, why.clone()),
            _ => (Verdict::Succeeded, "every step is done".to_owned()),
        };
        self.decisions.push(Decision::Close { verdict, why });
    }

    fn begin(&mut self, lane: usize) {
        let step = self.state.graph.lanes()[lane].step;
        let phase = self.plan.steps[step].phase;
        if let (Some(show), Consent::NotAsked) = (&self.plan.steps[step].irreversible, &self.state.steps[step].consent)
        {
            if !self.asked.contains(&step) {
                self.asked.push(step);
                self.decisions.push(Decision::AskConsent { lane, show: show.clone() });
            }
            return;
        }
        let entered = Event::PhaseEntered { phase: self.plan.phases[phase].id.clone() };
        let entered = Decision::Record(Box::new(entered));
        if !self.state.phases[phase].entered && !self.decisions.contains(&entered) {
            self.decisions.push(entered);
        }
        self.decisions.push(Decision::Begin { lane });
    }

    fn free_attempts(&self) -> usize {
        let begun = self.decisions.iter().filter(|decision| !matches!(decision, Decision::Record(_))).count();
        ATTEMPTS_MAX.saturating_sub(self.state.index.attempting.len() + begun)
    }
}
