//! What the loop does with what it hears: messages of attempts, answers and commands of people.

use std::time::Duration;

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::attempt::{Attempt, Message, Purpose, Said};
use super::drive::Drive;
use super::{Consented, EngineError, Gates};
use crate::action::{Context, Failure, PlannedAction, Progress, Receipt};
use crate::id::UnitName;
use crate::inbox::Received;
use crate::journal::JournalError;
use crate::plan::Scope;
use crate::record::{Cause, Command, Event, RecordError};
use crate::state::{OpenGate, Stage, Standing, State};

/// The longest text in a record: what was observed, why a probe says no.
const TEXT_BYTES_MAX: usize = 4 * 1024;

impl Drive {
    /// Begins an attempt, or takes it up again, or opens the gate if the action is one.
    pub(super) fn begin(&mut self, lane: usize) -> Result<(), EngineError> {
        let state = &self.ledger.state;
        let step = state.step_plan(lane);
        let (action, is_check) = step.at(state.lanes[lane].position);
        let (action, step_index) = (action.clone(), state.graph().lanes()[lane].step);
        let info = self.catalogue.info(&action.name);
        let fields = self.render(lane, &action);
        if info.is_some_and(|info| info.gate) {
            return self.open_gate(lane, shown(&fields));
        }
        let purpose = match (is_check, info.is_some_and(|info| info.changes)) {
            (true, _) => Purpose::Check,
            (false, false) => Purpose::Watch,
            (false, true) if step.irreversible.is_some() => Purpose::ChangeForGood,
            (false, true) => Purpose::Change,
        };
        let limit = self.plan.steps[step_index].attempt_limit();
        let (attempt, stage) = match state.lanes[lane].standing {
            Standing::Interrupted(stage) => (state.lanes[lane].attempt, stage),
            _ => (state.lanes[lane].attempt + 1, Stage::Looking),
        };
        let context = self.context(lane, attempt, limit);
        self.ledger.record(Event::AttemptStarted { instance: context.instance.clone(), attempt })?;
        self.inputs.insert(lane, digest(&fields));
        let attempt = Attempt {
            lane,
            purpose,
            stage,
            name: action.name,
            fields,
            limit,
            context,
            catalogue: self.catalogue.clone(),
            claims: self.claims.clone(),
            messages: self.say.clone(),
        };
        self.attempts.spawn(attempt.run());
        Ok(())
    }

    fn context(&self, lane: usize, attempt: u32, limit: Duration) -> Context {
        let state = &self.ledger.state;
        let instance = state.current(lane).clone();
        let (hint, hinted) = (self.hint.clone(), instance.clone());
        Context {
            run: self.run.clone(),
            cluster: self.plan.cluster.clone(),
            step: state.step_plan(lane).id.clone(),
            target: state.target(lane).clone(),
            attempt,
            unit: UnitName::new(&self.run, &instance, attempt),
            claim: Some(self.claim.clone()),
            round: self.plan.round_of(state.graph().lanes()[lane].step).map(|round| round.number),
            waived: state.run.waived.iter().map(|waiver| waiver.guard.clone()).collect(),
            opened_at: self.opened_at,
            clock: self.clock.clone(),
            deadline: self.clock.deadline(limit),
            // A full channel drops the hint: a display is never worth a wait.
            progress: Progress::new(move |text| drop(hint.try_send((hinted.clone(), text.to_owned())))),
            instance,
        }
    }

    fn render(&self, lane: usize, action: &PlannedAction) -> Result<Value, String> {
        let state = &self.ledger.state;
        let place = &state.graph().lanes()[lane];
        let facts = |step: usize, target: usize| state.facts_of(step, target);
        let scope = Scope { plan: &self.plan, index: &self.index, run: &self.run, facts: &facts };
        scope.render(place.step, place.target, action)
    }

    pub(super) fn open_gate(&mut self, lane: usize, show: String) -> Result<(), EngineError> {
        let instance = self.ledger.state.current(lane).clone();
        let show = match self.ledger.state.has_something_to_take_back() {
            true => format!("{show} (no: the state before is put back)"),
            false => show,
        };
        self.ledger.record(Event::GateOpened { instance, show: clip(show) })
    }

    /// Says yes at every open gate, if the person has done so beforehand. Whether there was one.
    pub(super) fn consent_by_flag(&mut self) -> Result<bool, EngineError> {
        if self.gates != Gates::Yes {
            return Ok(false);
        }
        let mut open = self.ledger.state.open_gates();
        // A rollback has an outage, which nobody meant who said yes to an upgrade's gates.
        open.retain(|gate| !self.ledger.state.is_rollback_gate(&gate.step));
        for gate in &open {
            let (instance, who, reason) = (gate.instance.clone(), "--yes".to_owned(), String::new());
            self.ledger.record(Event::GateDecided { instance, approved: true, who, reason })?;
        }
        Ok(!open.is_empty())
    }

    pub(super) fn take_message(&mut self, message: Message) -> Result<(), EngineError> {
        let Message { lane, attempt, said } = message;
        let instance = self.ledger.state.current(lane).clone();
        let event = match said {
            Said::Probed(verdict, why) => Event::Probed { instance, attempt, verdict, why: clip(why) },
            // The change has not begun; the attempt ends when `go` is dropped.
            Said::Applying { .. } if self.is_given_up(lane) => return Ok(()),
            Said::Applying { go } => {
                self.barriers.push(go);
                let unit = UnitName::new(&self.run, &instance, attempt);
                let inputs = self.inputs.get(&lane).cloned().unwrap_or_default();
                Event::ApplyStarted { instance, attempt, unit, inputs }
            }
            Said::Applied(mut applied) => {
                applied.note = clip(applied.note);
                applied.receipt = applied.receipt.map(|receipt| Receipt { tail: clip_to_end(receipt.tail), ..receipt });
                Event::ApplyEnded { instance, attempt, applied }
            }
            Said::Settled(facts) => Event::Settled { instance, attempt, facts },
            Said::DoesNotHold(why) => Event::Skipped { instance, why: clip(why), by: Cause::Engine },
            Said::Failed(failure) => {
                let output = self.keep_long(&failure.observed);
                Event::AttemptFailed { instance, attempt, failure: clipped(failure), output }
            }
        };
        self.record_or_fail(event)
    }

    /// Whether a lane is one that a run leaves where it is because a person gave it up.
    fn is_given_up(&self, lane: usize) -> bool {
        let state = &self.ledger.state;
        state.aborting().is_some() && state.step_plan(lane).always.is_none()
    }

    /// Keeps in a file what a record has no place for. A disk that refuses it costs the text, not the record.
    fn keep_long(&mut self, text: &str) -> Option<String> {
        let (directory, _) = self.directory.as_ref().filter(|_| text.len() > TEXT_BYTES_MAX)?;
        let kept = directory.keep_output(text);
        kept.inspect_err(|error| self.ledger.notice(&format!("a long output is lost: {error}"))).ok()
    }

    /// Facts that do not fit into a record fail their step, not the run.
    fn record_or_fail(&mut self, event: Event) -> Result<(), EngineError> {
        let settled = match &event {
            Event::Settled { instance, attempt, .. } => Some((instance.clone(), *attempt)),
            _ => None,
        };
        match (self.ledger.record(event), settled) {
            (
                Err(EngineError::Journal(JournalError::Record { error: RecordError::TooLong { bytes, .. }, .. })),
                Some((instance, attempt)),
            ) => {
                let failure = Failure::permanent(format!("its facts take {bytes} bytes, more than a record holds"));
                self.ledger.record(Event::AttemptFailed { instance, attempt, failure, output: None })
            }
            (recorded, _) => recorded,
        }
    }

    pub(super) fn take_answer(&mut self, gate: &OpenGate, consented: Consented) -> Result<(), EngineError> {
        let (approved, who, reason) = match consented {
            Consented::Yes { who } => (true, who, String::new()),
            Consented::No { who, reason } => (false, who, reason),
            Consented::NobodyHere => return Ok(()),
        };
        let is_open = self.ledger.state.open_gates().iter().any(|open| open.instance == gate.instance);
        if is_open {
            let (instance, reason) = (gate.instance.clone(), clip(reason));
            let decided = match self.ledger.state.is_rollback_gate(&gate.step) {
                true => Event::RollbackDecided { approved, who, reason },
                false => Event::GateDecided { instance, approved, who, reason },
            };
            self.ledger.record(decided)?;
            self.ledger.acknowledge()?;
        }
        Ok(())
    }

    /// Takes what lies in the inbox: each command is durable before its file is removed, and is taken once.
    pub(super) fn take_commands(&mut self) -> Result<(), EngineError> {
        let Some(inbox) = self.inbox.clone() else { return Ok(()) };
        let received = inbox.look();
        for Received { id, command } in &received {
            if self.ledger.state.has_seen(id) {
                continue;
            }
            match command {
                Ok(command) => {
                    if let Some(why) = objection(&self.ledger.state, command) {
                        self.ledger.notice(&why);
                    }
                    self.ledger.record(Event::CommandReceived { id: id.clone(), command: command.clone() })?;
                }
                Err(why) => self.ledger.notice(&format!("{id} in the inbox is not a command: {why}")),
            }
        }
        if !received.is_empty() {
            self.ledger.acknowledge()?;
        }
        received.iter().for_each(|received| inbox.remove(&received.id));
        Ok(())
    }
}

/// Why a command will change nothing, if so.
fn objection(state: &State, command: &Command) -> Option<String> {
    match command {
        Command::Pause { .. } | Command::Continue { .. } => None,
        Command::Abort { .. } => state.cannot_abort(),
        Command::Approve { step, .. } | Command::Deny { step, .. } => state.answerable(step).err(),
        Command::Skip { step, .. } => state.skippable(step).err(),
        Command::Retry { step, .. } => state.retriable(step).err(),
    }
}

/// What a gate shows: its field `show`, else all its fields.
fn shown(fields: &Result<Value, String>) -> String {
    match fields {
        Ok(fields) => match fields.get("show").and_then(Value::as_str) {
            Some(show) => show.to_owned(),
            None => fields.to_string(),
        },
        Err(why) => why.clone(),
    }
}

fn digest(fields: &Result<Value, String>) -> String {
    let text = fields.as_ref().map(Value::to_string).unwrap_or_default();
    Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn clipped(mut failure: Failure) -> Failure {
    failure.what = clip(failure.what);
    failure.observed = clip(failure.observed);
    failure.next = clip(failure.next);
    failure
}

/// Keeps the beginning of a text that is too long.
pub(super) fn clip(mut text: String) -> String {
    if text.len() > TEXT_BYTES_MAX {
        let end = (0..=TEXT_BYTES_MAX - 3).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
    text
}

/// Keeps the end of a text that is too long: where a log says what went wrong.
fn clip_to_end(text: String) -> String {
    if text.len() <= TEXT_BYTES_MAX {
        return text;
    }
    let earliest = text.len() - (TEXT_BYTES_MAX - 3);
    let begin = (earliest..text.len()).find(|&at| text.is_char_boundary(at)).unwrap_or(text.len());
    format!("…{}", &text[begin..])
}
