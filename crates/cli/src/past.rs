//! What earlier runs took, as commands use it. A history that cannot be read makes a forecast worse; it stops nothing.

use std::sync::Arc;

use jiff::{Timestamp, ToSpan};
use rke2flow_engine::history::{Durations, HistoryError, Kept, Store};
use rke2flow_engine::plan::{Forecast, Plan};
use rke2flow_engine::record::Event;
use rke2flow_steps::catalogue::StepsCatalogue;
use serde_json::{Value, json};

use crate::args::Global;
use crate::exit::Problem;
use crate::place;
use crate::runs::{Seen, Stands};
use crate::show::Colour;

/// Everything that is known of closed runs; takes in those that are new.
pub fn kept(global: &Global) -> Result<Kept, Problem> {
    let store = Store::at(place::state_dir(global)?);
    store.refresh(&StepsCatalogue::offline()).map_err(|error| {
        let path = store.path().display().to_string();
        let next = match error {
            HistoryError::Newer { .. } => "use that rke2flow".to_owned(),
            HistoryError::Disk { .. } | HistoryError::Locked { .. } => format!("ls -l {path}"),
        };
        Problem::bad_input("cannot use the history of earlier runs").observed(error).next(next)
    })
}

/// The same, where it only makes things better: a problem is told, and nothing is known then.
pub fn kept_if_any(global: &Global) -> Kept {
    let warn = |text: String| eprintln!("{} {text}", Colour::of_stderr().warn("warning:"));
    kept(global).unwrap_or_else(|problem| {
        warn(format!("{}: {}; forecasts are typical ones", problem.what, problem.observed));
        Kept::default()
    })
}

/// What earlier runs on the plan's cluster took.
pub fn durations(global: &Global, plan: &Plan) -> Arc<Durations> {
    Arc::new(kept_if_any(global).durations(plan))
}

/// The forecast of a plan on its cluster.
pub fn forecast(plan: &Plan, durations: &Durations) -> Forecast {
    Forecast::measured(plan, &StepsCatalogue::offline(), durations).expect("planning refuses cycles")
}

/// What was expected of a run when it began: from the runs that were over by then.
pub fn expected_of(seen: &Seen, mut kept: Kept) -> Forecast {
    kept.entries.retain(|entry| entry.ended_at <= seen.replayed.opened_at);
    forecast(&seen.replayed.plan, &kept.durations(&seen.replayed.plan))
}

/// What is left of an open run.
pub struct Rest {
    forecast: Forecast,
    /// When it may be over, if an engine drives it.
    ends: Option<(Timestamp, Option<Timestamp>)>,
}

impl Rest {
    /// Of a run; `None` when it is closed, given up or goes back: nobody knows then what is left.
    pub fn of(seen: &Seen, durations: &Durations, now: Timestamp) -> Option<Self> {
        let state = &seen.replayed.state;
        if state.closed().is_some() || state.aborting().is_some() {
            return None;
        }
        let speed = seen.replayed.opened.speed.max(1);
        let driven = seen.stands() == Stands::Running;
        let began = |wanted: &str| {
            seen.records.iter().rev().find_map(|record| match &record.event {
                Event::AttemptStarted { instance, .. } if instance.as_str() == wanted => Some(record.at),
                _ => None,
            })
        };
        let running: Vec<_> = state.in_flight().into_iter().map(|(instance, _)| instance).collect();
        let elapsed = |slot: &rke2flow_engine::plan::Slot<'_>| {
            let instance = state.graph().instance(state.graph().lanes_of(slot.step).start + slot.target, slot.position);
            let since = running.contains(instance).then(|| began(instance.as_str())).flatten();
            let until = if driven { now } else { seen.replayed.last_at };
            since.map_or_else(Default::default, |since| {
                std::time::Duration::try_from(until.duration_since(since)).unwrap_or_default() * speed
            })
        };
        let forecast = Forecast::rest(state, &StepsCatalogue::offline(), durations, &elapsed).ok()?;
        let at = |left: rke2flow_engine::duration::Span| {
            let wall = i64::try_from(left.get().as_millis()).unwrap_or(i64::MAX) / i64::from(speed);
            now.checked_add(wall.milliseconds()).unwrap_or(Timestamp::MAX)
        };
        let ends = driven.then(|| (at(forecast.total), forecast.p90.as_ref().map(|late| at(late.total))));
        Some(Self { forecast, ends })
    }

    /// In one line.
    pub fn line(&self) -> String {
        let late = self.forecast.p90.as_ref().map(|late| late.total);
        let left = rke2flow_engine::plan::expected(self.forecast.total, late);
        let clock = |at: Timestamp| at.strftime("%H:%M:%SZ").to_string();
        let ends = match self.ends {
            Some((at, Some(late))) => format!(": ends at {} (p90 {})", clock(at), clock(late)),
            Some((at, None)) => format!(": ends at {}", clock(at)),
            None => " once it goes on".to_owned(),
        };
        format!("forecast {left} to go{ends}; {}", self.forecast.basis.words())
    }

    /// For programs: seconds of cluster time, and dates.
    pub fn json(&self) -> Value {
        let late = self.forecast.p90.as_ref().map(|late| late.total.get().as_secs_f64());
        json!({
            "p50_seconds": self.forecast.total.get().as_secs_f64(),
            "p90_seconds": late,
            "ends_at": self.ends.map(|(at, _)| at),
            "ends_at_p90": self.ends.and_then(|(_, at)| at),
            "runs_measured": self.forecast.basis.runs,
        })
    }
}
