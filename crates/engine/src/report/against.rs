//! What a run took against what was forecast of it.

use serde::{Deserialize, Serialize};

use super::{BudgetVerdict, Report};
use crate::duration::Span;
use crate::id::PhaseId;
use crate::plan::Forecast;

/// A twentieth more than expected is in time.
const TOLERANCE: f64 = 1.05;

/// A forecast against what came of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Against {
    /// From how many earlier runs it was made; 0: from what is typical.
    pub runs_measured: usize,
    /// What it was made from, in words.
    pub basis: String,
    /// Phases that began, then `the outage`, if there was one, and `the run`.
    pub rows: Vec<Compared>,
}

/// One time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Compared {
    /// The phase.
    pub what: String,
    /// Expected in half of the cases.
    pub p50_seconds: f64,
    /// Expected in nine of ten cases; none without measurements.
    pub p90_seconds: Option<f64>,
    /// What it took.
    pub seconds: f64,
}

impl Report {
    /// With a comparison to what was forecast of it. The time of people is in the outage and
    /// in the run, and in no forecast.
    #[must_use]
    pub fn against(mut self, forecast: &Forecast) -> Self {
        let late = forecast.p90.as_ref();
        let row = |what: &str, p50: Span, p90: Option<Span>, seconds: f64| Compared {
            what: what.to_owned(),
            p50_seconds: seconds_of(p50),
            p90_seconds: p90.map(seconds_of),
            seconds,
        };
        let find = |phases: &[(PhaseId, Span)], id| phases.iter().find(|(it, _)| it == id).map(|(_, at)| *at);
        let mut rows: Vec<Compared> = Vec::new();
        for phase in self.phases.iter().filter(|phase| phase.verdict != BudgetVerdict::NotBegun) {
            if let Some(p50) = find(&forecast.phases, &phase.id) {
                let p90 = late.and_then(|late| find(&late.phases, &phase.id));
                rows.push(row(phase.id.as_str(), p50, p90, phase.seconds));
            }
        }
        if let Some(recovery) = &self.recovery {
            rows.push(row("the outage", forecast.outage, late.map(|late| late.outage), recovery.seconds));
        }
        rows.push(row("the run", forecast.total, late.map(|late| late.total), self.seconds));
        let basis = forecast.basis.words();
        self.forecast = Some(Against { runs_measured: forecast.basis.runs, basis, rows });
        self
    }
}

impl Compared {
    /// How it came out, in words.
    pub(super) fn verdict(&self) -> &'static str {
        match self.p90_seconds {
            Some(p90) if self.seconds > p90 * TOLERANCE => "later than p90",
            _ if self.seconds > self.p50_seconds * TOLERANCE => "later",
            _ => "in time",
        }
    }
}

fn seconds_of(span: Span) -> f64 {
    span.get().as_secs_f64()
}
