//! What earlier runs of a cluster took: how long each kind of action, for forecasts, and how long each recovery.
//!
//! Only real runs count: never a rehearsal, never an attempt that a crash cut in two, never the time of a person.

mod durations;
mod entry;
mod forecast;
mod gather;
mod kind;
mod mttr;
mod store;

pub use durations::{Durations, Measured, quantile};
pub use entry::{ENTRY_VERSION, Entry, MEASUREMENTS_MAX, Server, servers_of};
pub use kind::{Kind, Where};
pub use mttr::{ClusterRecoveries, MTTR_SCHEMA, Mttr, Outage, PhaseHistory, Recoveries, Trend};
pub use store::{FILE_BYTES_MAX, HistoryError, Kept, RUNS_KEPT, Store};

use crate::plan::Plan;

/// How many of the newest runs a forecast is made from: what a cluster took years ago says little.
pub const RUNS_MEASURED: usize = 20;

impl Kept {
    /// The runs of the cluster that a plan is for, oldest first: those of its name that share a server with it, or with
    /// a newer one of these. So servers may be replaced over the years, and a cluster that was made anew under the same
    /// name begins without history.
    pub fn of_cluster(&self, plan: &Plan) -> Vec<&Entry> {
        let mut servers = servers_of(plan);
        let mut entries: Vec<&Entry> = Vec::new();
        for entry in self.entries.iter().rev() {
            if entry.is_of(&plan.cluster, &servers) {
                servers.extend(entry.servers.iter().cloned());
                entries.push(entry);
            }
        }
        entries.reverse();
        entries
    }

    /// The runs of each cluster, oldest first.
    pub fn clusters(&self) -> Vec<Vec<&Entry>> {
        let mut clusters: Vec<(Vec<Server>, Vec<&Entry>)> = Vec::new();
        for entry in self.entries.iter().rev() {
            let same = |(servers, entries): &&mut (Vec<Server>, Vec<&Entry>)| entry.is_of(&entries[0].cluster, servers);
            match clusters.iter_mut().find(same) {
                Some((servers, entries)) => {
                    servers.extend(entry.servers.iter().cloned());
                    entries.push(entry);
                }
                None => clusters.push((entry.servers.clone(), vec![entry])),
            }
        }
        let oldest_first = |(_, mut entries): (_, Vec<_>)| {
            entries.reverse();
            entries
        };
        clusters.into_iter().map(oldest_first).collect()
    }

    /// What the newest [`RUNS_MEASURED`] real runs on the plan's cluster took, with as many servers as now: one or
    /// several.
    pub fn durations(&self, plan: &Plan) -> Durations {
        let counts = |entry: &&Entry| entry.rehearsal.is_none() && entry.topology == plan.topology;
        let runs = self.of_cluster(plan).into_iter().filter(counts).filter(|entry| !entry.took.is_empty());
        Durations::of(runs.rev().take(RUNS_MEASURED).map(|entry| entry.took.clone()))
    }
}
