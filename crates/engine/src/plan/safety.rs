//! What a plan must not do on this cluster: lose track of a host, use a fact that has no value, stop several etcd members.

use std::collections::{HashMap, HashSet};

use super::build::Placement;
use super::targets::Selection;
use super::{NeedPlan, StepGraph};
use crate::action::{ActionSpec, Catalogue, PlannedAction};
use crate::diagnostic::Diagnostic;
use crate::runbook::{Need, PhaseClock, Problems, Runbook, mark_of};
use crate::value::{self, Reference};

/// Checks what depends on which hosts there are.
pub(super) fn check<A: ActionSpec>(
    runbook: &Runbook<A>,
    placements: &[Placement],
    selection: &Selection<'_>,
    catalogue: &dyn Catalogue,
    problems: &mut Problems,
) {
    let steps = runbook.steps.iter().enumerate().map(|(index, step)| (step.id.as_str(), index)).collect();
    for (index, placement) in placements.iter().enumerate() {
        check_same_host(index, runbook, placements, selection, problems);
        if !placement.positions.is_empty() {
            check_facts(index, &steps, runbook, placements, selection, problems);
        }
    }
    let stopping: Vec<usize> =
        (0..placements.len()).filter(|&step| stops_members(runbook, &placements[step], selection, catalogue)).collect();
    for &step in &stopping {
        check_one_at_a_time(step, runbook, placements, selection, problems);
    }
    check_one_after_the_other(&stopping, runbook, placements, problems);
}

/// Each target must be in at least one of the steps that `SameHost` names; one that a condition left out counts.
fn check_same_host<A>(
    index: usize,
    runbook: &Runbook<A>,
    placements: &[Placement],
    selection: &Selection<'_>,
    problems: &mut Problems,
) {
    let placement = &placements[index];
    for (need, written) in placement.plan.needs.iter().zip(&runbook.steps[index].needs) {
        let (NeedPlan::SameHost(steps), Need::SameHost(names)) = (need, written) else { continue };
        let covered =
            |position: &usize| steps.iter().any(|&step| placements[step].selected.binary_search(position).is_ok());
        let Some(&outside) = placement.positions.iter().find(|position| !covered(position)) else { continue };
        let Some(first) = names.first() else { continue };
        let listed: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
        let message = format!(
            "step `{}` runs on `{}`, which is in none of the steps of its `SameHost`: {}",
            placement.plan.id,
            selection.target(outside),
            listed.join(", ")
        );
        let help = "each of its hosts has to be in one of them; `All(…)` waits for every host of a step";
        problems.add(first.mark, Diagnostic::error(message).help(help));
    }
}

/// `${fact.s.x}` needs `s` on the same host, or on exactly one.
fn check_facts<A: ActionSpec>(
    index: usize,
    steps: &HashMap<&str, usize>,
    runbook: &Runbook<A>,
    placements: &[Placement],
    selection: &Selection<'_>,
    problems: &mut Problems,
) {
    let placement = &placements[index];
    let step = &runbook.steps[index];
    let planned = placement.plan.done_when.iter().chain(&placement.plan.actions);
    for (action, placed) in planned.zip(step.done_when.iter().chain(&step.actions)) {
        for (source, reference) in fact_references(action) {
            let Some(&before) = steps.get(source.as_str()) else { continue };
            let leaving = &placements[before];
            let missing = |position: &&usize| leaving.positions.binary_search(position).is_err();
            if leaving.positions.len() == 1 {
                continue;
            }
            if let Some(&missing) = placement.positions.iter().find(missing) {
                let here = selection.target(missing);
                let message = match leaving.plan.left_out.as_deref() {
                    Some(why) => format!("`{reference}` has no value: step `{source}` is left out, because {why}"),
                    None if leaving.positions.is_empty() => {
                        format!("`{reference}` has no value: step `{source}` runs on no host")
                    }
                    None => format!(
                        "`{reference}` has no one value on `{here}`: step `{source}` does not run there, but on {} others",
                        leaving.positions.len()
                    ),
                };
                problems.add(mark_of(runbook, placed, &reference.to_string()), Diagnostic::error(message));
            }
        }
    }
}

fn fact_references(action: &PlannedAction) -> Vec<(String, Reference)> {
    let facts = value::references(&action.fields).into_iter().filter_map(|reference| match &reference {
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
        let step = &runbook.steps[index];
        let message =
            format!("step `{}` may stop {at_once} etcd members at once, outside of an outage phase", placement.plan.id);
        let help = "write `hosts_at_once: 1`, or move it into a phase with `clock: Outage`";
        problems.add(step.id.mark, Diagnostic::error(message).help(help));
    }
}

/// Two steps that stop members must not overlap: the later one has to wait for every host of the earlier one.
fn check_one_after_the_other<A>(
    stopping: &[usize],
    runbook: &Runbook<A>,
    placements: &[Placement],
    problems: &mut Problems,
) {
    if stopping.len() < 2 {
        return;
    }
    let Ok(graph) = super::graph_of(placements.iter().map(|placement| &placement.plan)) else { return };
    let mut stopping_in_order = vec![false; placements.len()];
    stopping.iter().for_each(|&step| stopping_in_order[step] = true);
    let order = graph.order();
    let mut first = None;
    for (rank, &step) in order.iter().enumerate() {
        if !stopping_in_order[step] {
            continue;
        }
        if let Some((from, earlier)) = first.replace((rank, step))
            && !waits_for_all(&graph, from..=rank, placements)
            && !same_single_server(&placements[earlier], &placements[step])
        {
            let (earlier, later) = (&runbook.steps[earlier].id, &runbook.steps[step].id);
            let message = format!("steps `{earlier}` and `{later}` may stop two etcd members at once");
            let help = format!("add `All(\"{earlier}\")` to the needs of `{later}`");
            problems.add(later.mark, Diagnostic::error(message).help(help));
        }
    }
}

fn same_single_server(one: &Placement, other: &Placement) -> bool {
    one.positions.len() == 1 && one.positions == other.positions
}

/// Whether the last step of a range of the order starts only after every host of the first is done.
fn waits_for_all(graph: &StepGraph, range: std::ops::RangeInclusive<usize>, placements: &[Placement]) -> bool {
    let (from, to) = (*range.start(), *range.end());
    let first = graph.order()[from];
    // For each step in between: its start, and its end, prove that the first is done everywhere.
    let mut start_proves = HashSet::new();
    let mut end_proves = HashSet::from([first]);
    for &step in &graph.order()[from + 1..=to] {
        let proves = |need: &NeedPlan| match need {
            NeedPlan::All(before) => end_proves.contains(before),
            NeedPlan::SameHost(before) => before.iter().all(|before| start_proves.contains(before)),
        };
        if placements[step].plan.needs.iter().any(proves) {
            start_proves.insert(step);
            end_proves.insert(step);
        } else if follows_everywhere(&placements[step], first, &placements[first]) {
            end_proves.insert(step);
        }
    }
    start_proves.contains(&graph.order()[to])
}

fn follows_everywhere(placement: &Placement, first: usize, earlier: &Placement) -> bool {
    let alone = |need: &NeedPlan| matches!(need, NeedPlan::SameHost(steps) if steps.as_slice() == [first]);
    let covers = || earlier.positions.iter().all(|position| placement.positions.binary_search(position).is_ok());
    placement.plan.needs.iter().any(alone) && covers()
}
