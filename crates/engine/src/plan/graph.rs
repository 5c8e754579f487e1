//! The graph of steps: its order, a cycle as a path, and who comes before whom. Linear, and nothing recurses over it.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use petgraph::Direction;
use petgraph::graph::{DiGraph, NodeIndex};

/// Steps by index, with an edge from each to those that need it.
#[derive(Debug, Clone)]
pub struct StepGraph {
    graph: DiGraph<(), ()>,
    order: Vec<usize>,
    rank: Vec<usize>,
}

/// Steps that need one another: each needs the one before it, the first needs the last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cycle(pub Vec<usize>);

/// Sources whose descendants are found in one pass over the graph: the bits of a word.
const SOURCES_PER_PASS: usize = 64;

impl StepGraph {
    /// Builds the graph of `steps` steps from pairs (before, after). The order is topological, and the runbook's own
    /// wherever that leaves a choice.
    pub fn new(steps: usize, edges: impl IntoIterator<Item = (usize, usize)>) -> Result<Self, Cycle> {
        let mut graph = DiGraph::with_capacity(steps, steps);
        for _ in 0..steps {
            graph.add_node(());
        }
        for (before, after) in edges {
            graph.add_edge(NodeIndex::new(before), NodeIndex::new(after), ());
        }
        let order = topological(&graph)?;
        let mut rank = vec![0; steps];
        for (position, &step) in order.iter().enumerate() {
            rank[step] = position;
        }
        Ok(Self { graph, order, rank })
    }

    /// Every step after all that it needs.
    pub fn order(&self) -> &[usize] {
        &self.order
    }

    /// What a step needs directly.
    pub fn before(&self, step: usize) -> impl Iterator<Item = usize> + '_ {
        neighbours(&self.graph, step, Direction::Incoming)
    }

    /// What needs a step directly.
    pub fn after(&self, step: usize) -> impl Iterator<Item = usize> + '_ {
        neighbours(&self.graph, step, Direction::Outgoing)
    }

    /// For each pair (earlier, later): whether the graph has a path from the one to the other.
    ///
    /// Sources are taken 64 at a time, in topological order, so that references to near steps cost what is between.
    pub fn paths(&self, pairs: &[(usize, usize)]) -> Vec<bool> {
        let mut by_source: Vec<usize> = (0..pairs.len()).collect();
        by_source.sort_by_key(|&pair| self.rank[pairs[pair].0]);
        let mut answers = vec![false; pairs.len()];
        let mut seen = vec![0u64; self.order.len()];
        let mut rest = by_source.as_slice();
        while let Some(&first) = rest.first() {
            let mut sources = vec![pairs[first].0];
            let taken = rest.iter().take_while(|&&pair| {
                let source = pairs[pair].0;
                if sources.last() != Some(&source) {
                    sources.push(source);
                }
                sources.len() <= SOURCES_PER_PASS
            });
            let taken = taken.count();
            sources.truncate(SOURCES_PER_PASS);
            let (pass, later) = rest.split_at(taken);
            self.one_pass(pass, &sources, pairs, &mut seen, &mut answers);
            rest = later;
        }
        answers
    }

    /// Answers the pairs of one pass: bit `n` of `seen` at a step says that `sources[n]` is before it, or is it.
    fn one_pass(
        &self,
        pass: &[usize],
        sources: &[usize],
        pairs: &[(usize, usize)],
        seen: &mut [u64],
        answers: &mut [bool],
    ) {
        let low = self.rank[sources[0]];
        let high = pass.iter().map(|&pair| self.rank[pairs[pair].1]).max().unwrap_or(low).max(low);
        let mut next_source = 0;
        for position in low..=high {
            let step = self.order[position];
            let mut mask = 0;
            for before in self.before(step).map(|before| self.rank[before]).filter(|&before| before >= low) {
                mask |= seen[before];
            }
            if sources.get(next_source) == Some(&step) {
                mask |= 1 << next_source;
                next_source += 1;
            }
            seen[position] = mask;
        }
        for &pair in pass {
            let (source, user) = pairs[pair];
            let bit = sources.iter().position(|&other| other == source).unwrap_or(0);
            let position = self.rank[user];
            answers[pair] = source != user && position > low && seen[position] & (1 << bit) != 0;
        }
        seen[low..=high].fill(0);
    }
}

fn neighbours(graph: &DiGraph<(), ()>, step: usize, direction: Direction) -> impl Iterator<Item = usize> + '_ {
    graph.neighbors_directed(NodeIndex::new(step), direction).map(NodeIndex::index)
}

/// Kahn's order with the lowest index first, so that the same runbook always has the same order.
fn topological(graph: &DiGraph<(), ()>) -> Result<Vec<usize>, Cycle> {
    let count = graph.node_count();
    let mut waiting_for: Vec<usize> =
        (0..count).map(|step| neighbours(graph, step, Direction::Incoming).count()).collect();
    let mut ready: BinaryHeap<Reverse<usize>> =
        (0..count).filter(|&step| waiting_for[step] == 0).map(Reverse).collect();
    let mut order = Vec::with_capacity(count);
    while let Some(Reverse(step)) = ready.pop() {
        order.push(step);
        for after in neighbours(graph, step, Direction::Outgoing) {
            waiting_for[after] -= 1;
            if waiting_for[after] == 0 {
                ready.push(Reverse(after));
            }
        }
    }
    if order.len() == count { Ok(order) } else { Err(find_cycle(graph, &waiting_for)) }
}

/// Walks back from a step that never became ready. Each such step has one before it that did not either, so the walk
/// meets itself.
fn find_cycle(graph: &DiGraph<(), ()>, waiting_for: &[usize]) -> Cycle {
    let mut met_at = vec![usize::MAX; waiting_for.len()];
    let mut walk = Vec::new();
    let mut here = waiting_for.iter().position(|&left| left > 0);
    while let Some(step) = here {
        if met_at[step] != usize::MAX {
            return Cycle(from_lowest(walk.split_off(met_at[step])));
        }
        met_at[step] = walk.len();
        walk.push(step);
        here = neighbours(graph, step, Direction::Incoming).filter(|&before| waiting_for[before] > 0).min();
    }
    Cycle(walk)
}

/// The walk goes from a step to what it needs; a cycle is told from its first step in the runbook.
fn from_lowest(mut cycle: Vec<usize>) -> Vec<usize> {
    let lowest = cycle.iter().enumerate().min_by_key(|(_, step)| **step).map_or(0, |(position, _)| position);
    cycle.rotate_left(lowest);
    cycle
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_cycle_is_told_from_its_first_step_each_needing_the_next() {
        // 2 needs 1, 1 needs 3, 3 needs 2; 0 is outside.
        let cycle = StepGraph::new(4, [(0, 1), (1, 2), (3, 1), (2, 3)]).unwrap_err();
        assert_eq!(cycle, Cycle(vec![1, 3, 2]));
        assert_eq!(StepGraph::new(1, [(0, 0)]).unwrap_err(), Cycle(vec![0]));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]
        #[test]
        fn the_order_respects_every_edge_and_paths_are_those_of_the_graph(
            edges in prop::collection::vec((0usize..150, 0usize..150), 0..300)
        ) {
            // Edges from lower to higher numbers only, and the numbers turned around: acyclic, not in file order.
            let edges: Vec<_> = edges.into_iter().filter(|(a, b)| a < b).map(|(a, b)| (149 - a, 149 - b)).collect();
            let graph = StepGraph::new(150, edges.iter().copied()).unwrap();
            for (before, after) in &edges {
                prop_assert!(graph.rank[*before] < graph.rank[*after]);
            }
            let pairs: Vec<_> = (0..150).flat_map(|a| (0..150).map(move |b| (a, b))).collect();
            for (&(from, to), answer) in pairs.iter().zip(graph.paths(&pairs)) {
                let expected = from != to
                    && petgraph::algo::has_path_connecting(&graph.graph, NodeIndex::new(from), NodeIndex::new(to), None);
                prop_assert_eq!(answer, expected, "{} to {}", from, to);
            }
        }
    }
}
