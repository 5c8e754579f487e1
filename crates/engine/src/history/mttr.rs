//! The time to recover, over the runs of a cluster: each real outage, phases against budgets, median, p90 and trend.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Entry, Kept, Server, quantile};
use crate::cluster::Topology;
use crate::id::{PhaseId, RunId};
use crate::plan::PhaseClock;
use crate::record::Verdict;
use crate::report::{BudgetVerdict, Recovery};

mod render;
#[cfg(test)]
mod tests;

/// The name and version of the JSON form.
pub const MTTR_SCHEMA: &str = "rke2flow.dev/mttr/v1";

/// From so many recoveries on there is a trend.
const TREND_MIN: usize = 4;

/// The recoveries of every cluster in a history. Durations are seconds of wall time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Mttr {
    /// [`MTTR_SCHEMA`].
    pub schema: String,
    /// By name; two clusters of one name that have no server in common are two.
    pub clusters: Vec<ClusterRecoveries>,
}

/// The recoveries of one cluster.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClusterRecoveries {
    /// Its name.
    pub cluster: String,
    /// The servers that it had in its newest run.
    pub servers: Vec<Server>,
    /// By runbook and topology: a rollback is not compared with a rebuild.
    pub runbooks: Vec<Recoveries>,
    /// Real runs that had no outage: upgrades, checks.
    pub without_outage: usize,
    /// Rehearsals; they count nowhere.
    pub rehearsals: usize,
}

/// The recoveries by one runbook.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Recoveries {
    /// The runbook's name.
    pub runbook: String,
    /// One server or several.
    pub topology: Topology,
    /// How many outages ended with the run's success; only these are counted in what follows.
    pub recovered: usize,
    /// In half of them at most.
    pub median_seconds: Option<f64>,
    /// In nine of ten at most: of fewer than ten, the longest.
    pub p90_seconds: Option<f64>,
    /// How many took longer than they may.
    pub over_budget: usize,
    /// The older half against the newer half; none of fewer than four.
    pub trend: Option<Trend>,
    /// Phases of the outage, in the runbook's order.
    pub phases: Vec<PhaseHistory>,
    /// The last ones, oldest first; those that did not end in success, too.
    pub outages: Vec<Outage>,
}

/// Medians of the older and of the newer half.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Trend {
    /// Of the older half.
    pub earlier_seconds: f64,
    /// Of the newer half; the one in the middle is here.
    pub lately_seconds: f64,
}

/// A phase of the outage over all recoveries.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PhaseHistory {
    /// Its name.
    pub id: PhaseId,
    /// In half of them at most.
    pub median_seconds: f64,
    /// In nine of ten at most.
    pub p90_seconds: f64,
    /// What it may take, as the newest run has it.
    pub budget_seconds: Option<f64>,
    /// How often it took longer than it might in its run.
    pub over_budget: usize,
    /// In how many recoveries it ran.
    pub count: usize,
}

/// One outage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Outage {
    /// The run.
    pub run: RunId,
    /// How the run ended.
    pub verdict: Verdict,
    /// From the first attempt of an outage phase to the end of the last one, with what was only waited for.
    pub recovery: Recovery,
}

impl Outage {
    /// Whether it ended with the success of its run: only then it tells how long a recovery takes.
    pub fn is_recovered(&self) -> bool {
        self.verdict == Verdict::Succeeded && self.recovery.ended_at.is_some()
    }
}

impl Mttr {
    /// Of every cluster in a history, or of those with this name; `last` outages of each runbook are listed.
    pub fn of(kept: &Kept, name: Option<&str>, last: usize) -> Self {
        let mut clusters: Vec<ClusterRecoveries> = kept
            .clusters()
            .into_iter()
            .filter(|entries| name.is_none_or(|name| entries.iter().all(|entry| entry.cluster == name)))
            .map(|entries| cluster(&entries, last))
            .collect();
        clusters.sort_by(|a, b| a.cluster.cmp(&b.cluster));
        Self { schema: MTTR_SCHEMA.to_owned(), clusters }
    }
}

/// Runs of one cluster, oldest first, at least one.
fn cluster(entries: &[&Entry], last: usize) -> ClusterRecoveries {
    let real = || entries.iter().filter(|entry| entry.rehearsal.is_none());
    let mut groups: BTreeMap<(String, bool), Vec<&Entry>> = BTreeMap::new();
    for entry in real().filter(|entry| entry.recovery.is_some()) {
        let key = (entry.runbook.clone(), entry.topology == Topology::Single);
        groups.entry(key).or_default().push(entry);
    }
    let newest = entries.last();
    ClusterRecoveries {
        cluster: newest.map(|entry| entry.cluster.clone()).unwrap_or_default(),
        servers: newest.map(|entry| entry.servers.clone()).unwrap_or_default(),
        runbooks: groups.into_iter().map(|((runbook, _), entries)| recoveries(runbook, &entries, last)).collect(),
        without_outage: real().filter(|entry| entry.recovery.is_none()).count(),
        rehearsals: entries.len() - real().count(),
    }
}

fn recoveries(runbook: String, entries: &[&Entry], last: usize) -> Recoveries {
    let outage = |entry: &&Entry| {
        let recovery = entry.recovery.clone()?;
        Some(Outage { run: entry.run.clone(), verdict: entry.verdict.clone(), recovery })
    };
    let mut outages: Vec<Outage> = entries.iter().filter_map(outage).collect();
    let recovered: Vec<&Outage> = outages.iter().filter(|outage| outage.is_recovered()).collect();
    let took: Vec<f64> = recovered.iter().map(|outage| outage.recovery.seconds).collect();
    let over = recovered.iter().filter(|outage| outage.recovery.verdict == BudgetVerdict::Over).count();
    let (median_seconds, p90_seconds, trend) = (share(&took, 0.5), share(&took, 0.9), trend(&took));
    let succeeded = entries.iter().copied().filter(|entry| recovered.iter().any(|outage| outage.run == entry.run));
    let phases = phases(&succeeded.collect::<Vec<_>>());
    let recovered = took.len();
    outages.drain(..outages.len().saturating_sub(last));
    let topology = entries.first().map_or(Topology::Ha, |entry| entry.topology);
    Recoveries { runbook, topology, recovered, median_seconds, p90_seconds, over_budget: over, trend, phases, outages }
}

/// The value that this share of values does not exceed.
fn share(values: &[f64], share: f64) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    quantile(&sorted, share)
}

/// Of times in the order in which they happened.
fn trend(took: &[f64]) -> Option<Trend> {
    if took.len() < TREND_MIN {
        return None;
    }
    let (earlier, lately) = took.split_at(took.len() / 2);
    Some(Trend { earlier_seconds: share(earlier, 0.5)?, lately_seconds: share(lately, 0.5)? })
}

/// Phases of the outage of these runs, in the order of the newest.
fn phases(entries: &[&Entry]) -> Vec<PhaseHistory> {
    let Some(newest) = entries.last() else { return Vec::new() };
    let of = |id: &PhaseId| {
        let all = entries.iter().flat_map(|entry| &entry.phases);
        all.filter(|phase| phase.id == *id && phase.verdict != BudgetVerdict::NotBegun).collect::<Vec<_>>()
    };
    let outage = newest.phases.iter().filter(|phase| phase.clock == PhaseClock::Outage);
    outage
        .filter_map(|phase| {
            let ran = of(&phase.id);
            let took: Vec<f64> = ran.iter().map(|phase| phase.seconds).collect();
            Some(PhaseHistory {
                id: phase.id.clone(),
                median_seconds: share(&took, 0.5)?,
                p90_seconds: share(&took, 0.9)?,
                budget_seconds: phase.budget_seconds,
                over_budget: ran.iter().filter(|phase| phase.verdict == BudgetVerdict::Over).count(),
                count: took.len(),
            })
        })
        .collect()
}
