//! What a plan must not do on this cluster: lose track of a host, use a fact that has no value, stop several etcd members.

use std::collections::HashMap;

use serde_json::Value;

use super::build::Placement;
use super::proof::{Done, proved};
use super::targets::Selection;
use super::{NeedPlan, StepGraph};
use crate::action::{ActionSpec, Catalogue, PlannedAction};
use crate::diagnostic::Diagnostic;
use crate::runbook::{PhaseClock, Problems, Runbook, mark_of};
use crate::source::Mark;
use crate::value::{self, Reference};

/// Checks what depends on which hosts there are.
pub(super) fn check<A: ActionSpec>(
    runbook: &Runbook<A>,
    placements: &[Placement],
    selection: &Selection<'_>,
    catalogue: &dyn Catalogue,
    problems: &mut Problems,
) {
    let Ok(graph) = super::graph_of(placements.iter().map(|placement| &placement.plan)) else { return };
    let steps = placements.iter().enumerate().map(|(index, step)| (step.plan.id.as_str(), index)).collect();
    let mut uses = Vec::new();
    for (index, placement) in placements.iter().enumerate() {
        check_same_host(index, placements, selection, problems);
        if !placement.positions.is_empty() {
            uses.extend(fact_uses(index, &steps, runbook, placements));
            uses.extend(last_use(index, runbook, placements, problems));
        }
    }
    check_facts(&uses, &graph, placements, selection, problems);
    let stopping: Vec<usize> =
        (0..placements.len()).filter(|&step| stops_members(runbook, &placements[step], selection, catalogue)).collect();
    for &step in &stopping {
        check_one_at_a_time(step, runbook, placements, selection, problems);
    }
    check_one_after_the_other(&stopping, &graph, runbook, placements, problems);
}

/// Each target must be in at least one of the steps that `SameHost` names; one that a condition left out counts.
fn check_same_host(index: usize, placements: &[Placement], selection: &Selection<'_>, problems: &mut Problems) {
    let placement = &placements[index];
    for (need, mark) in placement.plan.needs.iter().zip(&placement.need_marks) {
        let (NeedPlan::SameHost(steps), Some(mark)) = (need, mark) else { continue };
        let covered =
            |position: &usize| steps.iter().any(|&step| placements[step].selected.binary_search(position).is_ok());
        let Some(&outside) = placement.positions.iter().find(|position| !covered(position)) else { continue };
        let listed: Vec<String> = steps.iter().map(|&step| format!("`{}`", placements[step].plan.id)).collect();
        let message = format!(
            "step `{}` runs on `{}`, which is in none of the steps of its `SameHost`: {}",
            placement.plan.id,
            selection.target(outside),
            listed.join(", ")
        );
        let help = "each of its hosts has to be in one of them; `All(…)` waits for every host of a step";
        problems.add(*mark, Diagnostic::error(message).help(help));
    }
}

/// A reference to a fact of another step.
struct FactUse {
    source: usize,
    user: usize,
    mark: Mark,
    reference: Reference,
}

fn fact_uses<A: ActionSpec>(
    user: usize,
    steps: &HashMap<&str, usize>,
    runbook: &Runbook<A>,
    placements: &[Placement],
) -> Vec<FactUse> {
    let (plan, step) = (&placements[user].plan, &runbook.steps[placements[user].written]);
    let planned = plan.done_when.iter().chain(&plan.actions);
    let mut uses = Vec::new();
    for (action, placed) in planned.zip(step.done_when.iter().chain(&step.actions)) {
        // The same references in the same order; in a round their steps have other names.
        let written = fact_references(&placed.spec.fields());
        for ((source, reference), (_, written)) in fact_references(&action.fields).into_iter().zip(written) {
            if let Some(&source) = steps.get(source.as_str()).filter(|&&source| source != user) {
                uses.push(FactUse { source, user, mark: mark_of(runbook, placed, &written.to_string()), reference });
            }
        }
    }
    uses
}

/// The fact that names the host that goes last: it has one value for the whole step.
fn last_use<A>(
    user: usize,
    runbook: &Runbook<A>,
    placements: &[Placement],
    problems: &mut Problems,
) -> Option<FactUse> {
    let last = runbook.steps[placements[user].written].last.as_ref()?;
    let source = placements[user].plan.last.as_ref()?.step;
    let hosts = placements[source].positions.len();
    if hosts > 1 {
        let name = &placements[source].plan.id;
        let message = format!("`{}` has no one value: step `{name}` runs on {hosts} hosts", last.value);
        problems.add(last.mark, Diagnostic::error(message));
        return None;
    }
    Some(FactUse { source, user, mark: last.mark, reference: value::lone_reference(last)? })
}

/// `${fact.s.x}` needs `s` on the same host, or on exactly one, and done there when the step starts.
fn check_facts(
    uses: &[FactUse],
    graph: &StepGraph,
    placements: &[Placement],
    selection: &Selection<'_>,
    problems: &mut Problems,
) {
    let stranger = |used: &FactUse| {
        let source = &placements[used.source].positions;
        placements[used.user].positions.iter().copied().find(|position| source.binary_search(position).is_err())
    };
    let pairs: Vec<(usize, usize)> = uses.iter().map(|used| (used.source, used.user)).collect();
    let asked: Vec<Done> =
        uses.iter().map(|used| if stranger(used).is_some() { Done::Everywhere } else { Done::SameTarget }).collect();
    for (used, proved) in uses.iter().zip(proved(placements, graph, &pairs, &asked)) {
        let source = &placements[used.source];
        let (reference, name) = (&used.reference, &source.plan.id);
        let problem = match (stranger(used), source.positions.len()) {
            (Some(_), 0) => {
                let why = source.plan.left_out.as_ref().map_or_else(String::new, |why| format!(", because {why}"));
                Diagnostic::error(format!("`{reference}` has no value: step `{name}` runs nowhere{why}"))
            }
            (Some(stranger), hosts @ 2..) => Diagnostic::error(format!(
                "`{reference}` has no one value on `{}`: step `{name}` does not run there, but on {hosts} others",
                selection.target(stranger)
            )),
            _ if proved => continue,
            _ => {
                let user = &placements[used.user].plan.id;
                let message = format!("`{reference}` may not be known yet when `{user}` starts on another host");
                Diagnostic::error(message).help(format!("add `All(\"{name}\")` to the needs of `{user}`"))
            }
        };
        problems.add(used.mark, problem);
    }
}

fn fact_references(fields: &Value) -> Vec<(String, Reference)> {
    let facts = value::references(fields).into_iter().filter_map(|reference| match &reference {
        Reference::Fact { step, .. } => Some((step.clone(), reference)),
        _ => None,
    });
    facts.collect()
}

fn stops_members<A>(
    runbook: &Runbook<A>,
    placement: &Placement,
    selection: &Selection<'_>,
    catalogue: &dyn Catalogue,
) -> bool {
    let outage = runbook.phases.get(placement.plan.phase).is_some_and(|phase| phase.clock == PhaseClock::Outage);
    let stops = |action: &PlannedAction| catalogue.info(&action.name).is_some_and(|info| info.stops_etcd_member);
    let on_server = || placement.positions.iter().any(|&position| selection.is_server(position));
    !outage && placement.plan.actions.iter().any(stops) && on_server()
}

fn check_one_at_a_time<A>(
    index: usize,
    runbook: &Runbook<A>,
    placements: &[Placement],
    selection: &Selection<'_>,
    problems: &mut Problems,
) {
    let placement = &placements[index];
    let servers = placement.positions.iter().filter(|&&position| selection.is_server(position)).count();
    let at_once = placement.plan.hosts_at_once.min(servers);
    if at_once > 1 {
        let step = &runbook.steps[placement.written];
        let message =
            format!("step `{}` may stop {at_once} etcd members at once, outside of an outage phase", placement.plan.id);
        let help = "write `hosts_at_once: 1`, or move it into a phase with `clock: Outage`";
        problems.add(step.id.mark, Diagnostic::error(message).help(help));
    }
}

/// Two steps that stop members must not overlap: the later one has to wait for every host of the earlier one.
fn check_one_after_the_other<A>(
    stopping: &[usize],
    graph: &StepGraph,
    runbook: &Runbook<A>,
    placements: &[Placement],
    problems: &mut Problems,
) {
    let mut in_order = stopping.to_vec();
    in_order.sort_by_key(|&step| graph.rank(step));
    let pairs: Vec<(usize, usize)> = in_order.windows(2).map(|pair| (pair[0], pair[1])).collect();
    let proved = proved(placements, graph, &pairs, &vec![Done::Everywhere; pairs.len()]);
    for (&(earlier, later), proved) in pairs.iter().zip(proved) {
        if !proved && !same_single_server(&placements[earlier], &placements[later]) {
            let mark = runbook.steps[placements[later].written].id.mark;
            let (earlier, later) = (&placements[earlier].plan.id, &placements[later].plan.id);
            let message = format!("steps `{earlier}` and `{later}` may stop two etcd members at once");
            let help = format!("add `All(\"{earlier}\")` to the needs of `{later}`");
            problems.add(mark, Diagnostic::error(message).help(help));
        }
    }
}

fn same_single_server(one: &Placement, other: &Placement) -> bool {
    one.positions.len() == 1 && one.positions == other.positions
}
