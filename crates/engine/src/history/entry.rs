//! One run in the history: what it took, without its journal. One line of the history file.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::durations::Measured;
use super::gather::{Stopwatch, is_rehearsal};
use crate::action::Catalogue;
use crate::cluster::{Role, Topology};
use crate::id::{HostName, RunId};
use crate::plan::Plan;
use crate::record::{Record, Verdict};
use crate::report::{PhaseReport, Recovery, Reporter};
use crate::run::RunError;

/// The version of the lines of the history file. A reader refuses a higher one.
pub const ENTRY_VERSION: u32 = 1;

/// How many measurements of a kind one run keeps; of more, so many that stand for all are kept.
pub const MEASUREMENTS_MAX: usize = 64;

/// A closed run. Durations are seconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// [`ENTRY_VERSION`].
    pub v: u32,
    /// The run.
    pub run: RunId,
    /// The cluster's name.
    pub cluster: String,
    /// The cluster's servers: two clusters of the same name that share none of them are not the same.
    pub servers: Vec<Server>,
    /// The runbook's name.
    pub runbook: String,
    /// One server or several.
    pub topology: Topology,
    /// How many times faster than life it was, when it was a rehearsal: then it only stands here so that its journal
    /// need not be read again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rehearsal: Option<u32>,
    /// When it was opened.
    pub opened_at: Timestamp,
    /// When its last record was made.
    pub ended_at: Timestamp,
    /// How it ended.
    pub verdict: Verdict,
    /// From opening to the last record.
    pub seconds: f64,
    /// The time that the cluster was out, when one of its phases is of that kind and began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recovery: Option<Recovery>,
    /// Its phases against their budgets.
    #[serde(default)]
    pub phases: Vec<PhaseReport>,
    /// What succeeded in one attempt that one engine saw from its beginning to its end.
    #[serde(default)]
    pub took: Measured,
}

/// A server, as the cluster file named it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Server {
    /// Its name.
    pub name: HostName,
    /// Its address.
    pub address: String,
}

/// The servers of a plan's cluster, lost ones included.
pub fn servers_of(plan: &Plan) -> Vec<Server> {
    let servers = plan.hosts.iter().filter(|host| host.role == Role::Server);
    servers.map(|host| Server { name: host.name.clone(), address: host.address.clone() }).collect()
}

impl Entry {
    /// Of a run with these records; `None` while it is open.
    pub fn of<'a>(
        records: impl IntoIterator<Item = &'a Record>,
        catalogue: &dyn Catalogue,
    ) -> Result<Option<Self>, RunError> {
        let mut reading = Reading::default();
        records.into_iter().try_for_each(|record| reading.push(record))?;
        reading.finish(catalogue)
    }

    /// Whether it is of the cluster of this name with these servers. Servers may be replaced one after the other over
    /// the years: one in common is enough.
    pub fn is_of(&self, cluster: &str, servers: &[Server]) -> bool {
        self.cluster == cluster && self.servers.iter().any(|server| servers.contains(server))
    }
}

/// Folds the records of a run into its entry, one by one.
#[derive(Debug, Default)]
pub(super) struct Reading {
    reporter: Reporter,
    stopwatch: Stopwatch,
}

impl Reading {
    pub(super) fn push(&mut self, record: &Record) -> Result<(), RunError> {
        self.stopwatch.push(record);
        self.reporter.push(record)
    }

    pub(super) fn finish(self, catalogue: &dyn Catalogue) -> Result<Option<Entry>, RunError> {
        let (report, replayed, _) = self.reporter.finish()?;
        let Some(verdict) = report.verdict else { return Ok(None) };
        let rehearsal = is_rehearsal(&replayed).then_some(report.speed);
        let took = match rehearsal {
            Some(_) => Measured::new(),
            None => self.stopwatch.measured(&replayed.plan, catalogue),
        };
        Ok(Some(Entry {
            v: ENTRY_VERSION,
            run: report.run,
            cluster: report.cluster,
            servers: servers_of(&replayed.plan),
            runbook: report.runbook,
            topology: replayed.plan.topology,
            rehearsal,
            opened_at: report.opened_at,
            ended_at: report.ended_at,
            verdict,
            seconds: report.seconds,
            recovery: report.recovery,
            phases: report.phases,
            took: took.into_iter().map(|(kind, took)| (kind, representative(took))).collect(),
        }))
    }
}

/// At most [`MEASUREMENTS_MAX`] of them, rising, evenly spread over all: quantiles stay what they are.
fn representative(mut took: Vec<f64>) -> Vec<f64> {
    took.sort_by(f64::total_cmp);
    let count = took.len();
    if count <= MEASUREMENTS_MAX {
        return took;
    }
    (0..MEASUREMENTS_MAX).map(|at| took[(2 * at + 1) * count / (2 * MEASUREMENTS_MAX)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::quantile;

    #[test]
    fn of_many_measurements_so_many_are_kept_that_their_quantiles_stay() {
        let kept = representative((1..=1000).rev().map(f64::from).collect());
        assert_eq!(kept.len(), MEASUREMENTS_MAX);
        let (p50, p90) = (quantile(&kept, 0.5).unwrap(), quantile(&kept, 0.9).unwrap());
        assert!((p50 - 500.0).abs() < 16.0 && (p90 - 900.0).abs() < 16.0, "{p50} {p90}");
        assert_eq!(representative(vec![3.0, 1.0]), [1.0, 3.0]);
    }
}
