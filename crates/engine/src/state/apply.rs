//! The transition function: what each kind of record changes, and after what it may come.

use super::{Answer, Consent, Pause, Rollback, Skip, Stage, Standing, State, StateError, Waiver};
use crate::action::{Failure, FailureClass};
use crate::id::InstanceId;
use crate::record::{Cause, Command, Event, Record};

type Applied = Result<(), String>;

impl State {
    /// Takes one more record into account. The records that open a run have been read before a state exists; they,
    /// and everything that cannot follow, are an error.
    pub fn apply(&mut self, record: &Record) -> Result<(), StateError> {
        let refuse = |why: String| StateError { seq: record.seq, kind: record.event.kind(), why };
        if self.run.closed.is_some() {
            return Err(refuse("the run is closed".to_owned()));
        }
        self.apply_event(&record.event).map_err(refuse)?;
        self.run.records = record.seq + 1;
        Ok(())
    }

    fn apply_event(&mut self, event: &Event) -> Applied {
        match event {
            Event::RunOpened(_) | Event::SourceChunk { .. } | Event::PlanChunk { .. } => {
                return Err("the run was opened before".to_owned());
            }
            Event::Waived { guard, reason, who } => {
                self.run.waived.push(Waiver { guard: guard.clone(), reason: reason.clone(), who: who.clone() })
            }
            Event::ClaimTaken { number, .. } => self.run.claim = *number,
            Event::EngineStarted { speed, .. } => self.take_up(*speed),
            Event::EngineStopped { .. } => {}
            Event::PhaseEntered { phase } => return self.phase(phase, |state| state.entered = true),
            Event::PhaseLeft { phase } => return self.phase(phase, |state| state.left = true),
            Event::CommandReceived { id, command } => self.take_command(id, command),
            Event::Paused { why } => self.run.pause = Pause::Paused(why.clone()),
            Event::Continued { .. } => self.run.pause = Pause::Running,
            Event::RollbackOffered { show } => return self.offer_rollback(show),
            Event::RollbackDecided { approved, .. } => return self.decide_rollback(*approved),
            Event::RollbackBegan { run } => return self.begin_rollback(run),
            Event::RunClosed { verdict, .. } => self.run.closed = Some(verdict.clone()),
            _ => return self.apply_to_lane(event),
        }
        Ok(())
    }

    fn apply_to_lane(&mut self, event: &Event) -> Applied {
        match event {
            Event::AttemptStarted { instance, attempt } => self.start_attempt(instance, *attempt),
            Event::Probed { instance, attempt, .. } => self.running(instance, *attempt).map(|_| ()),
            Event::ApplyStarted { instance, attempt, .. } => {
                let (lane, _) = self.running(instance, *attempt)?;
                let step = self.step_plan(lane);
                if step.irreversible.is_some() {
                    self.run
                        .past_the_point
                        .get_or_insert_with(|| self.plan.steps[self.graph.lanes()[lane].step].id.clone());
                }
                self.stand(lane, Standing::Attempting(Stage::Applying));
                Ok(())
            }
            Event::ApplyEnded { instance, attempt, .. } => self.end_apply(instance, *attempt),
            Event::Settled { instance, attempt, facts } => {
                let (lane, _) = self.running(instance, *attempt)?;
                self.lanes[lane].facts.extend(facts.clone());
                self.succeed(lane);
                Ok(())
            }
            Event::AttemptFailed { instance, attempt, failure, .. } => {
                let (lane, stage) = self.running(instance, *attempt)?;
                self.fail(lane, stage, failure);
                Ok(())
            }
            Event::RetryScheduled { instance, attempt, at, by } => self.schedule(instance, *attempt, *at, by),
            Event::Skipped { instance, .. } => self.skip(instance),
            Event::GateOpened { instance, show } => self.open_gate(instance, show),
            Event::GateDecided { instance, approved, who, reason } => {
                let answer = Answer { approved: *approved, who: who.clone(), reason: reason.clone() };
                self.decide_gate(instance, &answer)
            }
            other => Err(format!("{} says nothing about an instance", other.kind())),
        }
    }

    /// The lane of an instance that is current in it.
    fn lane(&self, instance: &InstanceId) -> Result<usize, String> {
        let (lane, position) = self.graph.find(instance).ok_or_else(|| format!("`{instance}` is not in the plan"))?;
        if self.lanes[lane].position != position {
            return Err(format!("`{instance}` is not the current action of its sequence"));
        }
        Ok(lane)
    }

    fn running(&self, instance: &InstanceId, attempt: u32) -> Result<(usize, Stage), String> {
        let lane = self.lane(instance)?;
        match &self.lanes[lane].standing {
            Standing::Attempting(stage) if self.lanes[lane].attempt == attempt => Ok((lane, *stage)),
            other => Err(format!("attempt {attempt} of `{instance}` does not run: {other:?}")),
        }
    }

    fn start_attempt(&mut self, instance: &InstanceId, attempt: u32) -> Applied {
        let lane = self.lane(instance)?;
        let last = self.lanes[lane].attempt;
        let stage = match self.lanes[lane].standing {
            Standing::Interrupted(stage) if attempt == last => stage,
            Standing::Waiting | Standing::Scheduled(_) if attempt == last + 1 => Stage::Looking,
            ref other => return Err(format!("attempt {attempt} of `{instance}` cannot begin: {other:?}")),
        };
        let step = self.graph.lanes()[lane].step;
        if self.lanes[lane].waits > 0 || self.steps[step].waits > 0 {
            return Err(format!("`{instance}` cannot begin: what it needs is not done"));
        }
        if !self.lanes[lane].begun && self.held_back(step) == Some(lane) {
            return Err(format!("`{instance}` cannot begin: its host goes last"));
        }
        self.mark_begun(lane);
        self.lanes[lane].attempt = attempt;
        self.stand(lane, Standing::Attempting(stage));
        Ok(())
    }

    fn end_apply(&mut self, instance: &InstanceId, attempt: u32) -> Applied {
        match self.running(instance, attempt)? {
            (lane, Stage::Applying) => self.stand(lane, Standing::Attempting(Stage::Settling)),
            (_, stage) => return Err(format!("`{instance}` did not apply anything: {stage:?}")),
        }
        Ok(())
    }

    /// A check of `done_when` that holds, or an action whose goal is reached.
    fn succeed(&mut self, lane: usize) {
        let step = self.step_plan(lane);
        let (checks, length) = (step.done_when.len(), step.sequence_len());
        let position = self.lanes[lane].position;
        if position + 1 == checks && !self.lanes[lane].unsatisfied {
            let names: Vec<&str> = step.done_when.iter().map(|check| check.name.as_str()).collect();
            let why = format!("already: {}", names.join(", "));
            self.advance(lane);
            if checks < length {
                self.skip_until(lane, Skip { until: length, why, by: Cause::Engine });
            }
        } else {
            self.advance(lane);
        }
    }

    fn fail(&mut self, lane: usize, stage: Stage, failure: &Failure) {
        let step = self.step_plan(lane);
        let length = step.sequence_len();
        let (action, _) = step.at(self.lanes[lane].position);
        let waiver = self.run.waived.iter().find(|waiver| {
            failure.class == FailureClass::Refused && (waiver.guard == action.name || waiver.guard == step.id.as_str())
        });
        let used = self.lanes[lane].attempt - self.lanes[lane].earlier_attempts;
        // Past the point of no return only a person decides to try again.
        let past_the_point = step.irreversible.is_some() && stage != Stage::Looking;
        let again = failure.class == FailureClass::Transient && used < step.retry.attempts && !past_the_point;
        let skip = match (waiver, step.best_effort) {
            (Some(waiver), _) => Some(Skip {
                until: self.lanes[lane].position + 1,
                why: format!("waived: {}", waiver.reason),
                by: Cause::Person(waiver.who.clone()),
            }),
            // An engine that the hosts refuse must stop, whatever the step is worth.
            (None, Some(_)) if failure.class == FailureClass::Fenced => None,
            (None, Some(_)) => {
                Some(Skip { until: length, why: format!("best effort: {}", failure.what), by: Cause::Engine })
            }
            (None, None) => None,
        };
        match skip {
            Some(skip) => {
                self.stand(lane, Standing::Waiting);
                self.skip_until(lane, skip);
            }
            None if again => self.stand(lane, Standing::Tripped(failure.clone())),
            None => self.stand(lane, Standing::Failed(failure.clone())),
        }
    }

    fn schedule(&mut self, instance: &InstanceId, attempt: u32, at: jiff::Timestamp, by: &Cause) -> Applied {
        let lane = self.lane(instance)?;
        let state = &mut self.lanes[lane];
        if attempt != state.attempt + 1 {
            return Err(format!("attempt {attempt} of `{instance}` is not the next one"));
        }
        match (&state.standing, by) {
            (Standing::Tripped(_), Cause::Engine) => {}
            (Standing::Tripped(_) | Standing::Scheduled(_) | Standing::Failed(_), Cause::Person(_)) => {
                state.earlier_attempts = state.attempt;
            }
            (other, _) => return Err(format!("`{instance}` is not to be tried again: {other:?}")),
        }
        self.run.retries.remove(&lane);
        self.withdraw_rollback();
        self.stand(lane, Standing::Scheduled(at));
        Ok(())
    }

    fn skip(&mut self, instance: &InstanceId) -> Applied {
        let lane = self.lane(instance)?;
        if matches!(self.lanes[lane].standing, Standing::Interrupted(_) | Standing::Done) {
            return Err(format!("`{instance}` cannot be skipped: {:?}", self.lanes[lane].standing));
        }
        self.withdraw_rollback();
        let checks = self.step_plan(lane).done_when.len();
        let ordered = self.lanes[lane].skip.is_some();
        let is_check = self.lanes[lane].position < checks;
        if !ordered && self.is_void(lane) {
            let ((why, by), until) = (self.void(lane), self.step_plan(lane).sequence_len());
            self.skip_until(lane, Skip { until, why, by });
            self.advance(lane);
            return Ok(());
        }
        if !ordered && !is_check {
            return Err(format!("nobody asked to skip `{instance}`"));
        }
        self.advance(lane);
        if !ordered {
            self.lanes[lane].unsatisfied = true;
            if self.lanes[lane].position < checks {
                let why = "an earlier check did not hold".to_owned();
                self.skip_until(lane, Skip { until: checks, why, by: Cause::Engine });
            }
        }
        Ok(())
    }

    /// Consent to an irreversible step is asked once, in the name of the first of its instances that could begin.
    fn open_gate(&mut self, instance: &InstanceId, show: &str) -> Applied {
        let lane = self.lane(instance)?;
        let step = self.graph.lanes()[lane].step;
        if !matches!(self.lanes[lane].standing, Standing::Waiting | Standing::Scheduled(_)) {
            return Err(format!("`{instance}` is not at a gate: {:?}", self.lanes[lane].standing));
        }
        if self.plan.steps[step].irreversible.is_some() && self.steps[step].consent == Consent::NotAsked {
            self.steps[step].consent = Consent::Asked { lane, show: show.to_owned(), answer: None };
            self.index.consents.insert(step);
            self.refresh_step(step);
            return Ok(());
        }
        self.mark_begun(lane);
        self.stand(lane, Standing::AtGate(None));
        self.index.open_gate_texts.insert(lane, show.to_owned());
        Ok(())
    }

    fn decide_gate(&mut self, instance: &InstanceId, answer: &Answer) -> Applied {
        let lane = self.lane(instance)?;
        let step = self.graph.lanes()[lane].step;
        if !answer.approved && self.run.aborting.is_none() && self.has_something_to_take_back() {
            self.run.aborting = Some(said(&format!("{} said no", answer.who), &answer.reason));
        }
        let denied = || {
            let why = if answer.reason.is_empty() { String::new() } else { format!(": {}", answer.reason) };
            Standing::Failed(Failure::permanent(format!("{} said no{why}", answer.who)))
        };
        if matches!(&self.steps[step].consent, Consent::Asked { lane: asked, .. } if *asked == lane) {
            self.index.consents.remove(&step);
            self.steps[step].consent = if answer.approved { Consent::Given } else { Consent::NotAsked };
            if !answer.approved {
                self.mark_begun(lane);
                self.stand(lane, denied());
            }
            self.refresh_step(step);
            return Ok(());
        }
        match (&self.lanes[lane].standing, answer.approved) {
            (Standing::AtGate(_), true) => self.advance(lane),
            (Standing::AtGate(_), false) => self.stand(lane, denied()),
            (other, _) => return Err(format!("no gate is open at `{instance}`: {other:?}")),
        }
        Ok(())
    }

    fn phase(&mut self, id: &crate::id::PhaseId, change: impl Fn(&mut super::PhaseState)) -> Applied {
        let found = self.plan.phases.iter().position(|phase| phase.id == *id);
        let phase = found.ok_or_else(|| format!("`{id}` is not a phase of the plan"))?;
        change(&mut self.phases[phase]);
        self.refresh_phase(phase);
        Ok(())
    }

    /// An engine takes up the run: what it left in flight is interrupted, what had failed may be tried anew, and a
    /// pause is over, because a person asked to go on.
    fn take_up(&mut self, speed: u32) {
        self.run.speed = speed.max(1);
        if let Pause::Asked(_) | Pause::Paused(_) = self.run.pause {
            self.run.pause = Pause::Continuing("the run was resumed".to_owned());
        }
        for lane in self.index.attempting.clone() {
            if let Standing::Attempting(stage) = self.lanes[lane].standing {
                self.stand(lane, Standing::Interrupted(stage));
            }
        }
        // The engine finds out first whether a person has answered in the meantime.
        if matches!(self.run.rollback, Rollback::Offered { .. } | Rollback::Approved | Rollback::Began { .. }) {
            return;
        }
        self.withdraw_rollback();
        for lane in self.index.failed.clone() {
            self.lanes[lane].earlier_attempts = self.lanes[lane].attempt;
            self.run.retries.remove(&lane);
            self.stand(lane, Standing::Waiting);
        }
    }

    fn take_command(&mut self, id: &str, command: &Command) {
        self.run.commands_seen.insert(id.to_owned());
        match command {
            Command::Pause { reason, who } => match self.run.pause {
                Pause::Running | Pause::Continuing(_) => self.run.pause = Pause::Asked(said(who, reason)),
                Pause::Asked(_) | Pause::Paused(_) => {}
            },
            Command::Continue { who } => match self.run.pause {
                Pause::Asked(_) | Pause::Paused(_) => self.run.pause = Pause::Continuing(who.clone()),
                Pause::Running | Pause::Continuing(_) => {}
            },
            Command::Abort { .. } if self.cannot_abort().is_some() => {}
            Command::Abort { reason, who } => {
                self.run.aborting = Some(said(who, reason));
                self.withdraw_rollback();
            }
            Command::Approve { step, who, reason } => self.answer(step, true, who, reason),
            Command::Deny { step, who, reason } => self.answer(step, false, who, reason),
            Command::Skip { step, who, reason } => {
                for lane in self.skippable(step).unwrap_or_default() {
                    let until = match self.graph.find_text(step) {
                        Some((_, position)) => position + 1,
                        None => self.step_plan(lane).sequence_len(),
                    };
                    let by = Cause::Person(who.clone());
                    self.skip_until(lane, Skip { until, why: reason.clone(), by });
                }
            }
            Command::Retry { step, who } => {
                for lane in self.retriable(step).unwrap_or_default() {
                    self.run.retries.insert(lane, who.clone());
                }
            }
        }
    }

    fn answer(&mut self, step: &str, approved: bool, who: &str, reason: &str) {
        let answer = Answer { approved, who: who.to_owned(), reason: reason.to_owned() };
        if self.is_rollback_gate(step) {
            return self.answer_rollback(&answer);
        }
        for lane in self.answerable(step).unwrap_or_default() {
            let step = self.graph.lanes()[lane].step;
            match &mut self.steps[step].consent {
                Consent::Asked { lane: asked, answer: slot, .. } if *asked == lane => *slot = Some(answer.clone()),
                _ => self.stand_answered(lane, answer.clone()),
            }
        }
    }

    fn stand_answered(&mut self, lane: usize, answer: Answer) {
        if let Standing::AtGate(slot) = &mut self.lanes[lane].standing {
            *slot = Some(answer);
        }
    }
}

fn said(who: &str, reason: &str) -> String {
    if reason.is_empty() { who.to_owned() } else { format!("{who}: {reason}") }
}
