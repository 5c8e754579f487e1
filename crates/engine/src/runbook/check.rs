//! What can be wrong with a runbook's structure without knowing a cluster: names, edges, limits, promises.

use std::collections::HashMap;

use super::{
    ACTIONS_PER_STEP_MAX, ATTEMPTS_MAX, Always, BACKOFF_MAX, Condition, FORMAT, HostsAtOnce, Need, PHASES_MAX,
    ParamSpec, ParamType, PhaseClock, Placed, Problems, Runbook, Selector, Step, TIMEOUT_MAX,
};
use super::{budgets, repeat, way_back};
use crate::action::{ActionInfo, ActionSpec, Catalogue, Place};
use crate::diagnostic::{Diagnostic, in_order};
use crate::duration::Span;
use crate::id::StepId;
use crate::plan::{Cycle, StepGraph};
use crate::source::Marked;

/// Names of a runbook by what they stand for.
pub(super) struct Names<'a> {
    pub steps: HashMap<&'a str, usize>,
    pub phases: HashMap<&'a str, usize>,
}

/// Checks the structure; the graph is `None` when there are unknown needs or a cycle.
pub(super) fn structure<A: ActionSpec>(
    runbook: &Runbook<A>,
    catalogue: &dyn Catalogue,
    problems: &mut Problems,
) -> Option<StepGraph> {
    check_head(runbook, problems);
    for (name, param) in &runbook.params {
        check_param(name, param, problems);
    }
    let names = Names::of(runbook, problems);
    check_phases(runbook, problems);
    for step in &runbook.steps {
        check_step(step, runbook, &names, problems);
        check_actions(step, catalogue, problems);
        check_promises(step, catalogue, problems);
        check_members(step, runbook, &names, catalogue, problems);
    }
    repeat::check(runbook, &names, problems);
    let edges = edges(runbook, &names, problems)?;
    way_back::check(runbook, &names, problems);
    check_phase_order(runbook, &names, &edges, problems);
    budgets::check(runbook, &names, &edges, problems);
    match StepGraph::new(runbook.steps.len(), edges) {
        Ok(graph) => Some(graph),
        Err(cycle) => {
            report_cycle(runbook, &cycle, problems);
            None
        }
    }
}

impl<'a> Names<'a> {
    fn of<A>(runbook: &'a Runbook<A>, problems: &mut Problems) -> Self {
        let steps = unique("step", runbook.steps.iter().map(|step| (step.id.mark, step.id.as_str())), problems);
        let phases = unique("phase", runbook.phases.iter().map(|phase| (phase.id.mark, phase.id.as_str())), problems);
        Self { steps, phases }
    }
}

fn unique<'a>(
    kind: &str,
    names: impl Iterator<Item = (crate::source::Mark, &'a str)>,
    problems: &mut Problems,
) -> HashMap<&'a str, usize> {
    let mut first = HashMap::new();
    for (index, (mark, name)) in names.enumerate() {
        if first.contains_key(name) {
            problems.add(mark, Diagnostic::error(format!("there are two {kind}s named `{name}`")));
        } else {
            first.insert(name, index);
        }
    }
    first
}

fn check_head<A>(runbook: &Runbook<A>, problems: &mut Problems) {
    if *runbook.format != FORMAT {
        let message = format!("format {} is not known to this version", runbook.format);
        problems.add(runbook.format.mark, Diagnostic::error(message).help(format!("expected `format: {FORMAT}`")));
    }
    if StepId::new(runbook.name.as_str()).is_err() {
        let message = format!("`{}` is not a name for a runbook", runbook.name);
        problems.add(runbook.name.mark, Diagnostic::error(message).help("write 1 to 63 of a-z, 0-9 and `-`"));
    }
    if runbook.steps.is_empty() {
        problems.add_whole(Diagnostic::error("the runbook has no steps"));
    }
}

fn check_param(name: &str, param: &Marked<ParamSpec>, problems: &mut Problems) {
    if StepId::new(name.replace('_', "-")).is_err() {
        let message = format!("`{name}` is not a name for a parameter");
        problems.add(param.mark, Diagnostic::error(message).help("write 1 to 63 of a-z, 0-9, `-` and `_`"));
    }
    let (texts, versions) = match &param.value {
        ParamSpec::Text(text) | ParamSpec::RecoveryPoint(text) => (std::slice::from_ref(text), false),
        ParamSpec::Version(text) => (std::slice::from_ref(text), true),
        ParamSpec::Versions(texts) => (texts.as_slice(), true),
        _ => return,
    };
    let known: Vec<&String> = texts.iter().filter(|text| !text.contains("${")).collect();
    if versions {
        let wrong = known.iter().filter_map(|text| crate::cluster::check_version(text).err());
        wrong.for_each(|why| problems.add(param.mark, Diagnostic::error(why)));
    }
    if texts.iter().any(|text| text.contains("${") && crate::plan::cluster_field(text).is_none()) {
        let message = format!("the default of `{name}` has a `${{…}}` that is not known before a run");
        let help = "only ${cluster.version}, ${cluster.name} or ${cluster.init} alone can stand there";
        problems.add(param.mark, Diagnostic::error(message).help(help));
    }
}

fn check_phases<A>(runbook: &Runbook<A>, problems: &mut Problems) {
    if runbook.phases.len() > PHASES_MAX {
        let message = format!("{} phases are more than the {PHASES_MAX} that a runbook may have", runbook.phases.len());
        problems.add_whole(Diagnostic::error(message));
    }
    let rank = |clock| match clock {
        PhaseClock::Before => 0,
        PhaseClock::Outage => 1,
        PhaseClock::After => 2,
    };
    for pair in runbook.phases.windows(2) {
        if rank(pair[0].clock) > rank(pair[1].clock) {
            let message = format!(
                "phase `{}` is {:?}, but stands after `{}`, which is {:?}",
                pair[1].id, pair[1].clock, pair[0].id, pair[0].clock
            );
            problems.add(pair[1].id.mark, Diagnostic::error(message).help("phases go Before, Outage, After"));
        }
    }
}

fn check_step<A>(step: &Step<A>, runbook: &Runbook<A>, names: &Names<'_>, problems: &mut Problems) {
    if !names.phases.contains_key(step.phase.as_str()) {
        let message = format!("there is no phase `{}`", step.phase);
        let known = runbook.phases.iter().map(|phase| phase.id.as_str());
        problems.add(step.phase.mark, Diagnostic::error(message).meant(&step.phase, known));
    }
    if let Selector::ServersOf(param) | Selector::AgentsOf(param) = &step.on.value {
        check_listed(param, step, runbook, problems);
    }
    if let HostsAtOnce::Param(param) = &step.hosts_at_once.value {
        check_width(param, step, runbook, problems);
    }
    for condition in &step.when {
        check_condition(condition, runbook, problems);
    }
    if let Some(retry) = &step.retry {
        if !(1..=ATTEMPTS_MAX).contains(&retry.attempts) {
            let message = format!("{} attempts: from 1 to {ATTEMPTS_MAX} are possible", retry.attempts);
            problems.add(retry.mark, Diagnostic::error(message));
        }
        if retry.backoff > BACKOFF_MAX {
            let message = format!("a backoff of {} is longer than {BACKOFF_MAX}", retry.backoff);
            problems.add(retry.mark, Diagnostic::error(message));
        }
    }
    for (what, limit) in [("timeout", &step.timeout), ("best_effort", &step.best_effort)] {
        if let Some(limit) = limit
            && (limit.value == Span::default() || limit.value > TIMEOUT_MAX)
        {
            let message = format!("`{what}` is {}: more than 0 and at most {TIMEOUT_MAX} is possible", limit.value);
            problems.add(limit.mark, Diagnostic::error(message));
        }
    }
}

/// How many hosts at once is a number or a text such as `25%`.
fn check_width<A>(param: &str, step: &Step<A>, runbook: &Runbook<A>, problems: &mut Problems) {
    let fits = |spec: &ParamSpec| matches!(spec.kind(), ParamType::Number | ParamType::Text);
    let problem = match runbook.params.get(param) {
        Some(spec) if fits(spec) => return,
        Some(spec) => Diagnostic::error(format!("`{param}` is a {:?}, and no number of hosts", spec.kind())),
        None => {
            let known = runbook.params.iter().filter(|(_, spec)| fits(spec)).map(|(name, _)| name.as_str());
            Diagnostic::error(format!("there is no parameter `{param}`")).meant(param, known)
        }
    };
    problems.add(step.hosts_at_once.mark, problem);
}

/// A selector that names a parameter needs one with hosts in it.
fn check_listed<A>(param: &str, step: &Step<A>, runbook: &Runbook<A>, problems: &mut Problems) {
    let known = || runbook.params.iter().filter(|(_, spec)| spec.kind() == ParamType::Hosts);
    match runbook.params.get(param) {
        Some(spec) if spec.kind() == ParamType::Hosts => {}
        Some(_) => problems
            .add(step.on.mark, Diagnostic::error(format!("the parameter `{param}` has no hosts: it is not `Hosts`"))),
        None => {
            let message = format!("there is no parameter `{param}`");
            let known = known().map(|(name, _)| name.as_str());
            problems.add(step.on.mark, Diagnostic::error(message).meant(param, known));
        }
    }
}

fn check_condition<A>(condition: &Condition, runbook: &Runbook<A>, problems: &mut Problems) {
    match condition {
        Condition::Not(inner) => check_condition(inner, runbook, problems),
        Condition::NonEmpty(param) if !runbook.params.contains_key(param.as_str()) => {
            let known = runbook.params.keys().map(String::as_str);
            let message = format!("there is no parameter `{param}`");
            problems.add(param.mark, Diagnostic::error(message).meant(param, known));
        }
        _ => {}
    }
}

fn check_actions<A: ActionSpec>(step: &Step<A>, catalogue: &dyn Catalogue, problems: &mut Problems) {
    let id = &step.id;
    if step.actions.is_empty() {
        problems
            .add(id.mark, Diagnostic::error(format!("step `{id}` has nothing to do")).help("name an action in `do`"));
    }
    if step.actions.len() + step.done_when.len() > ACTIONS_PER_STEP_MAX {
        let message = format!("step `{id}` has more than {ACTIONS_PER_STEP_MAX} actions");
        problems.add(id.mark, Diagnostic::error(message));
    }
    for placed in step.actions.iter().chain(&step.done_when) {
        let name = placed.spec.name();
        let Some(info) = catalogue.info(name) else {
            problems.add(placed.mark, Diagnostic::error(format!("the catalogue has no action `{name}`")));
            continue;
        };
        let wrong_place = match (info.place, &step.on.value) {
            (Place::Operator, Selector::Operator) | (Place::Anywhere, _) => None,
            (Place::Operator, _) => Some("runs on the operator's machine only: write `on: Operator`"),
            (Place::Host, Selector::Operator) => Some("runs on hosts only: `on: Operator` names none"),
            (Place::Host, _) => None,
        };
        if let Some(why) = wrong_place {
            problems.add(placed.mark, Diagnostic::error(format!("`{name}` {why}")));
        }
    }
    for placed in &step.done_when {
        if catalogue.info(placed.spec.name()).is_some_and(|info| info.gate) {
            let message = format!("`{}` asks a person, so it cannot tell whether a step is done", placed.spec.name());
            problems.add(placed.mark, Diagnostic::error(message));
        }
    }
}

/// Properties of a step that exclude one another (formats §9).
fn check_promises<A: ActionSpec>(step: &Step<A>, catalogue: &dyn Catalogue, problems: &mut Problems) {
    let has = |wanted: fn(&ActionInfo) -> bool| step.actions.iter().find(|placed| is(placed, catalogue, wanted));
    let id = &step.id;
    if let Some(why) = &step.irreversible {
        if why.trim().is_empty() {
            let help = "say what cannot be undone: it is shown when consent is asked";
            problems.add(why.mark, Diagnostic::error("`irreversible` gives no reason").help(help));
        }
        if let Some(retry) = step.retry.as_ref().filter(|retry| retry.attempts > 1) {
            let message = format!("step `{id}` is irreversible, so its changes are not tried {} times", retry.attempts);
            let help = "leave `retry` out: what failed before it changed anything is tried again anyway";
            problems.add(retry.mark, Diagnostic::error(message).help(help));
        }
    }
    if let Some(best_effort) = &step.best_effort {
        let refused = [
            (step.irreversible.is_some(), "irreversible"),
            (step.safety, "a safety step"),
            (has(|info| info.gate).is_some(), "a gate"),
        ];
        for (_, what) in refused.into_iter().filter(|(refused, _)| *refused) {
            let message = format!("step `{id}` is {what}, so its failure cannot be passed over by `best_effort`");
            problems.add(best_effort.mark, Diagnostic::error(message));
        }
    }
    if let Some(always) = step.always {
        let when = match always {
            Always::OnClose => "always runs at the close",
            Always::OnAbort => "runs on an abort",
        };
        if let Some(gate) = has(|info| info.gate) {
            let message = format!("step `{id}` {when}, so it cannot wait for a person");
            problems.add(gate.mark, Diagnostic::error(message));
        }
        if step.irreversible.is_some() {
            let message = format!("step `{id}` {when}, so it cannot be irreversible");
            problems.add(id.mark, Diagnostic::error(message));
        }
    }
}

fn is<A: ActionSpec>(placed: &Placed<A>, catalogue: &dyn Catalogue, wanted: fn(&ActionInfo) -> bool) -> bool {
    catalogue.info(placed.spec.name()).is_some_and(wanted)
}

/// Pairs (before, after) by index; `None` when a need names no step.
fn edges<A>(runbook: &Runbook<A>, names: &Names<'_>, problems: &mut Problems) -> Option<Vec<(usize, usize)>> {
    let mut edges = Vec::with_capacity(runbook.steps.len());
    let mut complete = true;
    for (index, step) in runbook.steps.iter().enumerate() {
        for need in &step.needs {
            if matches!(need, Need::SameHost(steps) if steps.is_empty()) {
                let message = format!("step `{}` has a `SameHost` without steps", step.id);
                problems.add(step.id.mark, Diagnostic::error(message));
            }
            for wanted in need.steps() {
                match names.steps.get(wanted.as_str()) {
                    Some(&before) => edges.push((before, index)),
                    None => {
                        complete = false;
                        let message = format!("step `{}` needs `{wanted}`, but there is no such step", step.id);
                        let known = in_order(&names.steps);
                        problems.add(wanted.mark, Diagnostic::error(message).meant(wanted, known));
                    }
                }
            }
        }
    }
    complete.then_some(edges)
}

impl Need {
    /// The steps that it names.
    pub fn steps(&self) -> &[Marked<String>] {
        match self {
            Need::All(step) => std::slice::from_ref(step),
            Need::SameHost(steps) => steps,
        }
    }
}

/// Phases are told in order, so a step cannot need one of a later phase.
fn check_phase_order<A>(runbook: &Runbook<A>, names: &Names<'_>, edges: &[(usize, usize)], problems: &mut Problems) {
    let phase = |step: usize| names.phases.get(runbook.steps[step].phase.as_str());
    for &(before, after) in edges {
        if let (Some(early), Some(late)) = (phase(before), phase(after))
            && early > late
        {
            let (before, after) = (&runbook.steps[before], &runbook.steps[after]);
            let message = format!(
                "step `{}` of phase `{}` needs `{}` of the later phase `{}`",
                after.id, after.phase, before.id, before.phase
            );
            problems.add(after.phase.mark, Diagnostic::error(message));
        }
    }
}

/// How many steps of a cycle are named; a longer one is cut in the middle.
const CYCLE_STEPS_SHOWN: usize = 12;

fn report_cycle<A>(runbook: &Runbook<A>, cycle: &Cycle, problems: &mut Problems) {
    let Some(&first) = cycle.0.first() else { return };
    let name = |step: &usize| runbook.steps[*step].id.to_string();
    let mut path: Vec<String> = cycle.0.iter().map(name).collect();
    if path.len() > CYCLE_STEPS_SHOWN {
        let left_out = path.len() - CYCLE_STEPS_SHOWN;
        path.splice(CYCLE_STEPS_SHOWN - 1..path.len() - 1, [format!("({left_out} more)")]);
    }
    path.push(name(&first));
    let message = format!("steps need one another in a circle: {}", path.join(" → "));
    let help = "each needs the one after the arrow; take one of these needs out";
    problems.add(runbook.steps[first].id.mark, Diagnostic::error(message).help(help));
}

/// Whether the runbook alone tells that several etcd members may be stopped at once while the cluster serves. What
/// depends on the cluster is checked when planning.
fn check_members<A: ActionSpec>(
    step: &Step<A>,
    runbook: &Runbook<A>,
    names: &Names<'_>,
    catalogue: &dyn Catalogue,
    problems: &mut Problems,
) {
    let phase = names.phases.get(step.phase.as_str()).map(|&phase| &runbook.phases[phase]);
    let serving = phase.is_some_and(|phase| phase.clock != PhaseClock::Outage);
    let many =
        matches!(step.on.value, Selector::All | Selector::Servers | Selector::OtherServers | Selector::ServersOf(_));
    let several = many && matches!(step.hosts_at_once.value, HostsAtOnce::Count(2..) | HostsAtOnce::All);
    if !serving || !several {
        return;
    }
    if let Some(placed) = step.actions.iter().find(|placed| is(placed, catalogue, |info| info.stops_etcd_member)) {
        let message = format!(
            "`{}` stops an etcd member, and step `{}` does so on several hosts at once outside of an outage phase",
            placed.spec.name(),
            step.id
        );
        let help = "write `hosts_at_once: 1`, or move the step into a phase with `clock: Outage`";
        problems.add(step.hosts_at_once.mark, Diagnostic::error(message).help(help));
    }
}
