//! The dry run: looks at the world for every action of a plan, and changes nothing.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use futures::StreamExt;
use rke2flow_engine::action::{ActionInfo, Catalogue, Context, FailureClass, PlannedAction, Probe, Progress};
use rke2flow_engine::clock::Clock;
use rke2flow_engine::id::{InstanceId, RunId, Target, UnitName};
use rke2flow_engine::plan::{Index, NeedPlan, Plan, Scope, StepPlan};
use rke2flow_engine::value::{self, Facts, Reference};
use serde::{Deserialize, Serialize};

use crate::fingerprint;

/// How many looks are under way at once.
const LOOKS_AT_ONCE: usize = 16;

/// How long one look may take.
const LOOK_LIMIT: Duration = Duration::from_secs(60);

/// What a run would do about an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Nothing: the goal holds.
    Done,
    /// It would act.
    WouldRun,
    /// It would wait: the action changes nothing itself.
    WouldWait,
    /// It would ask a person.
    WouldAsk,
    /// It would refuse.
    WouldRefuse,
    /// It is known only when an earlier step is done.
    KnownAfter,
    /// It could not be looked at.
    CannotTell,
}

impl Verdict {
    /// In words.
    pub fn words(self) -> &'static str {
        match self {
            Verdict::Done => "done",
            Verdict::WouldRun => "would run",
            Verdict::WouldWait => "would wait",
            Verdict::WouldAsk => "would ask",
            Verdict::WouldRefuse => "would refuse",
            Verdict::KnownAfter => "known after",
            Verdict::CannotTell => "cannot tell",
        }
    }
}

/// What was found for one instance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// The instance.
    pub instance: InstanceId,
    /// Its step, by position in the plan.
    pub step: usize,
    /// Its target.
    pub target: Target,
    /// The action.
    pub action: String,
    /// What a run would do.
    pub verdict: Verdict,
    /// Why; for [`Verdict::KnownAfter`], the step.
    pub why: String,
    /// What the goal's facts say of which thing was found: versions and digests.
    #[serde(default, skip_serializing_if = "Facts::is_empty")]
    pub fingerprint: Facts,
}

/// What one look saw.
struct Look {
    verdict: Verdict,
    why: String,
    fingerprint: Facts,
}

impl Look {
    fn of(verdict: Verdict, why: impl Into<String>) -> Self {
        Self { verdict, why: why.into(), fingerprint: Facts::new() }
    }
}

/// Looks at everything. Findings are in the order of the plan.
pub async fn probe(plan: &Plan, catalogue: &dyn Catalogue) -> Vec<Finding> {
    let mut findings = probe_steps(plan, catalogue, &|_| true).await;
    mark_what_earlier_steps_undo(plan, &mut findings);
    findings
}

/// Looks at the steps that are wanted, as the world is now.
pub async fn probe_steps(
    plan: &Plan,
    catalogue: &dyn Catalogue,
    wanted: &(dyn Fn(&StepPlan) -> bool + Sync),
) -> Vec<Finding> {
    let index = Index::of(plan);
    let looker = Looker { plan, index: &index, catalogue, run: RunId::new("plan").expect("it is a name") };
    let waves = waves(plan, &index);
    let mut facts: HashMap<(usize, usize), Facts> = HashMap::new();
    let mut findings = Vec::new();
    for wave in 0..=waves.iter().copied().max().unwrap_or(0) {
        // What only an abort would do is no part of what a run would do.
        let due = |step: &usize| waves[*step] == wave && !plan.steps[*step].takes_back() && wanted(&plan.steps[*step]);
        let steps = (0..plan.steps.len()).filter(due);
        let lanes: Vec<(usize, usize)> =
            steps.flat_map(|step| (0..plan.steps[step].targets.len()).map(move |target| (step, target))).collect();
        let known = &facts;
        let looks = lanes.into_iter().map(|(step, target)| looker.lane(step, target, known));
        let seen: Vec<LaneSeen> = futures::stream::iter(looks).buffer_unordered(LOOKS_AT_ONCE).collect().await;
        for lane in seen {
            facts.insert((lane.step, lane.target), lane.facts);
            findings.extend(lane.findings.into_iter().map(|finding| ((lane.step, lane.target), finding)));
        }
    }
    // The sort is stable: the actions of one sequence stay in their order.
    findings.sort_by_key(|(lane, _)| *lane);
    findings.into_iter().map(|(_, finding)| finding).collect()
}

struct Looker<'a> {
    plan: &'a Plan,
    index: &'a Index,
    catalogue: &'a dyn Catalogue,
    run: RunId,
}

struct LaneSeen {
    step: usize,
    target: usize,
    facts: Facts,
    findings: Vec<Finding>,
}

impl Looker<'_> {
    async fn lane(&self, step: usize, target: usize, known: &HashMap<(usize, usize), Facts>) -> LaneSeen {
        let plan = &self.plan.steps[step];
        let mut lane = LaneSeen { step, target, facts: Facts::new(), findings: Vec::new() };
        let mut unmet = plan.done_when.is_empty();
        for check in &plan.done_when {
            let look = self.look(step, target, check, 1, known, &mut lane.facts).await;
            unmet |= look.verdict != Verdict::Done;
        }
        let mut used: HashMap<&str, usize> = HashMap::new();
        for action in &plan.actions {
            let occurrence = used.entry(action.name.as_str()).and_modify(|count| *count += 1).or_insert(1);
            let Look { verdict, why, fingerprint } = if unmet {
                self.look(step, target, action, *occurrence, known, &mut lane.facts).await
            } else {
                let checks: Vec<&str> = plan.done_when.iter().map(|check| check.name.as_str()).collect();
                Look::of(Verdict::Done, format!("{} holds", checks.join(", ")))
            };
            lane.findings.push(Finding {
                instance: InstanceId::new(&plan.id, &action.name, *occurrence, &plan.targets[target]),
                step,
                target: plan.targets[target].clone(),
                action: action.name.clone(),
                verdict,
                why,
                fingerprint,
            });
        }
        lane
    }

    async fn look(
        &self,
        step: usize,
        target: usize,
        action: &PlannedAction,
        occurrence: usize,
        known: &HashMap<(usize, usize), Facts>,
        own: &mut Facts,
    ) -> Look {
        let Some(info) = self.catalogue.info(&action.name) else {
            return Look::of(Verdict::CannotTell, format!("there is no action {}", action.name));
        };
        let fields = {
            let facts = |of_step: usize, of_target: usize| known.get(&(of_step, of_target));
            let scope = Scope { plan: self.plan, index: self.index, run: &self.run, facts: &facts };
            match scope.render(step, target, action) {
                Ok(fields) => fields,
                Err(why) => return self.unrendered(&scope, step, target, action, why),
            }
        };
        if info.gate {
            let show = fields.get("show").and_then(|show| show.as_str()).unwrap_or_default();
            return Look::of(Verdict::WouldAsk, show);
        }
        let here = &self.plan.steps[step].targets[target];
        let bound = match self.catalogue.bind(&action.name, &fields, here) {
            Ok(bound) => bound,
            Err(why) => return Look::of(Verdict::CannotTell, why),
        };
        let context = self.context(step, target, action, occurrence);
        match Clock::real().timeout(LOOK_LIMIT, bound.probe(&context)).await {
            None => Look::of(Verdict::CannotTell, format!("no answer within {} s", LOOK_LIMIT.as_secs())),
            Some(Err(failure)) if failure.class == FailureClass::Refused => {
                Look::of(Verdict::WouldRefuse, failure.to_string())
            }
            Some(Err(failure)) => Look::of(Verdict::CannotTell, failure.to_string()),
            Some(Ok(probe)) => seen(probe, info, own),
        }
    }

    fn unrendered(&self, scope: &Scope<'_>, step: usize, target: usize, action: &PlannedAction, why: String) -> Look {
        let unknown = value::references(&action.fields).into_iter().find_map(|reference| match &reference {
            Reference::Fact { step: source, .. } if scope.resolve(step, target, &reference).is_err() => {
                Some(source.clone())
            }
            _ => None,
        });
        match unknown {
            Some(source) => Look::of(Verdict::KnownAfter, source),
            None => Look::of(Verdict::CannotTell, why),
        }
    }

    fn context(&self, step: usize, target: usize, action: &PlannedAction, occurrence: usize) -> Context {
        let plan = &self.plan.steps[step];
        let instance = InstanceId::new(&plan.id, &action.name, occurrence, &plan.targets[target]);
        let clock = Clock::real();
        Context {
            run: self.run.clone(),
            cluster: self.plan.cluster.clone(),
            step: plan.id.clone(),
            unit: UnitName::new(&self.run, &instance, 1),
            instance,
            target: plan.targets[target].clone(),
            attempt: 1,
            claim: None,
            round: self.plan.round_of(step).map(|round| round.number),
            waived: Vec::new(),
            opened_at: clock.now(),
            deadline: clock.deadline(LOOK_LIMIT),
            clock,
            progress: Progress::silent(),
        }
    }
}

fn seen(probe: Probe, info: &ActionInfo, own: &mut Facts) -> Look {
    match probe {
        Probe::Satisfied(facts) => {
            let fingerprint = fingerprint::of_facts(info, &facts);
            own.extend(facts);
            Look { fingerprint, ..Look::of(Verdict::Done, "") }
        }
        Probe::Pending(why) if info.changes => Look::of(Verdict::WouldRun, why),
        Probe::Pending(why) | Probe::InProgress(why) => Look::of(Verdict::WouldWait, why),
        Probe::Refused { expected, found } => {
            Look::of(Verdict::WouldRefuse, format!("expected {expected}, found {found}"))
        }
    }
}

/// The wave in which each step is looked at: after the steps whose facts it uses.
fn waves(plan: &Plan, index: &Index) -> Vec<usize> {
    let sources: Vec<Vec<usize>> = plan
        .steps
        .iter()
        .map(|step| {
            let fields =
                step.done_when.iter().chain(&step.actions).flat_map(|action| value::references(&action.fields));
            fields
                .filter_map(|reference| match reference {
                    Reference::Fact { step, .. } => index.step(&step),
                    _ => None,
                })
                .collect()
        })
        .collect();
    let mut waves = vec![0; plan.steps.len()];
    // Each round settles at least one more step of a chain; planning refused cycles.
    for _ in 0..plan.steps.len() {
        let mut changed = false;
        for (step, sources) in sources.iter().enumerate() {
            let after = sources.iter().filter(|&&source| source != step).map(|&source| waves[source] + 1).max();
            if let Some(wave) = after.filter(|&wave| wave > waves[step]) {
                waves[step] = wave;
                changed = true;
            }
        }
        if !changed {
            break;
        }
    }
    waves
}

/// A goal that holds now is not "done" when a step before it, on the same host, would change that host: it is known
/// only after that step. For the operator's own steps every earlier step counts.
fn mark_what_earlier_steps_undo(plan: &Plan, findings: &mut [Finding]) {
    let acts: BTreeSet<(usize, Target)> = findings
        .iter()
        .filter(|finding| matches!(finding.verdict, Verdict::WouldRun | Verdict::KnownAfter))
        .map(|finding| (finding.step, finding.target.clone()))
        .collect();
    if acts.is_empty() {
        return;
    }
    let before: Vec<BTreeSet<usize>> = (0..plan.steps.len()).map(|step| earlier(plan, step)).collect();
    let mut acted_in_lane: BTreeSet<(usize, Target)> = BTreeSet::new();
    for finding in findings.iter_mut() {
        let lane = (finding.step, finding.target.clone());
        if finding.verdict == Verdict::WouldRun {
            acted_in_lane.insert(lane);
            continue;
        }
        if let Some(step) = undone_round_before(plan, finding, &before, &acts) {
            finding.verdict = Verdict::KnownAfter;
            finding.why = plan.steps[step].id.to_string();
        }
        if finding.verdict != Verdict::Done || lane_is_skipped(finding) {
            continue;
        }
        let same = |other: &(usize, Target)| {
            before[finding.step].contains(&other.0) && (finding.target == Target::Operator || other.1 == finding.target)
        };
        let by = if acted_in_lane.contains(&lane) {
            Some(finding.step)
        } else {
            acts.iter().filter(|other| same(other)).map(|other| other.0).next_back()
        };
        if let Some(step) = by {
            finding.verdict = Verdict::KnownAfter;
            finding.why = plan.steps[step].id.to_string();
        }
    }
}

/// The last step that would act in a round before: what refuses or cannot be told now is asked of the world that the
/// round before leaves, such as whether the next release is one minor further.
fn undone_round_before(
    plan: &Plan,
    finding: &Finding,
    before: &[BTreeSet<usize>],
    acts: &BTreeSet<(usize, Target)>,
) -> Option<usize> {
    let own = plan.round_of(finding.step)?.number;
    if !matches!(finding.verdict, Verdict::WouldRefuse | Verdict::CannotTell | Verdict::WouldWait) {
        return None;
    }
    let earlier = |step: &usize| plan.round_of(*step).is_some_and(|round| round.number < own);
    acts.iter().map(|(step, _)| *step).filter(|step| before[finding.step].contains(step)).rfind(earlier)
}

/// Done because the sequence's own `done_when` holds, not because this action's goal does.
fn lane_is_skipped(finding: &Finding) -> bool {
    !finding.why.is_empty()
}

fn earlier(plan: &Plan, step: usize) -> BTreeSet<usize> {
    let mut seen = BTreeSet::new();
    let mut open = vec![step];
    while let Some(current) = open.pop() {
        for need in &plan.steps[current].needs {
            let needed: &[usize] = match need {
                NeedPlan::All(one) => std::slice::from_ref(one),
                NeedPlan::SameHost(several) => several,
            };
            open.extend(needed.iter().copied().filter(|&other| seen.insert(other)));
        }
    }
    seen
}
