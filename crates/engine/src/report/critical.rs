//! The critical path as it was: walked back from the last thing that ended, always to what it had waited for.

use serde::{Deserialize, Serialize};

use super::timeline::{Interval, Piece, PieceEnd, Timeline, WaitKind};
use crate::plan::{NeedPlan, Plan};
use crate::state::State;

/// A stretch of the critical path.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Segment {
    /// What it was spent on.
    pub kind: SegmentKind,
    /// Seconds of cluster time.
    pub seconds: f64,
}

/// What a stretch of the critical path was spent on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum SegmentKind {
    /// An attempt.
    Work {
        /// Its instance.
        instance: String,
        /// Its number.
        attempt: u32,
    },
    /// A wait.
    Wait {
        /// What for.
        wait: WaitKind,
        /// The instance that could not go on meanwhile.
        instance: String,
    },
}

/// The critical path, first segment first. Adds up to the time from the first piece to the end of the last.
pub(super) fn path(plan: &Plan, state: &State, timeline: &Timeline, speed: u32) -> Vec<Segment> {
    let lanes = PiecesOfLanes::new(state, timeline);
    let mut segments = Vec::new();
    let mut current = timeline.pieces.len().checked_sub(1);
    // Every hop goes to a piece that ended earlier, so that there are at most as many as pieces.
    while let Some(at) = current {
        let piece = &timeline.pieces[at];
        let before = lanes.before(plan, state, timeline, at);
        let start = before.map_or(piece.interval.from, |before| timeline.pieces[before].interval.to);
        work(&mut segments, piece, start, speed);
        if let Some(before) = before {
            waits(&mut segments, timeline, &timeline.pieces[before], piece, speed);
        }
        current = before;
    }
    segments.reverse();
    segments
}

/// The piece itself, from where the one before had ended.
fn work(segments: &mut Vec<Segment>, piece: &Piece, not_before: jiff::Timestamp, speed: u32) {
    let interval = Interval { from: piece.interval.from.max(not_before), to: piece.interval.to };
    let instance = piece.instance.to_string();
    let kind = match piece.is_attempt() {
        true => SegmentKind::Work { instance, attempt: piece.attempt },
        false => SegmentKind::Wait { wait: WaitKind::Gate, instance },
    };
    segments.push(Segment { kind, seconds: interval.seconds() * f64::from(speed) });
}

/// What lies between two pieces: known waits, and what is left over.
fn waits(segments: &mut Vec<Segment>, timeline: &Timeline, before: &Piece, after: &Piece, speed: u32) {
    let mut hole = Interval { from: before.interval.to, to: after.interval.from };
    let failed = before.instance == after.instance && matches!(before.end, PieceEnd::Failed(_));
    let rest = if failed { WaitKind::Backoff } else { WaitKind::Engine };
    let mut push = |wait: WaitKind, interval: Interval| {
        if interval.seconds() > 0.0 {
            let kind = SegmentKind::Wait { wait, instance: after.instance.to_string() };
            segments.push(Segment { kind, seconds: interval.seconds() * f64::from(speed) });
        }
    };
    for wait in timeline.waits.iter().rev() {
        if let Some(part) = wait.interval.within(hole) {
            push(rest, Interval { from: part.to, to: hole.to });
            push(wait.kind, part);
            hole.to = part.from;
        }
    }
    push(rest, hole);
}

/// Pieces by lane and step, by index into the timeline, in the order in which they ended.
struct PiecesOfLanes {
    lanes: Vec<Vec<usize>>,
    steps: Vec<Vec<usize>>,
}

impl PiecesOfLanes {
    fn new(state: &State, timeline: &Timeline) -> Self {
        let mut lanes = vec![Vec::new(); state.graph().lanes().len()];
        let mut steps = vec![Vec::new(); state.plan().steps.len()];
        for (index, piece) in timeline.pieces.iter().enumerate() {
            lanes[piece.lane].push(index);
            steps[piece.step].push(index);
        }
        Self { lanes, steps }
    }

    /// What a piece had waited for: the last thing to end before it began, among its own sequence, what its step
    /// needs, and the other targets of its step; else anything.
    fn before(&self, plan: &Plan, state: &State, timeline: &Timeline, at: usize) -> Option<usize> {
        let piece = &timeline.pieces[at];
        let start = piece.interval.from;
        let last = |pieces: &[usize]| {
            let ended = pieces.partition_point(|&index| index < at && timeline.pieces[index].interval.to <= start);
            ended.checked_sub(1).map(|last| pieces[last])
        };
        let mut candidates = vec![last(&self.lanes[piece.lane])];
        let target = state.target(piece.lane);
        let mut waiting: Vec<usize> = vec![piece.step];
        while let Some(step) = waiting.pop() {
            for need in &plan.steps[step].needs {
                let (needed, same_host) = match need {
                    NeedPlan::All(needed) => (std::slice::from_ref(needed), false),
                    NeedPlan::SameHost(needed) => (needed.as_slice(), true),
                };
                for &needed in needed {
                    let place = plan.steps[needed].targets.iter().position(|other| other == target);
                    match place.and_then(|place| state.graph().lanes_of(needed).nth(place)) {
                        Some(lane) if same_host => candidates.push(last(&self.lanes[lane])),
                        _ if state.graph().lanes_of(needed).is_empty() => waiting.push(needed),
                        _ => candidates.push(last(&self.steps[needed])),
                    }
                }
            }
        }
        candidates.push(last(&self.steps[piece.step]));
        let found = candidates.into_iter().flatten().max();
        found.or_else(|| last(&(0..at).collect::<Vec<_>>()))
    }
}
