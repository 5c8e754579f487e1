//! Keeps the index of a state right: every change of a lane's standing goes through here.

use super::{Consent, Course, Lane, Standing, State};

impl State {
    /// The index of a state in which nothing has happened.
    pub(super) fn build_index(&mut self) {
        for lane in 0..self.lanes.len() {
            let step = self.graph.lanes()[lane].step;
            self.phases[self.plan.steps[step].phase].lanes += 1;
            if self.lanes[lane].waits == 0 {
                self.steps[step].ready.insert(lane);
            }
        }
        for step in 0..self.steps.len() {
            *self.open_steps_of(step) += 1;
        }
        for step in 0..self.steps.len() {
            self.complete_if_done(step);
            self.refresh_step(step);
        }
    }

    /// Changes what is the case at a lane's position.
    pub(super) fn stand(&mut self, lane: usize, standing: Standing) {
        self.leave_index(lane);
        self.lanes[lane].standing = standing;
        self.enter_index(lane);
        self.refresh_step(self.graph.lanes()[lane].step);
    }

    /// Goes on to the next position, past the end to `Done`.
    pub(super) fn advance(&mut self, lane: usize) {
        self.leave_index(lane);
        let length = self.step_plan(lane).sequence_len();
        let step = self.graph.lanes()[lane].step;
        self.mark_begun(lane);
        self.run.retries.remove(&lane);
        let state = &mut self.lanes[lane];
        state.position += 1;
        (state.attempt, state.earlier_attempts) = (0, 0);
        let position = state.position;
        if state.skip.as_ref().is_some_and(|skip| position >= skip.until) {
            state.skip = None;
        }
        state.standing = if position < length { Standing::Waiting } else { Standing::Done };
        self.enter_index(lane);
        if position == length {
            self.finish_lane(lane);
        }
        self.refresh_step(step);
    }

    /// From its first action on a lane counts against `hosts_at_once`.
    pub(super) fn mark_begun(&mut self, lane: usize) {
        if !self.lanes[lane].begun {
            let step = self.graph.lanes()[lane].step;
            self.lanes[lane].begun = true;
            self.steps[step].begun += 1;
            self.steps[step].ready.remove(&lane);
        }
    }

    /// Marks positions to be skipped, from the current one.
    pub(super) fn skip_until(&mut self, lane: usize, skip: super::Skip) {
        self.leave_index(lane);
        self.lanes[lane].skip = Some(skip);
        self.enter_index(lane);
        self.refresh_step(self.graph.lanes()[lane].step);
    }

    fn finish_lane(&mut self, lane: usize) {
        let step = self.graph.lanes()[lane].step;
        self.steps[step].done += 1;
        let phase = self.plan.steps[step].phase;
        self.phases[phase].done += 1;
        self.refresh_phase(phase);
        let graph = self.graph.clone();
        for &freed in graph.lane_frees(lane) {
            self.free_lane(freed);
        }
        self.complete_if_done(step);
    }

    fn free_lane(&mut self, lane: usize) {
        self.lanes[lane].waits -= 1;
        let Lane { waits, begun, .. } = self.lanes[lane];
        if waits == 0 && !begun {
            let step = self.graph.lanes()[lane].step;
            self.steps[step].ready.insert(lane);
            self.refresh_step(step);
        }
    }

    /// Completes a step and what becomes complete by it: steps without targets. A list instead of recursion, because
    /// chains may be long.
    fn complete_if_done(&mut self, step: usize) {
        let graph = self.graph.clone();
        let mut waiting = vec![step];
        while let Some(step) = waiting.pop() {
            let state = &mut self.steps[step];
            let empty = graph.lanes_of(step).is_empty();
            if state.complete || state.done < graph.lanes_of(step).len() || (empty && state.waits > 0) {
                continue;
            }
            state.complete = true;
            *self.open_steps_of(step) -= 1;
            let (steps, lanes) = graph.step_frees(step);
            for &freed in steps {
                self.steps[freed].waits -= 1;
                self.refresh_step(freed);
                waiting.push(freed);
            }
            for &freed in lanes {
                self.free_lane(freed);
            }
        }
    }

    fn open_steps_of(&mut self, step: usize) -> &mut usize {
        match self.course_of(step) {
            Course::Forward => &mut self.index.open_steps,
            Course::Back => &mut self.index.open_back_steps,
            Course::Closing => &mut self.index.open_closing_steps,
        }
    }

    pub(super) fn refresh_phase(&mut self, phase: usize) {
        let state = &self.phases[phase];
        if state.entered && !state.left && state.done == state.lanes {
            self.index.finished_phases.insert(phase);
        } else {
            self.index.finished_phases.remove(&phase);
        }
    }

    /// Whether a lane of the step could begin, apart from what holds for the run as a whole.
    pub(super) fn refresh_step(&mut self, step: usize) {
        let state = &self.steps[step];
        let free = state.begun - state.done < self.plan.steps[step].hosts_at_once.max(1);
        let asked = matches!(state.consent, Consent::Asked { .. });
        if state.waits == 0 && !state.ready.is_empty() && free && state.failed == 0 && !asked {
            self.index.startable.insert(step);
        } else {
            self.index.startable.remove(&step);
        }
    }

    fn leave_index(&mut self, lane: usize) {
        let step = self.graph.lanes()[lane].step;
        self.index.skipping.remove(&lane);
        match &self.lanes[lane].standing {
            Standing::Waiting => {
                self.index.continuing.remove(&lane);
            }
            Standing::Attempting(_) => {
                self.index.attempting.remove(&lane);
                self.index.always_attempts -= usize::from(self.plan.steps[step].always.is_some());
            }
            Standing::Interrupted(_) => {
                self.index.interrupted.remove(&lane);
                self.index.always_attempts -= usize::from(self.plan.steps[step].always.is_some());
            }
            Standing::Tripped(_) => {
                self.index.tripped.remove(&lane);
            }
            Standing::Scheduled(at) => {
                self.index.scheduled.remove(&(*at, lane));
            }
            Standing::Failed(_) => {
                self.index.failed.remove(&lane);
                self.steps[step].failed -= 1;
            }
            Standing::AtGate(_) => {
                self.index.gates.remove(&lane);
                self.index.open_gate_texts.remove(&lane);
            }
            Standing::Done => {}
        }
    }

    fn enter_index(&mut self, lane: usize) {
        let step = self.graph.lanes()[lane].step;
        let Lane { standing, skip, begun, .. } = &self.lanes[lane];
        let at_rest = !matches!(standing, Standing::Attempting(_) | Standing::Interrupted(_) | Standing::Done);
        if skip.is_some() && at_rest {
            self.index.skipping.insert(lane);
        }
        match standing {
            Standing::Waiting if *begun => {
                self.index.continuing.insert(lane);
            }
            Standing::Waiting | Standing::Done => {}
            Standing::Attempting(_) => {
                self.index.attempting.insert(lane);
                self.index.always_attempts += usize::from(self.plan.steps[step].always.is_some());
            }
            Standing::Interrupted(_) => {
                self.index.interrupted.insert(lane);
                self.index.always_attempts += usize::from(self.plan.steps[step].always.is_some());
            }
            Standing::Tripped(_) => {
                self.index.tripped.insert(lane);
            }
            Standing::Scheduled(at) => {
                self.index.scheduled.insert((*at, lane));
            }
            Standing::Failed(_) => {
                self.index.failed.insert(lane);
                self.steps[step].failed += 1;
            }
            Standing::AtGate(_) => {
                self.index.gates.insert(lane);
            }
        }
    }
}
