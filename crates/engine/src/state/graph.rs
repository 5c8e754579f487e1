//! The plan's edges, turned round and numbered: what becomes free when something is done. Never changes during a run.

use std::collections::HashMap;
use std::ops::Range;

use crate::id::{InstanceId, StepId, Target};
use crate::plan::{NeedPlan, Plan};

/// One target of one step: a sequence of actions that run one after the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LanePlan {
    /// Index into [`Plan::steps`].
    pub step: usize,
    /// Index into the step's targets.
    pub target: usize,
    first_instance: usize,
}

/// The static part of a run's state.
#[derive(Debug)]
pub struct Graph {
    lanes: Vec<LanePlan>,
    steps: Vec<StepNode>,
    instances: Vec<InstanceId>,
    by_id: HashMap<InstanceId, usize>,
    by_step: HashMap<StepId, usize>,
    lane_of_instance: Vec<usize>,
    lane_frees_lanes: Vec<Vec<usize>>,
    lane_waits: Vec<usize>,
}

#[derive(Debug, Default)]
struct StepNode {
    lanes: Range<usize>,
    waits: usize,
    frees_steps: Vec<usize>,
    frees_lanes: Vec<usize>,
}

impl Graph {
    /// Numbers the lanes of a plan and turns its edges round.
    pub fn new(plan: &Plan) -> Self {
        let mut graph = Self::number(plan);
        let places = places(plan);
        for (index, step) in plan.steps.iter().enumerate() {
            for need in &step.needs {
                match need {
                    NeedPlan::All(before) => graph.step_after_step(plan, *before, index),
                    NeedPlan::SameHost(before) if graph.steps[index].lanes.is_empty() => {
                        before.iter().for_each(|before| graph.step_after_step(plan, *before, index));
                    }
                    NeedPlan::SameHost(before) => graph.lanes_after(plan, &places, before, index),
                }
            }
        }
        graph
    }

    fn number(plan: &Plan) -> Self {
        let mut lanes = Vec::new();
        let mut steps = Vec::new();
        let mut first_instance = 0;
        let mut lane_of_instance = Vec::new();
        for (index, step) in plan.steps.iter().enumerate() {
            let first_lane = lanes.len();
            let targets = if step.sequence_len() == 0 { 0 } else { step.targets.len() };
            for target in 0..targets {
                lane_of_instance.extend(std::iter::repeat_n(lanes.len(), step.sequence_len()));
                lanes.push(LanePlan { step: index, target, first_instance });
                first_instance += step.sequence_len();
            }
            steps.push(StepNode { lanes: first_lane..lanes.len(), ..StepNode::default() });
        }
        let instances: Vec<InstanceId> = plan.instances().into_iter().map(|instance| instance.id).collect();
        let by_id = instances.iter().cloned().enumerate().map(|(index, id)| (id, index)).collect();
        let by_step = plan.steps.iter().enumerate().map(|(index, step)| (step.id.clone(), index)).collect();
        let (lane_frees_lanes, lane_waits) = (vec![Vec::new(); lanes.len()], vec![0; lanes.len()]);
        Self { lanes, steps, instances, by_id, by_step, lane_of_instance, lane_frees_lanes, lane_waits }
    }

    fn step_after_step(&mut self, plan: &Plan, before: usize, after: usize) {
        if binds(plan, before, after) {
            self.steps[before].frees_steps.push(after);
            self.steps[after].waits += 1;
        }
    }

    /// Edges of `SameHost`. A target that is in none of the steps waits for all of them whole: a step that was left
    /// out is done when what it needed is done, so that leaving it out never lets anything start earlier.
    fn lanes_after(&mut self, plan: &Plan, places: &[HashMap<&Target, usize>], before: &[usize], after: usize) {
        for lane in self.steps[after].lanes.clone() {
            let target = &plan.steps[after].targets[self.lanes[lane].target];
            let mut found = false;
            for &step in before {
                if let Some(&position) = places[step].get(target) {
                    found = true;
                    if binds(plan, step, after) {
                        let first = self.steps[step].lanes.start + position;
                        self.lane_frees_lanes[first].push(lane);
                        self.lane_waits[lane] += 1;
                    }
                }
            }
            if !found {
                for &step in before.iter().filter(|&&step| binds(plan, step, after)) {
                    self.steps[step].frees_lanes.push(lane);
                    self.lane_waits[lane] += 1;
                }
            }
        }
    }

    /// Every lane, step by step, in the order of the step's targets.
    pub fn lanes(&self) -> &[LanePlan] {
        &self.lanes
    }

    /// The lanes of a step.
    pub fn lanes_of(&self, step: usize) -> Range<usize> {
        self.steps[step].lanes.clone()
    }

    /// The name of the action at a position of a lane.
    pub fn instance(&self, lane: usize, position: usize) -> &InstanceId {
        &self.instances[self.lanes[lane].first_instance + position]
    }

    /// Lane and position of an instance.
    pub fn find(&self, id: &InstanceId) -> Option<(usize, usize)> {
        let index = *self.by_id.get(id)?;
        let lane = self.lane_of_instance[index];
        Some((lane, index - self.lanes[lane].first_instance))
    }

    /// The number of a step.
    pub fn step(&self, id: &StepId) -> Option<usize> {
        self.by_step.get(id).copied()
    }

    pub(super) fn step_waits(&self, step: usize) -> usize {
        self.steps[step].waits
    }

    pub(super) fn lane_waits(&self, lane: usize) -> usize {
        self.lane_waits[lane]
    }

    pub(super) fn step_frees(&self, step: usize) -> (&[usize], &[usize]) {
        (&self.steps[step].frees_steps, &self.steps[step].frees_lanes)
    }

    pub(super) fn lane_frees(&self, lane: usize) -> &[usize] {
        &self.lane_frees_lanes[lane]
    }
}

/// Whether an edge counts. Steps that run on close or on abort run whatever became of the others; among themselves they
/// keep their order.
fn binds(plan: &Plan, before: usize, after: usize) -> bool {
    let after = plan.steps[after].always;
    after.is_none() || after == plan.steps[before].always
}

fn places(plan: &Plan) -> Vec<HashMap<&Target, usize>> {
    let place = |(at, target)| (target, at);
    plan.steps
        .iter()
        .map(|step| match step.sequence_len() {
            0 => HashMap::new(),
            _ => step.targets.iter().enumerate().map(place).collect(),
        })
        .collect()
}
