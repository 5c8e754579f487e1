//! Forecasts from what was measured: the plan is played many times with durations drawn from earlier runs.

use std::collections::BTreeSet;
use std::time::Duration;

use super::durations::{Draw, Random, duration};
use super::{Durations, Kind, quantile};
use crate::action::Catalogue;
use crate::duration::Span;
use crate::id::PhaseId;
use crate::plan::{Basis, Cycle, Expected, Forecast, Late, Plan, Slot};
use crate::state::State;

/// How often a plan is played.
const DRAWS: usize = 200;

/// How often a large plan is played at least.
const DRAWS_MIN: usize = 20;

/// How many actions are drawn in all before a plan is played less often: a plan of 100,000 steps must not take minutes.
const SLOTS_MAX: usize = 1_000_000;

impl Forecast {
    /// From what earlier runs took, and what actions usually take where there are none.
    ///
    /// p50 and p90 are those of the whole: the plan is played many times. Adding up the p90 of each action would say
    /// that everything is slow at once, which hardly happens; drawing each by itself would say that slowness never
    /// comes together, though a slow disk or registry slows all hosts of a run. So each play prefers one earlier run
    /// and draws from that, kind by kind (a bootstrap by blocks), and from another where that one has nothing.
    pub fn measured(plan: &Plan, catalogue: &dyn Catalogue, durations: &Durations) -> Result<Self, Cycle> {
        Sources { plan, catalogue, durations }.forecast(&|_, takes| takes)
    }

    /// What is left of a run in this state: what is done takes no time, and `elapsed` says for how long an action has
    /// been tried already.
    pub fn rest(
        state: &State,
        catalogue: &dyn Catalogue,
        durations: &Durations,
        elapsed: &dyn Fn(&Slot<'_>) -> Duration,
    ) -> Result<Self, Cycle> {
        let left = |slot: Slot<'_>, takes: Duration| match state.is_past(slot.step, slot.target, slot.position) {
            true => Duration::ZERO,
            false => takes.saturating_sub(elapsed(&slot)),
        };
        Sources { plan: state.plan(), catalogue, durations }.forecast(&left)
    }
}

struct Sources<'a> {
    plan: &'a Plan,
    catalogue: &'a dyn Catalogue,
    durations: &'a Durations,
}

impl Sources<'_> {
    fn forecast(&self, left: &dyn Fn(Slot<'_>, Duration) -> Duration) -> Result<Forecast, Cycle> {
        let kinds = self.kinds()?;
        let mut forecast = Forecast::with(self.plan, &|slot| left(slot, self.half_of_the_time(&kind_of(&slot))))?;
        let measured = kinds.iter().any(|kind| kind.count > 0);
        forecast.basis = Basis { runs: if measured { self.durations.runs() } else { 0 }, kinds };
        if measured {
            let plays = self.plays(left)?;
            (forecast.total, forecast.outage) = (plays.total(0.5), plays.outage(0.5));
            forecast.phases = plays.phases(self.plan, 0.5);
            let (total, outage) = (plays.total(0.9), plays.outage(0.9));
            forecast.p90 = Some(Late { total, outage, phases: plays.phases(self.plan, 0.9) });
        }
        Ok(forecast)
    }

    fn plays(&self, left: &dyn Fn(Slot<'_>, Duration) -> Duration) -> Result<Plays, Cycle> {
        let slots: usize = self.plan.steps.iter().map(|step| step.targets.len() * step.actions.len()).sum();
        let draws = (SLOTS_MAX / slots.max(1)).clamp(DRAWS_MIN, DRAWS);
        let random = Random::new();
        let mut plays =
            Plays { total: Vec::new(), outage: Vec::new(), phases: vec![Vec::new(); self.plan.phases.len()] };
        for _ in 0..draws {
            let draw = Draw::new(self.durations, &random);
            let takes = |slot: Slot<'_>| {
                let kind = kind_of(&slot);
                left(slot, draw.one(&kind).unwrap_or_else(|| self.typical(&kind)))
            };
            let play = Forecast::with(self.plan, &takes)?;
            plays.total.push(play.total.get().as_secs_f64());
            plays.outage.push(play.outage.get().as_secs_f64());
            for (all, (_, took)) in plays.phases.iter_mut().zip(&play.phases) {
                all.push(took.get().as_secs_f64());
            }
        }
        plays.sort();
        Ok(plays)
    }

    /// Every kind of action in the plan, with what is known about it.
    fn kinds(&self) -> Result<Vec<Expected>, Cycle> {
        let kinds = std::cell::RefCell::new(BTreeSet::new());
        Forecast::with(self.plan, &|slot| {
            if !self.catalogue.info(&slot.action.name).is_some_and(|info| info.gate) {
                kinds.borrow_mut().insert(kind_of(&slot));
            }
            Duration::ZERO
        })?;
        let expected = |kind: Kind| {
            let typical = self.typical(&kind);
            let at = |share| self.durations.quantile(&kind, share).unwrap_or(typical).into();
            Expected { p50: at(0.5), p90: at(0.9), count: self.durations.count(&kind), kind }
        };
        Ok(kinds.into_inner().into_iter().map(expected).collect())
    }

    fn half_of_the_time(&self, kind: &Kind) -> Duration {
        self.durations.quantile(kind, 0.5).unwrap_or_else(|| self.typical(kind))
    }

    /// Gates take a person's time, which no forecast knows.
    fn typical(&self, kind: &Kind) -> Duration {
        let info = self.catalogue.info(&kind.action).filter(|info| !info.gate);
        Duration::from_secs(info.map_or(0, |info| info.typical_seconds).into())
    }
}

fn kind_of(slot: &Slot<'_>) -> Kind {
    Kind { action: slot.action.name.clone(), place: slot.place }
}

/// What the plays took, in seconds, rising.
struct Plays {
    total: Vec<f64>,
    outage: Vec<f64>,
    phases: Vec<Vec<f64>>,
}

impl Plays {
    fn sort(&mut self) {
        for seconds in self.phases.iter_mut().chain([&mut self.total, &mut self.outage]) {
            seconds.sort_by(f64::total_cmp);
        }
    }

    fn total(&self, share: f64) -> Span {
        span(&self.total, share)
    }

    fn outage(&self, share: f64) -> Span {
        span(&self.outage, share)
    }

    fn phases(&self, plan: &Plan, share: f64) -> Vec<(PhaseId, Span)> {
        plan.phases.iter().zip(&self.phases).map(|(phase, took)| (phase.id.clone(), span(took, share))).collect()
    }
}

fn span(sorted: &[f64], share: f64) -> Span {
    quantile(sorted, share).map(duration).unwrap_or_default().into()
}

#[cfg(test)]
mod tests {
    use super::super::Where;
    use super::super::durations::Measured;
    use super::*;
    use crate::plan::testing::{cluster, plan_of};
    use crate::testing::ToyCatalogue;

    const ON_ALL: &str = r#"(id: "a", phase: "o", on: All, do: [Touch(mark: "x")])"#;

    fn kind(action: &str, place: Where) -> Kind {
        Kind { action: action.to_owned(), place }
    }

    fn touched(place: Where, seconds: &[f64]) -> Measured {
        Measured::from([(kind("Touch", place), seconds.to_vec())])
    }

    fn forecast(steps: &str, runs: Vec<Measured>) -> Forecast {
        let plan = plan_of(&cluster(3, 3), steps, &[]);
        Forecast::measured(&plan, &ToyCatalogue::default(), &Durations::of(runs)).unwrap()
    }

    #[test]
    fn without_history_everything_is_typical_and_nobody_says_how_late_it_may_be() {
        let forecast = forecast(ON_ALL, Vec::new());
        assert_eq!((forecast.total, forecast.p90, forecast.basis.runs), (Span::from_secs(60), None, 0));
        assert!(forecast.basis.kinds.iter().all(|kind| kind.count == 0), "{:?}", forecast.basis);
    }

    #[test]
    fn servers_and_agents_are_measured_apart_and_what_was_not_measured_stays_typical() {
        let forecast = forecast(ON_ALL, vec![touched(Where::Server, &[30.0])]);
        assert_eq!(forecast.total, Span::from_secs(3 * 30 + 3 * 10));
        let told = |at: usize| (forecast.basis.kinds[at].kind.to_string(), forecast.basis.kinds[at].count);
        assert_eq!((told(0), told(1)), (("Touch@server".to_owned(), 1), ("Touch@agent".to_owned(), 0)));
        assert_eq!(forecast.basis.words(), "measured in 1 run, 1 of 2 kinds of action typical");
    }

    #[test]
    fn what_was_slow_together_stays_slow_together() {
        let run = |seconds| Measured::from([Where::Server, Where::Agent].map(|p| (kind("Touch", p), vec![seconds])));
        let forecast = forecast(ON_ALL, vec![run(10.0), run(10.0), run(20.0)]);
        let late = forecast.p90.unwrap();
        assert_eq!((forecast.total, late.total), (Span::from_secs(60), Span::from_secs(120)));
        assert_eq!((forecast.outage, late.outage), (Span::from_secs(60), Span::from_secs(120)));
    }

    #[test]
    fn not_every_action_is_slow_at_once() {
        let mostly = [10.0, 10.0, 10.0, 10.0, 10.0, 10.0, 10.0, 10.0, 100.0, 100.0];
        let forecast = forecast(&ON_ALL.replace("All", "Servers"), vec![touched(Where::Server, &mostly)]);
        let (p50, p90) = (forecast.total, forecast.p90.unwrap().total);
        assert_eq!(forecast.basis.kinds[0].p90, Span::from_secs(100));
        assert!(Span::from_secs(30) <= p50 && p50 < p90 && p90 < Span::from_secs(300), "{p50} {p90}");
    }

    #[test]
    fn the_same_history_gives_the_same_forecast() {
        let make = || forecast(ON_ALL, vec![touched(Where::Agent, &[1.0, 5.0, 9.0]), touched(Where::Agent, &[4.0])]);
        assert_eq!(make(), make());
    }
}
