//! Whether the phases' budgets fit into the runbook's: the longest path through the outage counts.

use super::check::Names;
use super::{Budgets, PhaseClock, Problems, Runbook};
use crate::cluster::Topology;
use crate::diagnostic::Diagnostic;
use crate::duration::Span;

/// Compares the longest path of phase budgets with the runbook's budget, for both topologies.
pub(super) fn check<A>(runbook: &Runbook<A>, names: &Names<'_>, edges: &[(usize, usize)], problems: &mut Problems) {
    let Some(budget) = &runbook.budget else { return };
    let follows = phase_edges(runbook, names, edges);
    for topology in [Topology::Ha, Topology::Single] {
        let of = |budgets: &Budgets| budgets.of(topology);
        let (longest, path) = longest_path(runbook, &follows, topology);
        if longest > of(budget) {
            let message = format!(
                "the phases may take {longest} one after the other, but the budget `{}` is {}",
                match topology {
                    Topology::Ha => "ha",
                    Topology::Single => "single",
                },
                of(budget)
            );
            problems
                .add(budget.mark, Diagnostic::error(message).help(format!("the longest way is {}", path.join(" → "))));
        }
    }
}

/// For each phase, the phases that it has to wait for. Never a later one: `check_phase_order` refuses that.
fn phase_edges<A>(runbook: &Runbook<A>, names: &Names<'_>, edges: &[(usize, usize)]) -> Vec<Vec<usize>> {
    let phase = |step: usize| names.phases.get(runbook.steps[step].phase.as_str()).copied();
    let mut pairs: Vec<(usize, usize)> =
        edges.iter().filter_map(|&(before, after)| Some((phase(before)?, phase(after)?))).collect();
    pairs.sort_unstable();
    pairs.dedup();
    let mut follows = vec![Vec::new(); runbook.phases.len()];
    for (before, after) in pairs.into_iter().filter(|(before, after)| before < after) {
        follows[after].push(before);
    }
    follows
}

fn longest_path<A>(runbook: &Runbook<A>, follows: &[Vec<usize>], topology: Topology) -> (Span, Vec<String>) {
    let mut ends: Vec<(std::time::Duration, Option<usize>)> = Vec::with_capacity(follows.len());
    for (index, phase) in runbook.phases.iter().enumerate() {
        let own = match (phase.clock, &phase.budget) {
            (PhaseClock::Outage, Some(budget)) => budget.of(topology).get(),
            _ => std::time::Duration::ZERO,
        };
        let last = follows[index].iter().copied().max_by_key(|&before| ends[before].0);
        ends.push((own + last.map_or_else(Default::default, |before| ends[before].0), last));
    }
    let mut at = (0..ends.len()).max_by_key(|&index| ends[index].0);
    let longest = at.map_or(std::time::Duration::ZERO, |index| ends[index].0);
    let mut path = Vec::new();
    while let Some(index) = at {
        if runbook.phases[index].clock == PhaseClock::Outage {
            path.push(runbook.phases[index].id.to_string());
        }
        at = ends[index].1;
    }
    path.reverse();
    (Span::from(longest), path)
}
