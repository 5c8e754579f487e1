//! The ledger: the journal and the state that is its fold, with one owner. What is recorded is applied at once and
//! shown once it is acknowledged.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};

use jiff::{Timestamp, Unit};

use super::{EngineError, Observer};
use crate::clock::Clock;
use crate::id::{InstanceId, RunId};
use crate::journal::{Draft, Journal};
use crate::record::{Event, Record};
use crate::state::State;

/// How many records may wait for one commit.
const BATCH_RECORDS_MAX: usize = 512;

pub(super) struct Ledger {
    pub state: State,
    pub claim: u64,
    journal: Box<dyn Journal>,
    stamp: Stamp,
    run: RunId,
    unacknowledged: Vec<Record>,
    notes_told: usize,
    pub observers: Vec<Box<dyn Observer>>,
}

impl Ledger {
    pub fn new(run: RunId, journal: Box<dyn Journal>, state: State, clock: Clock) -> Self {
        let (claim, stamp) = (state.claim(), Stamp::new(clock));
        Self { state, claim, journal, stamp, run, unacknowledged: Vec::new(), notes_told: 0, observers: Vec::new() }
    }

    /// Appends an event and applies it. It is durable after the next [`Ledger::acknowledge`].
    pub fn record(&mut self, event: Event) -> Result<(), EngineError> {
        let draft = self.stamp.draft(&self.run, self.claim, event);
        let record = self.journal.append(draft)?;
        self.state.apply(&record)?;
        self.unacknowledged.push(record);
        if self.unacknowledged.len() >= BATCH_RECORDS_MAX {
            self.acknowledge()?;
        }
        Ok(())
    }

    /// Makes everything recorded so far durable, and tells the observers.
    pub fn acknowledge(&mut self) -> Result<(), EngineError> {
        if self.unacknowledged.is_empty() {
            return Ok(());
        }
        self.journal.commit()?;
        for record in self.unacknowledged.drain(..) {
            tell(&mut self.observers, &mut |observer| observer.record(&record, &self.state));
        }
        Ok(())
    }

    /// Whether something is recorded and not yet durable.
    pub fn is_behind(&self) -> bool {
        !self.unacknowledged.is_empty()
    }

    pub fn hint(&mut self, instance: &InstanceId, hint: &str) {
        tell(&mut self.observers, &mut |observer| observer.hint(instance, hint));
    }

    pub fn notice(&mut self, text: &str) {
        tell(&mut self.observers, &mut |observer| observer.notice(text));
    }

    /// Says what the journal has found and mended, or could not keep, since this was last asked.
    pub fn tell_notes(&mut self) {
        let notes = self.journal.notes();
        for note in notes.iter().skip(self.notes_told) {
            self.notice(note);
        }
        self.notes_told = notes.len();
    }
}

/// Tells every observer. One that panics is told nothing more, and the others are told why: a display is never worth a
/// run.
fn tell(observers: &mut Vec<Box<dyn Observer>>, what: &mut dyn FnMut(&mut dyn Observer)) {
    let before = observers.len();
    observers.retain_mut(|observer| catch_unwind(AssertUnwindSafe(|| what(observer.as_mut()))).is_ok());
    if observers.len() < before {
        let why = "a display or exporter panicked and is left out: a defect of rke2flow";
        tell(observers, &mut |observer| observer.notice(why));
    }
}

/// Writes events in one batch, outside of an engine.
pub(super) fn write(
    journal: &mut dyn Journal,
    run: &RunId,
    claim: u64,
    clock: &Clock,
    events: impl Iterator<Item = Event>,
    each: &mut dyn FnMut(&Record) -> Result<(), super::RunError>,
) -> Result<(), super::RunError> {
    let stamp = Stamp::new(clock.clone());
    for event in events {
        let record = journal.append(stamp.draft(run, claim, event))?;
        each(&record)?;
    }
    Ok(journal.commit()?)
}

/// Says when a record was made, on both clocks.
struct Stamp {
    clock: Clock,
    boot: String,
    started: tokio::time::Instant,
    started_ms: u64,
}

impl Stamp {
    fn new(clock: Clock) -> Self {
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let uptime = fs::read_to_string("/proc/uptime").unwrap_or_default();
        let seconds: f64 = uptime.split(' ').next().and_then(|text| text.parse().ok()).unwrap_or(0.0);
        Self {
            clock,
            boot: boot.trim().to_owned(),
            started: tokio::time::Instant::now(),
            started_ms: (seconds * 1000.0) as u64,
        }
    }

    fn draft(&self, run: &RunId, claim: u64, event: Event) -> Draft {
        let mono_ms = self.started_ms + self.started.elapsed().as_millis() as u64;
        let at = self.clock.now();
        let at: Timestamp = at.round(Unit::Microsecond).unwrap_or(at);
        Draft { at, boot: self.boot.clone(), mono_ms, run: run.clone(), claim, event }
    }
}
