//! What the start of a step proves about earlier ones: done on every target, or only on the same one.
//!
//! The graph of steps alone does not tell: behind a `SameHost` other hosts of the earlier step may still be at work.

use super::build::Placement;
use super::graph::Pass;
use super::{NeedPlan, StepGraph};

/// What has to be done when a step starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Done {
    /// All targets of the earlier step.
    Everywhere,
    /// The earlier step on the target that the later one starts on.
    SameTarget,
}

/// For each pair (earlier, later): whether the start of the later one proves what is asked of the earlier one. A yes is
/// certain; a no can be too strict where `SameHost` names steps that some of the hosts are not in.
pub(super) fn proved(
    placements: &[Placement],
    graph: &StepGraph,
    pairs: &[(usize, usize)],
    asked: &[Done],
) -> Vec<bool> {
    let mut answers = vec![false; pairs.len()];
    let mut proofs = vec![Proof::default(); placements.len()];
    for pass in graph.passes(pairs) {
        for rank in pass.ranks.clone() {
            let step = graph.order()[rank];
            proofs[step] = Prover { placements, graph, pass: &pass, proofs: &proofs }.prove(step);
        }
        for &pair in &pass.pairs {
            let (earlier, later) = pairs[pair];
            let proof = match asked[pair] {
                Done::Everywhere => proofs[later].start,
                Done::SameTarget => proofs[later].start | proofs[later].same,
            };
            let known = pass.ranks.contains(&graph.rank(later));
            answers[pair] = known && proof & pass.bit(earlier) != 0;
        }
    }
    answers
}

/// Which sources of a pass are done, one bit each.
#[derive(Debug, Clone, Copy, Default)]
struct Proof {
    /// When the step starts on any target: everywhere.
    start: u64,
    /// When the step starts on a target: on that target.
    same: u64,
    /// When the step is done on all of its targets: everywhere.
    end: u64,
}

struct Prover<'a> {
    placements: &'a [Placement],
    graph: &'a StepGraph,
    pass: &'a Pass,
    proofs: &'a [Proof],
}

impl Prover<'_> {
    fn prove(&self, step: usize) -> Proof {
        let placement = &self.placements[step];
        let mut proof = Proof::default();
        for need in &placement.plan.needs {
            match need {
                NeedPlan::All(before) => proof.start |= self.of(*before).end,
                NeedPlan::SameHost(before) => self.same_host(placement, before, &mut proof),
            }
        }
        let widened = self.pass.sources().filter(|&(source, bit)| {
            proof.same & bit != 0 && self.placements[source].positions.iter().all(|p| has(placement, *p))
        });
        proof.end = widened.fold(proof.start | self.pass.bit(step), |end, (_, bit)| end | bit);
        proof
    }

    fn same_host(&self, placement: &Placement, before: &[usize], proof: &mut Proof) {
        let meets = |step: &usize| placement.positions.iter().any(|&p| has(&self.placements[*step], p));
        let covered = |p: &usize| before.iter().any(|&step| has(&self.placements[step], *p));
        let met: Vec<usize> = before.iter().copied().filter(meets).collect();
        if met.is_empty() {
            // Nothing of the same host is left to wait for, so these are waited for whole.
            before.iter().for_each(|&step| proof.start |= self.of(step).end);
        } else if placement.positions.iter().all(covered) {
            proof.start |= met.iter().fold(u64::MAX, |all, &step| all & self.of(step).start);
            proof.same |= self.done_on_each(placement, &met);
        } else {
            proof.start |= before.iter().fold(u64::MAX, |all, &step| all & self.of(step).start);
        }
    }

    /// Sources that are done on each target that they share with the step, whichever of `met` that target is in.
    fn done_on_each(&self, placement: &Placement, met: &[usize]) -> u64 {
        let same = |step: usize| self.of(step).start | self.of(step).same | self.pass.bit(step);
        let somewhere = met.iter().fold(0, |any, &step| any | same(step));
        let on_each = self.pass.sources().filter(|&(source, bit)| {
            let shared = |p: &&usize| has(&self.placements[source], **p);
            let done_on = |p: &usize| met.iter().all(|&step| !has(&self.placements[step], *p) || same(step) & bit != 0);
            somewhere & bit != 0 && placement.positions.iter().filter(shared).all(done_on)
        });
        on_each.fold(0, |all, (_, bit)| all | bit)
    }

    /// Steps before the pass begins know of none of its sources.
    fn of(&self, step: usize) -> Proof {
        if self.pass.ranks.contains(&self.graph.rank(step)) { self.proofs[step] } else { Proof::default() }
    }
}

fn has(placement: &Placement, position: usize) -> bool {
    placement.positions.binary_search(&position).is_ok()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::id::StepId;
    use crate::plan::StepPlan;

    fn placement(number: usize, positions: Vec<usize>, needs: Vec<NeedPlan>) -> Placement {
        let plan = StepPlan {
            id: StepId::new(format!("s{number}")).unwrap(),
            phase: 0,
            targets: Vec::new(),
            hosts_at_once: 1,
            needs,
            done_when: Vec::new(),
            actions: Vec::new(),
            retry: Default::default(),
            timeout: Default::default(),
            irreversible: None,
            best_effort: None,
            always: None,
            safety: false,
            left_out: None,
            last: None,
        };
        Placement { plan, written: number, need_marks: Vec::new(), selected: positions.clone(), positions }
    }

    /// Steps on some of four hosts, each needing earlier ones.
    fn random_steps() -> impl Strategy<Value = Vec<Placement>> {
        let need = (any::<bool>(), prop::collection::vec(any::<prop::sample::Index>(), 1..3));
        let step = (prop::collection::btree_set(0usize..4, 0..4), prop::collection::vec(need, 0..3));
        prop::collection::vec(step, 2..14).prop_map(|steps| {
            let of = |number: usize, (all, before): (bool, Vec<prop::sample::Index>)| {
                let before: Vec<usize> = before.iter().map(|index| index.index(number)).collect();
                if all { NeedPlan::All(before[0]) } else { NeedPlan::SameHost(before) }
            };
            let steps = steps.into_iter().enumerate().map(|(number, (positions, needs))| {
                let needs = if number == 0 { Vec::new() } else { needs };
                let needs = needs.into_iter().map(|need| of(number, need)).collect();
                placement(number, positions.into_iter().collect(), needs)
            });
            steps.collect()
        })
    }

    /// (step, position) pairs.
    type Set = BTreeSet<(usize, usize)>;

    /// What is done when a step starts at a position, host by host; `None` stands for a step without targets.
    fn at_start(steps: &[Placement], step: usize, position: Option<usize>) -> Set {
        let mut done = Set::new();
        for need in &steps[step].plan.needs {
            let same: Vec<usize> = match (need, position) {
                (NeedPlan::SameHost(before), Some(p)) => {
                    before.iter().copied().filter(|&s| has(&steps[s], p)).collect()
                }
                _ => Vec::new(),
            };
            match position {
                Some(p) if !same.is_empty() => same.iter().for_each(|&before| {
                    done.extend(at_start(steps, before, Some(p)));
                    done.insert((before, p));
                }),
                _ => need.steps().iter().for_each(|&before| done.extend(at_end(steps, before))),
            }
        }
        done
    }

    fn at_end(steps: &[Placement], step: usize) -> Set {
        if steps[step].positions.is_empty() {
            return at_start(steps, step, None);
        }
        let mut done = Set::new();
        for &position in &steps[step].positions {
            done.extend(at_start(steps, step, Some(position)));
            done.insert((step, position));
        }
        done
    }

    fn truth(steps: &[Placement], earlier: usize, later: usize, asked: Done) -> bool {
        steps[later].positions.iter().all(|&position| {
            let done = at_start(steps, later, Some(position));
            steps[earlier]
                .positions
                .iter()
                .all(|&other| done.contains(&(earlier, other)) || (asked == Done::SameTarget && other != position))
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        #[test]
        fn what_is_proved_is_true_host_by_host(steps in random_steps()) {
            let graph = super::super::graph_of(steps.iter().map(|step| &step.plan)).unwrap();
            let nonempty: Vec<usize> = (0..steps.len()).filter(|&step| !steps[step].positions.is_empty()).collect();
            let pairs: Vec<(usize, usize)> =
                nonempty.iter().flat_map(|&a| nonempty.iter().map(move |&b| (a, b))).filter(|(a, b)| a != b).collect();
            for asked in [Done::Everywhere, Done::SameTarget] {
                let proved = proved(&steps, &graph, &pairs, &vec![asked; pairs.len()]);
                for (&(earlier, later), proved) in pairs.iter().zip(proved) {
                    if proved {
                        prop_assert!(truth(&steps, earlier, later, asked), "{earlier} before {later}, {asked:?}");
                    }
                }
            }
        }
    }
}
