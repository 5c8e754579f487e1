//! Which way a run goes: forward, back after an abort, or out.

use super::State;
use crate::id::Target;
use crate::plan::{Always, NeedPlan};
use crate::record::Cause;

/// Which steps may start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Course {
    /// Those of the runbook's own goal; while a run is given up none of them, and what is under way ends.
    Forward,
    /// Those that take back what was begun.
    Back,
    /// Those on close.
    Closing,
}

impl State {
    /// Which way the run goes now.
    pub(crate) fn course(&self) -> Course {
        let index = &self.index;
        let in_flight = index.attempting.len() + index.interrupted.len() - index.always_attempts;
        match self.run.aborting {
            _ if index.open_steps == 0 => Course::Closing,
            None => Course::Forward,
            Some(_) if in_flight > 0 => Course::Forward,
            Some(_) if self.run.past_the_point.is_none() && index.open_back_steps > 0 => Course::Back,
            Some(_) => Course::Closing,
        }
    }

    /// On which way a step lies.
    pub(crate) fn course_of(&self, step: usize) -> Course {
        match self.plan.steps[step].always {
            None => Course::Forward,
            Some(Always::OnAbort) => Course::Back,
            Some(Always::OnClose) => Course::Closing,
        }
    }

    /// Why an abort would leave the cluster worse than going on: a run that knows its way back has passed the point up
    /// to which there is one.
    pub fn cannot_abort(&self) -> Option<String> {
        let step = self.run.past_the_point.as_ref().filter(|_| self.plan.can_go_back() && self.index.open_steps > 0)?;
        Some(format!("`{step}` has begun, and what it does cannot be undone: this run can only go forward"))
    }

    /// Whether an abort now would change hosts to take back what was begun.
    pub fn has_something_to_take_back(&self) -> bool {
        let takes_back = |lane: &usize| self.step_plan(*lane).takes_back() && !self.is_void(*lane);
        self.run.past_the_point.is_none() && (0..self.lanes.len()).any(|lane| takes_back(&lane))
    }

    /// Whether the run has put back what it had changed: the servers and everything else on its way back is done, and
    /// something of it was not void.
    pub fn went_back(&self) -> bool {
        let way_back = |phase: &usize| self.plan.is_way_back(*phase) && self.phases[*phase].entered;
        self.index.open_back_steps == 0 && (0..self.phases.len()).any(|phase| way_back(&phase))
    }

    /// Whether a lane on the way back has nothing to take back: something that it needs was never begun there.
    pub(crate) fn is_void(&self, lane: usize) -> bool {
        let (step, target) = (self.step_plan(lane), self.target(lane));
        step.takes_back() && step.needs.iter().any(|need| !self.has_begun(need, target))
    }

    /// Why a void lane is skipped.
    pub(crate) fn void(&self, lane: usize) -> (String, Cause) {
        let (step, target) = (self.step_plan(lane), self.target(lane));
        let missing = step.needs.iter().find(|need| !self.has_begun(need, target)).map(NeedPlan::steps);
        let names = missing.unwrap_or_default().iter().map(|&step| format!("`{}`", self.plan.steps[step].id));
        (format!("{} was never begun there", names.collect::<Vec<_>>().join(" or ")), Cause::Engine)
    }

    fn has_begun(&self, need: &NeedPlan, target: &Target) -> bool {
        let on_the_way_back = |step: &usize| self.plan.steps[*step].takes_back();
        let anywhere = |step: &usize| self.steps[*step].begun > 0;
        match need {
            NeedPlan::All(step) => on_the_way_back(step) || anywhere(step),
            NeedPlan::SameHost(steps) => {
                let lanes: Vec<usize> = steps.iter().filter_map(|&step| self.lane_at(step, target)).collect();
                steps.iter().any(on_the_way_back)
                    || lanes.iter().any(|&lane| self.lanes[lane].begun)
                    || (lanes.is_empty() && steps.iter().any(anywhere))
            }
        }
    }

    fn lane_at(&self, step: usize, target: &Target) -> Option<usize> {
        let position = self.plan.steps[step].targets.iter().position(|other| other == target)?;
        self.graph.lanes_of(step).nth(position)
    }
}
