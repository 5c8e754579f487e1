//! The graph of steps: its order, a cycle as a path, and who comes before whom. Linear, and nothing recurses over it.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::ops::RangeInclusive;

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

    /// Position of a step in the order.
    pub fn rank(&self, step: usize) -> usize {
        self.rank[step]
    }

    /// For each pair (earlier, later): whether the graph has a path from the one to the other.
    pub fn paths(&self, pairs: &[(usize, usize)]) -> Vec<bool> {
        let mut answers = vec![false; pairs.len()];
        // Bit `n` at a rank says that source `n` of the pass is before the step of this rank, or is it.
        let mut seen = vec![0u64; self.order.len()];
        for pass in self.passes(pairs) {
            for rank in pass.ranks.clone() {
                let step = self.order[rank];
                let before = self.before(step).map(|before| self.rank[before]).filter(|rank| pass.ranks.contains(rank));
                seen[rank] = before.fold(pass.bit(step), |mask, before| mask | seen[before]);
            }
            for &pair in &pass.pairs {
                let (source, user) = pairs[pair];
                answers[pair] = source != user
                    && pass.ranks.contains(&self.rank[user])
                    && seen[self.rank[user]] & pass.bit(source) != 0;
            }
        }
        answers
    }

    /// Cuts pairs (earlier, later) into passes of up to 64 sources. Sources are taken in topological order, so that
    /// pairs that are near in the graph make short passes, and all of them together cost what one pass would.
    pub(super) fn passes(&self, pairs: &[(usize, usize)]) -> Vec<Pass> {
        let mut by_source: Vec<usize> = (0..pairs.len()).collect();
        by_source.sort_by_key(|&pair| self.rank[pairs[pair].0]);
        let mut passes: Vec<Pass> = Vec::new();
        for pair in by_source {
            let (source, user) = pairs[pair];
            let (low, high) = (self.rank[source], self.rank[user]);
            match passes.last_mut() {
                Some(pass) if pass.has_room_for(source) => {
                    pass.take(source);
                    pass.ranks = *pass.ranks.start()..=high.max(*pass.ranks.end());
                    pass.pairs.push(pair);
                }
                _ => passes.push(Pass {
                    sources: HashMap::from([(source, 0)]),
                    pairs: vec![pair],
                    ranks: low..=high.max(low),
                }),
            }
        }
        passes
    }
}

/// Pairs that are answered together.
pub(super) struct Pass {
    sources: HashMap<usize, u32>,
    /// Indices of the pairs.
    pub pairs: Vec<usize>,
    /// From the first source to the last user.
    pub ranks: RangeInclusive<usize>,
}

impl Pass {
    /// The bit that stands for a step; 0 when it is no source.
    pub fn bit(&self, step: usize) -> u64 {
        self.sources.get(&step).map_or(0, |&bit| 1 << bit)
    }

    /// Every source with its bit.
    pub fn sources(&self) -> impl Iterator<Item = (usize, u64)> + '_ {
        self.sources.iter().map(|(&step, &bit)| (step, 1 << bit))
    }

    fn has_room_for(&self, source: usize) -> bool {
        self.sources.contains_key(&source) || self.sources.len() < SOURCES_PER_PASS
    }

    fn take(&mut self, source: usize) {
        let next = self.sources.len() as u32;
        self.sources.entry(source).or_insert(next);
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
