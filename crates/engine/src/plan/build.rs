//! From a runbook and a cluster to a [`Plan`].

use std::collections::BTreeMap;

use serde_json::Value;

use super::rounds::{Copied, Rounds};
use super::targets::{OPERATOR_POSITION, Selection, first_unmet};
use super::{HostEntry, LastPlan, PhasePlan, Plan, StepPlan, params, safety};
use crate::action::{ActionSpec, Catalogue, PlannedAction};
use crate::cluster::{Cluster, Role};
use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::id::HostName;
use crate::runbook::{Budgets, HostsAtOnce, Placed, Problems, Runbook, Step, TIMEOUT_DEFAULT, mark_of};
use crate::source::Mark;
use crate::value::{self, Reference};

/// How many instances a plan may have: steps times their targets times their actions.
pub const INSTANCES_MAX: usize = 1_000_000;

/// What the operator asks for, as it was typed.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// `name=value`, each of one parameter; of two for the same the last counts.
    pub set: Vec<String>,
    /// Hosts that are powered off or cut off for certain: they are in no step, and nothing waits for them. A
    /// parameter `lost` of type `Hosts` adds to them.
    pub lost: Vec<String>,
    /// If not empty, only these hosts are in any step.
    pub limit: Vec<String>,
}

/// A plan, and what looks wrong about it.
#[derive(Debug, Clone)]
pub struct Planned {
    /// The plan.
    pub plan: Plan,
    /// What is said and refuses nothing.
    pub warnings: Diagnostics,
}

/// Makes a plan. Everything that is wrong is reported together; nothing outside of the arguments is looked at.
pub fn build<A: ActionSpec>(
    runbook: &Runbook<A>,
    cluster: &Cluster,
    request: &Request,
    catalogue: &dyn Catalogue,
) -> Result<Planned, Diagnostics> {
    let mut problems = Problems::default();
    let mut values = params::settle(runbook, cluster, &request.set, &mut problems);
    let limit = named_hosts(&request.limit, cluster, &mut problems);
    let lost = lost_hosts(&request.lost, &mut values, cluster, &mut problems);
    let selection = Selection::new(cluster, &lost, &limit, &values);
    check_init(cluster, &selection, &mut problems);
    if !limit.is_empty() {
        check_limit(runbook, &selection, &Selection::new(cluster, &lost, &[], &values), &mut problems);
    }

    let rounds = Rounds::of(runbook, &values, &mut problems);
    let phases = phases(&rounds, cluster);
    let mut builder = Builder { runbook, rounds, cluster, catalogue, params: &values, selection: &selection, problems };
    let steps = builder.steps();
    let mut problems = builder.problems;
    let Some(placements) = steps else { return Err(problems.locate(runbook)) };
    safety::check(runbook, &placements, &selection, catalogue, &mut problems);
    let found = problems.locate(runbook);
    if found.refuse() {
        return Err(found);
    }
    let init = selection.init().cloned();
    let plan = assemble(runbook, cluster, &lost, init, values, phases, placements);
    Ok(Planned { plan, warnings: found })
}

/// A step with the positions of its targets in the cluster file.
#[derive(Debug)]
pub(super) struct Placement {
    pub plan: StepPlan,
    /// Position of the step in the runbook: that of each round has the same.
    pub written: usize,
    /// Where each of `plan.needs` stands in the runbook.
    pub need_marks: Vec<Option<Mark>>,
    /// Positions of `plan.targets`, rising.
    pub positions: Vec<usize>,
    /// What the selector selects, whether or not a condition left the step out.
    pub selected: Vec<usize>,
}

fn assemble<A: ActionSpec>(
    runbook: &Runbook<A>,
    cluster: &Cluster,
    lost: &[HostName],
    init: Option<HostName>,
    params: BTreeMap<String, Value>,
    phases: Vec<PhasePlan>,
    placements: Vec<Placement>,
) -> Plan {
    let topology = cluster.topology();
    let hosts = cluster.hosts.iter().map(|host| HostEntry {
        name: host.name.clone(),
        address: host.address.clone(),
        role: host.role,
        lost: lost.contains(&host.name),
    });
    Plan {
        runbook: runbook.name.value.clone(),
        on_failure: runbook.on_failure,
        supersedes: runbook.supersedes,
        budget: runbook.budget.as_deref().map(|budgets| budgets.of(topology)),
        topology,
        cluster: cluster.name.clone(),
        hosts: hosts.collect(),
        init,
        params,
        phases,
        steps: placements.into_iter().map(|placement| placement.plan).collect(),
    }
}

fn phases<A>(rounds: &Rounds<'_, A>, cluster: &Cluster) -> Vec<PhasePlan> {
    let of = |budgets: &Budgets| budgets.of(cluster.topology());
    let phases = rounds.phases().map(|(phase, id, round)| PhasePlan {
        id,
        clock: phase.clock,
        budget: phase.budget.as_ref().map(of),
        round,
    });
    phases.collect()
}

struct Builder<'a, A> {
    runbook: &'a Runbook<A>,
    rounds: Rounds<'a, A>,
    cluster: &'a Cluster,
    catalogue: &'a dyn Catalogue,
    params: &'a BTreeMap<String, Value>,
    selection: &'a Selection<'a>,
    problems: Problems,
}

impl<A: ActionSpec> Builder<'_, A> {
    /// `None` when the plan would be too large.
    fn steps(&mut self) -> Option<Vec<Placement>> {
        let copies = self.rounds.copies().to_vec();
        let mut placements = Vec::with_capacity(copies.len());
        let mut instances = 0;
        for copy in &copies {
            let placement = self.step(copy);
            instances += placement.positions.len() * placement.plan.sequence_len();
            if instances > INSTANCES_MAX {
                let message = format!("the plan would have more than {INSTANCES_MAX} actions on hosts");
                self.problems.add(self.runbook.steps[copy.written].id.mark, Diagnostic::error(message));
                return None;
            }
            placements.push(placement);
        }
        Some(placements)
    }

    fn step(&mut self, copy: &Copied) -> Placement {
        let step = &self.runbook.steps[copy.written];
        let selected = self.selection.select(&step.on).unwrap_or_else(|problem| {
            self.problems.add(step.on.mark, problem);
            Vec::new()
        });
        let unmet = first_unmet(&step.when, self.cluster, self.params);
        let unmet = unmet.map(|condition| format!("`{condition}` does not hold"));
        let left_out = unmet.or_else(|| self.rounds.left_out(copy));
        let positions = if left_out.is_some() { Vec::new() } else { selected.clone() };
        let (needs, need_marks) = self.rounds.needs(copy).into_iter().unzip();
        let plan = StepPlan {
            id: self.rounds.id(copy),
            phase: copy.phase,
            targets: positions.iter().map(|&position| self.selection.target(position)).collect(),
            hosts_at_once: self.hosts_at_once(step, positions.len()),
            last: step.last.as_ref().and_then(|last| self.last(copy, last)),
            needs,
            done_when: step.done_when.iter().map(|placed| self.action(copy, placed)).collect(),
            actions: step.actions.iter().map(|placed| self.action(copy, placed)).collect(),
            retry: step.retry.as_deref().copied().unwrap_or_default(),
            timeout: step.timeout.as_deref().copied().unwrap_or(TIMEOUT_DEFAULT),
            irreversible: step.irreversible.as_deref().cloned(),
            best_effort: step.best_effort.as_deref().copied(),
            always: step.always,
            safety: step.safety,
            left_out,
        };
        Placement { plan, written: copy.written, need_marks, positions, selected }
    }

    fn hosts_at_once(&mut self, step: &Step<A>, targets: usize) -> usize {
        let HostsAtOnce::Param(name) = &step.hosts_at_once.value else { return step.hosts_at_once.of(targets) };
        // A value that could not be read has been reported, and is null.
        let said = match self.params.get(name) {
            None | Some(Value::Null) => return 1,
            Some(Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
        };
        let Some(known) = HostsAtOnce::parse(&said) else {
            let problem = Diagnostic::error(format!("`{name}` is `{said}`, which is no number of hosts"));
            self.problems.add(step.hosts_at_once.mark, problem.help("set a number from 1, `25%` or `all`"));
            return 1;
        };
        known.of(targets)
    }

    /// The runbook's own check has said that it is one reference to a fact.
    fn last(&self, copy: &Copied, last: &str) -> Option<LastPlan> {
        let Some(Reference::Fact { step, name }) = value::lone_reference(last) else { return None };
        Some(LastPlan { step: self.rounds.place_of(copy, &step)?, fact: name })
    }

    /// An action with everything in place that is known when planning: parameters, its round, the names of steps.
    fn action(&mut self, copy: &Copied, placed: &Placed<A>) -> PlannedAction {
        let name = placed.spec.name();
        let written = placed.spec.fields();
        let answer = |reference: &Reference| match reference {
            Reference::Param(name) => self.params.get(name).cloned(),
            Reference::Round(name) => self.rounds.value(copy, name),
            fact => self.rounds.renamed(copy, fact).map(|fact| Value::from(fact.to_string())),
        };
        let references = value::references(&written);
        let given = |reference: &Reference| matches!(reference, Reference::Param(_) | Reference::Round(_));
        let is_given = references.iter().any(given);
        let answered = references.iter().any(|reference| answer(reference).is_some());
        let fields = if answered { params::substitute(written, &answer) } else { written };
        if is_given {
            self.bind(placed, &fields);
        }
        let revision = self.catalogue.info(name).map_or(0, |info| info.revision);
        PlannedAction { name: name.to_owned(), revision, fields }
    }

    /// Parameters have their values now, which the runbook's own check could not know. Where facts are still missing,
    /// that check has said that their types fit.
    fn bind(&mut self, placed: &Placed<A>, fields: &Value) {
        let no_value = self.params.values().any(Value::is_null);
        if no_value || !value::references(fields).is_empty() {
            return;
        }
        let target = self.selection.target(match self.catalogue.info(placed.spec.name()).map(|info| info.place) {
            Some(crate::action::Place::Host) => 0,
            _ => OPERATOR_POSITION,
        });
        if let Err(why) = self.catalogue.bind(placed.spec.name(), fields, &target) {
            let message = format!("`{}` cannot take these values: {why}", placed.spec.name());
            let marks = ["${param.", "${round."].map(|text| mark_of(self.runbook, placed, text));
            let mark = marks.into_iter().find(|mark| *mark != placed.mark).unwrap_or(placed.mark);
            self.problems.add(mark, Diagnostic::error(message));
        }
    }
}

fn named_hosts(names: &[String], cluster: &Cluster, problems: &mut Problems) -> Vec<HostName> {
    let mut hosts = Vec::new();
    for name in names {
        match params::known_host(name, cluster) {
            Ok(host) if hosts.contains(&host) => {}
            Ok(host) => hosts.push(host),
            Err(problem) => problems.add_outside(problem),
        }
    }
    hosts
}

/// What was declared lost, by `--lost` or by a parameter `lost` of type `Hosts`; the parameter then has them all.
fn lost_hosts(
    lost: &[String],
    values: &mut BTreeMap<String, Value>,
    cluster: &Cluster,
    problems: &mut Problems,
) -> Vec<HostName> {
    let mut names = lost.to_vec();
    let parameter = values.get_mut("lost").filter(|value| value.is_array());
    let also = parameter.as_ref().and_then(|value| value.as_array());
    names.extend(also.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned));
    let hosts = named_hosts(&names, cluster, problems);
    if let Some(value) = parameter {
        *value = hosts.iter().map(|host| Value::from(host.as_str())).collect();
    }
    hosts
}

/// A limit may leave out hosts, but not a step that others rely on for good: its goal would count as reached.
fn check_limit<A>(runbook: &Runbook<A>, limited: &Selection<'_>, whole: &Selection<'_>, problems: &mut Problems) {
    for step in runbook.steps.iter().filter(|step| step.irreversible.is_some() || step.safety) {
        let (Ok(some), Ok(all)) = (limited.select(&step.on), whole.select(&step.on)) else { continue };
        if some.is_empty() && !all.is_empty() {
            let why = if step.safety { "a safety step" } else { "irreversible" };
            let message = format!("the limit leaves out step `{}`, which is {why}", step.id);
            problems.add(step.on.mark, Diagnostic::error(message).help("add its host to the limit"));
        }
    }
}

fn check_init(cluster: &Cluster, selection: &Selection<'_>, problems: &mut Problems) {
    let named = cluster.init_server().map(|host| &host.name);
    match (named, selection.init()) {
        (Some(named), Some(init)) if named != init => problems.add_outside(Diagnostic::warning(format!(
            "`{named}` is declared lost, so `{init}` takes its place as the server that is reset and restored"
        ))),
        (_, None) if cluster.hosts.iter().any(|host| host.role == Role::Server) => {
            let help = "a server has to be left to work on";
            problems.add_outside(Diagnostic::error("every server is declared lost").help(help));
        }
        _ => {}
    }
}
