//! When what ran: attempts cut into the pieces that engines drove, and the waits between them. In wall time.

use std::collections::HashMap;

use jiff::Timestamp;

use crate::id::InstanceId;
use crate::record::{Event, Record};
use crate::state::State;

/// A stretch of wall time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Interval {
    /// Its beginning.
    pub from: Timestamp,
    /// Its end.
    pub to: Timestamp,
}

impl Interval {
    /// Its length; 0 if the clock was set back.
    pub fn seconds(self) -> f64 {
        self.to.duration_since(self.from).as_secs_f64().max(0.0)
    }

    /// The part of it that lies within another.
    pub fn within(self, other: Interval) -> Option<Interval> {
        let (from, to) = (self.from.max(other.from), self.to.min(other.to));
        (from < to).then_some(Interval { from, to })
    }
}

/// The length of the union of intervals.
pub fn union_seconds(intervals: &[Interval]) -> f64 {
    let mut sorted = intervals.to_vec();
    sorted.sort();
    let mut total = 0.0;
    let mut current: Option<Interval> = None;
    for interval in sorted {
        match &mut current {
            Some(open) if interval.from <= open.to => open.to = open.to.max(interval.to),
            _ => total += current.replace(interval).map_or(0.0, Interval::seconds),
        }
    }
    total + current.map_or(0.0, Interval::seconds)
}

/// What one engine did for one instance without a break: an attempt, a part of one, or a gate.
#[derive(Debug, Clone, PartialEq)]
pub struct Piece {
    /// The instance.
    pub instance: InstanceId,
    /// The attempt; 0 for a gate.
    pub attempt: u32,
    /// When.
    pub interval: Interval,
    /// How it ended.
    pub end: PieceEnd,
    /// Index of the step in the plan.
    pub step: usize,
    /// The lane.
    pub lane: usize,
    /// The position in the lane's sequence.
    pub position: usize,
}

impl Piece {
    /// Whether an action ran, and not a person was asked.
    pub fn is_attempt(&self) -> bool {
        self.attempt > 0
    }
}

/// How a piece ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PieceEnd {
    /// The goal holds, or the gate was passed.
    Done,
    /// A check did not hold, or it was skipped.
    Skipped,
    /// It failed: what.
    Failed(String),
    /// The engine went away.
    Interrupted,
    /// It goes on.
    Open,
}

/// Why nothing went on, for a while.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wait {
    /// Why.
    pub kind: WaitKind,
    /// When.
    pub interval: Interval,
}

/// What was waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum WaitKind {
    /// A person at a gate.
    Gate,
    /// A person paused the run.
    Pause,
    /// No engine ran.
    EngineGone,
    /// The time between two attempts.
    Backoff,
    /// The engine itself: deciding, writing down.
    Engine,
}

/// When what ran.
#[derive(Debug, Clone, Default)]
pub struct Timeline {
    /// In the order in which they ended.
    pub pieces: Vec<Piece>,
    /// In the order in which they ended.
    pub waits: Vec<Wait>,
    open: HashMap<InstanceId, (u32, Timestamp)>,
    gates: HashMap<InstanceId, Timestamp>,
    paused_at: Option<Timestamp>,
    last_at: Option<Timestamp>,
    engines: u32,
    attempts: HashMap<usize, usize>,
}

impl Timeline {
    /// Takes the next record.
    pub fn push(&mut self, record: &Record) {
        let at = record.at;
        match &record.event {
            Event::EngineStarted { .. } => self.engine_started(at),
            Event::AttemptStarted { instance, attempt } => {
                self.open.insert(instance.clone(), (*attempt, at));
            }
            Event::Settled { instance, .. } => self.end(instance, at, PieceEnd::Done),
            Event::Skipped { instance, .. } => self.end(instance, at, PieceEnd::Skipped),
            Event::AttemptFailed { instance, failure, .. } => {
                self.end(instance, at, PieceEnd::Failed(failure.what.clone()));
            }
            Event::GateOpened { instance, .. } => {
                self.gates.insert(instance.clone(), at);
            }
            Event::GateDecided { instance, approved, who, .. } => {
                let end = if *approved { PieceEnd::Done } else { PieceEnd::Failed(format!("{who} said no")) };
                if let Some(from) = self.gates.remove(instance) {
                    self.piece(instance, 0, Interval { from, to: at }, end);
                    self.waits.push(Wait { kind: WaitKind::Gate, interval: Interval { from, to: at } });
                }
            }
            Event::Paused { .. } => self.paused_at = Some(at),
            Event::Continued { .. } => self.end_pause(at),
            _ => {}
        }
        self.last_at = Some(at);
    }

    /// What the engine before had in flight ended, as far as anybody knows, with its last record.
    fn engine_started(&mut self, at: Timestamp) {
        let until = self.last_at.unwrap_or(at);
        self.engines += 1;
        if self.engines > 1 {
            self.waits.push(Wait { kind: WaitKind::EngineGone, interval: Interval { from: until, to: at } });
        }
        for (instance, (attempt, from)) in std::mem::take(&mut self.open) {
            self.piece(&instance, attempt, Interval { from, to: until }, PieceEnd::Interrupted);
        }
    }

    fn end(&mut self, instance: &InstanceId, to: Timestamp, end: PieceEnd) {
        if let Some((attempt, from)) = self.open.remove(instance) {
            self.piece(instance, attempt, Interval { from, to }, end);
        }
    }

    fn end_pause(&mut self, to: Timestamp) {
        if let Some(from) = self.paused_at.take() {
            self.waits.push(Wait { kind: WaitKind::Pause, interval: Interval { from, to } });
        }
    }

    fn piece(&mut self, instance: &InstanceId, attempt: u32, interval: Interval, end: PieceEnd) {
        let instance = instance.clone();
        self.pieces.push(Piece { instance, attempt, interval, end, step: 0, lane: 0, position: 0 });
    }

    /// Closes what is open at the last record, and finds every piece's place in the plan.
    pub(super) fn place(&mut self, state: &State) {
        let Some(last) = self.last_at else { return };
        for (instance, (attempt, from)) in std::mem::take(&mut self.open) {
            self.piece(&instance, attempt, Interval { from, to: last }, PieceEnd::Open);
        }
        for (instance, from) in std::mem::take(&mut self.gates) {
            let interval = Interval { from, to: last };
            self.piece(&instance, 0, interval, PieceEnd::Open);
            self.waits.push(Wait { kind: WaitKind::Gate, interval });
        }
        self.end_pause(last);
        self.pieces.retain_mut(|piece| match state.graph().find(&piece.instance) {
            Some((lane, position)) => {
                (piece.lane, piece.position) = (lane, position);
                piece.step = state.graph().lanes()[lane].step;
                true
            }
            None => false,
        });
        self.pieces.sort_by_key(|piece| (piece.interval.to, piece.interval.from));
        for piece in self.pieces.iter().filter(|piece| piece.is_attempt() && piece.end != PieceEnd::Interrupted) {
            *self.attempts.entry(piece.step).or_default() += 1;
        }
    }

    /// How many attempts a step took.
    pub fn attempts_of(&self, step: usize) -> usize {
        self.attempts.get(&step).copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interval(from: i64, to: i64) -> Interval {
        Interval { from: Timestamp::from_second(from).unwrap(), to: Timestamp::from_second(to).unwrap() }
    }

    #[test]
    fn a_union_counts_overlaps_once_and_gaps_not_at_all() {
        assert_eq!(union_seconds(&[interval(10, 20), interval(0, 4), interval(15, 30), interval(16, 17)]), 24.0);
        assert_eq!(union_seconds(&[]), 0.0);
    }

    #[test]
    fn a_clock_that_was_set_back_never_makes_a_negative_time() {
        assert_eq!(interval(20, 10).seconds(), 0.0);
    }
}
