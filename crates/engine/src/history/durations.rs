//! Measured durations of a cluster's newest runs, by kind of action: their quantiles, and draws from them.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::time::Duration;

use super::Kind;

/// The measurements of one run, by kind, in seconds of cluster time.
pub type Measured = BTreeMap<Kind, Vec<f64>>;

/// What the newest runs of a cluster took, run by run. Empty without history.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Durations {
    runs: Vec<Measured>,
    /// All measurements of a kind, rising.
    sorted: BTreeMap<Kind, Vec<f64>>,
}

/// The value that the given share of the sorted values does not exceed: the nearest rank, never between two values, so
/// that nothing is told that nobody has measured. Of fewer than ten values the p90 is the longest. `None` of no values.
pub fn quantile(sorted: &[f64], share: f64) -> Option<f64> {
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.clamp(1, sorted.len().max(1)) - 1).copied()
}

impl Durations {
    /// From the measurements of runs; those without any are left out.
    pub fn of(runs: impl IntoIterator<Item = Measured>) -> Self {
        let runs: Vec<Measured> = runs.into_iter().filter(|run| run.values().any(|took| !took.is_empty())).collect();
        let mut sorted: BTreeMap<Kind, Vec<f64>> = BTreeMap::new();
        for (kind, took) in runs.iter().flatten() {
            sorted.entry(kind.clone()).or_default().extend(took);
        }
        sorted.retain(|_, took| !took.is_empty());
        sorted.values_mut().for_each(|took| took.sort_by(f64::total_cmp));
        Self { runs, sorted }
    }

    /// How many runs were measured.
    pub fn runs(&self) -> usize {
        self.runs.len()
    }

    /// How many measurements there are of a kind.
    pub fn count(&self, kind: &Kind) -> usize {
        self.sorted.get(kind).map_or(0, Vec::len)
    }

    /// What the given share of the measurements of a kind does not exceed; `None` without any.
    pub fn quantile(&self, kind: &Kind, share: f64) -> Option<Duration> {
        self.sorted.get(kind).and_then(|took| quantile(took, share)).map(duration)
    }
}

/// Seconds as a duration; what is not a time is none.
pub(super) fn duration(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or_default()
}

/// A run as it might be next time: made of earlier ones, so that what was slow together stays slow together.
pub(super) struct Draw<'a> {
    /// Earlier runs in the order in which this draw prefers them.
    runs: Vec<&'a Measured>,
    random: &'a Random,
}

impl<'a> Draw<'a> {
    pub(super) fn new(durations: &'a Durations, random: &'a Random) -> Self {
        let mut runs: Vec<&Measured> = durations.runs.iter().collect();
        for last in (1..runs.len()).rev() {
            runs.swap(last, random.below(last + 1));
        }
        Self { runs, random }
    }

    /// One measurement of the kind, from the first of the runs that has any.
    pub(super) fn one(&self, kind: &Kind) -> Option<Duration> {
        let took = self.runs.iter().find_map(|run| run.get(kind).filter(|took| !took.is_empty()))?;
        Some(duration(took[self.random.below(took.len())]))
    }
}

/// Numbers that are the same every time, so that the same history gives the same forecast: SplitMix64.
pub(super) struct Random(Cell<u64>);

impl Random {
    pub(super) fn new() -> Self {
        Self(Cell::new(0))
    }

    fn below(&self, limit: usize) -> usize {
        let seed = self.0.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.0.set(seed);
        let mixed = (seed ^ (seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % limit.max(1) as u64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_a_value_that_was_measured() {
        let values: Vec<f64> = (1..=20).map(f64::from).collect();
        assert_eq!((quantile(&values, 0.5), quantile(&values, 0.9)), (Some(10.0), Some(18.0)));
        assert_eq!((quantile(&[3.0], 0.5), quantile(&[3.0], 0.9)), (Some(3.0), Some(3.0)));
        assert_eq!((quantile(&[1.0, 2.0, 9.0], 0.5), quantile(&[1.0, 2.0, 9.0], 0.9)), (Some(2.0), Some(9.0)));
        assert_eq!(quantile(&[], 0.9), None);
    }
}
