//! How long a plan is expected to take: each sequence starts when what it needs is done and a place is free.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Cycle, NeedPlan, PhaseClock, Plan, StepPlan};
use crate::action::{Catalogue, PlannedAction};
use crate::cluster::Role;
use crate::duration::Span;
use crate::history::{Durations, Kind, Where};
use crate::id::{HostName, PhaseId, StepId, Target};

/// What a plan is expected to take, in cluster time, without failures and without waiting for people.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Forecast {
    /// From the first start to the last end: in half of the cases no longer than this (p50).
    pub total: Span,
    /// From the first start to the last end of outage phases, p50.
    pub outage: Span,
    /// From the first start to the last end of each phase, in order, p50.
    pub phases: Vec<(PhaseId, Span)>,
    /// The sequences that the total is made of, one after the other, when every action takes what it takes in half of
    /// the cases; they add up to the total when nothing was measured.
    pub critical_path: Vec<Leg>,
    /// The same in nine of ten cases; none when nothing was measured: what is typical has no spread.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p90: Option<Late>,
    /// What it is made from.
    #[serde(default)]
    pub basis: Basis,
}

/// What a plan takes at most in nine of ten cases.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Late {
    /// From the first start to the last end.
    pub total: Span,
    /// From the first start to the last end of outage phases.
    pub outage: Span,
    /// From the first start to the last end of each phase, in order.
    pub phases: Vec<(PhaseId, Span)>,
}

/// What a forecast is made from.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Basis {
    /// How many earlier runs of the cluster were measured; 0: everything is typical.
    pub runs: usize,
    /// Every kind of action in the plan.
    pub kinds: Vec<Expected>,
}

impl Basis {
    /// In a few words: `measured in 4 runs, 3 of 17 kinds of action typical`.
    pub fn words(&self) -> String {
        let typical = self.kinds.iter().filter(|kind| kind.count == 0).count();
        let runs = if self.runs == 1 { "1 run".to_owned() } else { format!("{} runs", self.runs) };
        match (self.runs, typical) {
            (0, _) => "typical: nothing was measured on this cluster yet".to_owned(),
            (_, 0) => format!("measured in {runs}"),
            (_, some) => format!("measured in {runs}, {some} of {} kinds of action typical", self.kinds.len()),
        }
    }
}

/// What a kind of action is expected to take.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Expected {
    /// The kind.
    pub kind: Kind,
    /// In half of the cases at most.
    pub p50: Span,
    /// In nine of ten cases at most.
    pub p90: Span,
    /// From so many measurements; 0: it is what the catalogue calls typical.
    pub count: usize,
}

/// One action on one target, as a forecast asks about it.
#[derive(Debug, Clone, Copy)]
pub struct Slot<'a> {
    /// Index into [`Plan::steps`].
    pub step: usize,
    /// Index into [`StepPlan::targets`].
    pub target: usize,
    /// Index into the target's sequence, as [`StepPlan::at`] takes it.
    pub position: usize,
    /// The action.
    pub action: &'a PlannedAction,
    /// Where it runs.
    pub place: Where,
}

/// One sequence on the critical path.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Leg {
    /// The step.
    pub step: StepId,
    /// Where.
    pub target: Target,
    /// How long it is expected to take.
    pub takes: Span,
}

impl Forecast {
    /// From what actions usually take; [`Forecast::measured`] knows better when there is history.
    pub fn of(plan: &Plan, catalogue: &dyn Catalogue) -> Result<Self, Cycle> {
        Self::measured(plan, catalogue, &Durations::default())
    }

    /// From what `takes` says of each action on each target.
    pub fn with(plan: &Plan, takes: &dyn Fn(Slot<'_>) -> Duration) -> Result<Self, Cycle> {
        let graph = plan.graph()?;
        let hosts = plan.hosts.iter().enumerate().map(|(index, host)| (&host.name, (index, host.role))).collect();
        let mut timeline = Timeline { plan, hosts, steps: vec![Timing::default(); plan.steps.len()] };
        for &step in graph.order().iter().filter(|&&step| !plan.steps[step].takes_back()) {
            timeline.place(step, takes);
        }
        Ok(timeline.forecast())
    }
}

/// When a sequence runs, and what made it start no earlier.
#[derive(Debug, Clone, Copy, Default)]
struct Window {
    start: Duration,
    end: Duration,
    after: Option<Place>,
}

/// A sequence: step and target by index.
type Place = (usize, usize);

#[derive(Debug, Clone, Default)]
struct Timing {
    windows: Vec<Window>,
    /// When every target is done; for a step without targets, when all that it needs is done.
    end: Duration,
    /// The sequence that `end` is due to.
    last: Option<Place>,
}

struct Timeline<'a> {
    plan: &'a Plan,
    /// Position in the cluster file and role.
    hosts: HashMap<&'a HostName, (usize, Role)>,
    steps: Vec<Timing>,
}

impl Timeline<'_> {
    fn place(&mut self, index: usize, takes: &dyn Fn(Slot<'_>) -> Duration) {
        let step = &self.plan.steps[index];
        if step.targets.is_empty() {
            let (end, last) = self.all_needs(step);
            self.steps[index] = Timing { windows: Vec::new(), end, last };
            return;
        }
        let ready = self.ready(step);
        let mut order: Vec<usize> = (0..ready.len()).collect();
        order.sort_by_key(|&target| ready[target].0);
        let mut windows = vec![Window::default(); ready.len()];
        let mut running: BinaryHeap<Reverse<(Duration, usize)>> = BinaryHeap::new();
        for target in order {
            let (mut start, mut after) = ready[target];
            if running.len() >= step.hosts_at_once.max(1)
                && let Some(Reverse((free_at, earlier))) = running.pop()
                && free_at > start
            {
                (start, after) = (free_at, Some((index, earlier)));
            }
            let end = start + self.sequence(index, target, takes);
            windows[target] = Window { start, end, after };
            running.push(Reverse((end, target)));
        }
        let last = (0..windows.len()).max_by_key(|&target| windows[target].end);
        let end = last.map_or(Duration::ZERO, |target| windows[target].end);
        self.steps[index] = Timing { windows, end, last: last.map(|target| (index, target)) };
    }

    /// How long a target's sequence takes.
    fn sequence(&self, index: usize, target: usize, takes: &dyn Fn(Slot<'_>) -> Duration) -> Duration {
        let step = &self.plan.steps[index];
        let role = step.targets[target].host().and_then(|host| self.hosts.get(host)).map(|(_, role)| *role);
        let place = Where::of(role);
        let checks = step.done_when.len();
        let slots = step.actions.iter().enumerate();
        slots.map(|(at, action)| takes(Slot { step: index, target, position: checks + at, action, place })).sum()
    }

    /// For each target, when its needs are done and which sequence was the last of them.
    fn ready(&self, step: &StepPlan) -> Vec<(Duration, Option<Place>)> {
        let mut common = (Duration::ZERO, None);
        let mut same_host = Vec::new();
        for need in &step.needs {
            match need {
                NeedPlan::All(before) => later(&mut common, self.end_of(*before)),
                NeedPlan::SameHost(before) => same_host.extend(before.iter().copied()),
            }
        }
        let mut ready = vec![common; step.targets.len()];
        if same_host.is_empty() {
            return ready;
        }
        let ranks = self.ranks(step);
        for before in same_host {
            if self.plan.steps[before].targets.is_empty() {
                ready.iter_mut().for_each(|moment| later(moment, self.end_of(before)));
            }
            let mut earlier = self.ranks(&self.plan.steps[before]).into_iter().enumerate().peekable();
            for (moment, rank) in ready.iter_mut().zip(&ranks) {
                while earlier.next_if(|(_, other)| other < rank).is_some() {}
                if let Some((position, _)) = earlier.next_if(|(_, other)| other == rank) {
                    later(moment, (self.steps[before].windows[position].end, Some((before, position))));
                }
            }
        }
        ready
    }

    /// Positions of a step's targets in the cluster file, rising; the operator's machine comes last.
    fn ranks(&self, step: &StepPlan) -> Vec<usize> {
        let rank = |target: &Target| target.host().and_then(|host| self.hosts.get(host)).map(|(rank, _)| *rank);
        step.targets.iter().map(|target| rank(target).unwrap_or(usize::MAX)).collect()
    }

    fn end_of(&self, step: usize) -> (Duration, Option<Place>) {
        (self.steps[step].end, self.steps[step].last)
    }

    fn all_needs(&self, step: &StepPlan) -> (Duration, Option<Place>) {
        let mut end = (Duration::ZERO, None);
        for before in step.needs.iter().flat_map(NeedPlan::steps) {
            later(&mut end, self.end_of(*before));
        }
        end
    }

    fn forecast(&self) -> Forecast {
        let phase = |step: usize| self.plan.steps[step].phase;
        let outage = |step: usize| self.plan.phases.get(phase(step)).is_some_and(|p| p.clock == PhaseClock::Outage);
        let latest = (0..self.steps.len()).max_by_key(|&step| self.steps[step].end);
        Forecast {
            total: latest.map_or(Duration::ZERO, |step| self.steps[step].end).into(),
            outage: self.extent(outage).into(),
            phases: self.extents(self.plan.phases.iter().map(|phase| phase.id.clone())),
            critical_path: self.critical_path(latest.and_then(|step| self.steps[step].last)),
            p90: None,
            basis: Basis::default(),
        }
    }

    fn extent(&self, wanted: impl Fn(usize) -> bool) -> Duration {
        let steps = self.steps.iter().enumerate().filter(|(step, _)| wanted(*step));
        let windows = steps.flat_map(|(_, timing)| &timing.windows);
        extent_of(windows.map(|window| (window.start, window.end)))
    }

    fn extents(&self, ids: impl Iterator<Item = PhaseId>) -> Vec<(PhaseId, Span)> {
        let mut windows: Vec<Vec<(Duration, Duration)>> = vec![Vec::new(); self.plan.phases.len()];
        for (step, timing) in self.plan.steps.iter().zip(&self.steps) {
            if let Some(phase) = windows.get_mut(step.phase) {
                phase.extend(timing.windows.iter().map(|window| (window.start, window.end)));
            }
        }
        ids.zip(windows).map(|(id, windows)| (id, extent_of(windows.into_iter()).into())).collect()
    }

    fn critical_path(&self, last: Option<Place>) -> Vec<Leg> {
        let mut legs = Vec::new();
        let mut at = last;
        while let Some((step, target)) = at {
            let (plan, window) = (&self.plan.steps[step], &self.steps[step].windows[target]);
            let takes = Span::from(window.end - window.start);
            legs.push(Leg { step: plan.id.clone(), target: plan.targets[target].clone(), takes });
            at = window.after;
        }
        legs.reverse();
        legs
    }
}

fn extent_of(windows: impl Iterator<Item = (Duration, Duration)>) -> Duration {
    let whole = windows.reduce(|whole, window| (whole.0.min(window.0), whole.1.max(window.1)));
    whole.map_or(Duration::ZERO, |(start, end)| end - start)
}

fn later(moment: &mut (Duration, Option<Place>), other: (Duration, Option<Place>)) {
    if other.0 > moment.0 || moment.1.is_none() {
        *moment = other;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::testing::{cluster, plan_of};
    use crate::testing::ToyCatalogue;

    fn forecast(steps: &str) -> Forecast {
        let plan = plan_of(&cluster(3, 3), steps, &[]);
        Forecast::of(&plan, &ToyCatalogue::default()).unwrap()
    }

    #[test]
    fn hosts_one_at_a_time_take_as_long_as_all_of_them_and_all_at_once_as_long_as_one() {
        let touch =
            |at_once| format!(r#"(id: "a", phase: "p", on: All, hosts_at_once: {at_once}, do: [Touch(mark: "x")])"#);
        let total = |at_once| forecast(&touch(at_once)).total;
        assert_eq!(
            (total("1"), total("4"), total("\"all\"")),
            (Span::from_secs(60), Span::from_secs(20), Span::from_secs(10))
        );
    }

    #[test]
    fn a_need_of_the_same_host_lets_hosts_overtake_one_another_and_all_does_not() {
        let after = |need| {
            format!(
                r#"(id: "a", phase: "p", on: All, do: [Touch(mark: "x")]),
                   (id: "b", phase: "p", on: All, needs: [{need}], do: [Touch(mark: "y"), Touch(mark: "z")])"#
            )
        };
        assert_eq!(forecast(&after(r#"SameHost(["a"])"#)).total, Span::from_secs(130));
        assert_eq!(forecast(&after(r#"All("a")"#)).total, Span::from_secs(180));
    }

    #[test]
    fn the_critical_path_adds_up_to_the_total_and_passes_over_steps_left_out() {
        let forecast = forecast(
            r#"(id: "a", phase: "p", on: Operator, do: [Touch(mark: "x")]),
               (id: "left-out", phase: "p", on: Operator, when: [Velero], needs: [All("a")], do: [Touch(mark: "x")]),
               (id: "b", phase: "p", on: Servers, needs: [All("left-out")], do: [Touch(mark: "x")]),
               (id: "short", phase: "p", on: Operator, do: [Look(mark: "x")])"#,
        );
        let path: Vec<String> =
            forecast.critical_path.iter().map(|leg| format!("{}@{}", leg.step, leg.target)).collect();
        assert_eq!(path, ["a@operator", "b@server-0", "b@server-1", "b@server-2"]);
        assert_eq!(forecast.total, Span::from_secs(40));
    }
}
