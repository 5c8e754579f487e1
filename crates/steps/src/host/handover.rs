//! Orders of other runs that still work on the hosts when a run has taken the cluster over.

use std::time::Duration;

use rke2flow_engine::clock::Clock;
use rke2flow_engine::id::{HostName, RunId};

use super::Claims;
use crate::answer::Survey;

/// How long orders of other runs are waited for, in cluster time: a reset takes a minute, most others seconds. Less than
/// what the engine gives the claim as a whole.
const HANDOVER: Duration = Duration::from_secs(150);
/// Time between two looks.
const POLL: Duration = Duration::from_secs(2);

/// An order of another run that works on a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AtWork {
    /// The host.
    pub host: HostName,
    /// Its unit: `rke2flow-<run>-…`.
    pub unit: String,
    /// Whether it is a cluster-reset, as far as the host can tell.
    pub resets: bool,
}

impl Claims {
    /// Waits until no order of another run works on a host that answers, or the time is up; what works then. Once this
    /// run has the claim, hosts refuse every further order of the others: what has begun is all that can still change them.
    pub async fn await_others(&self, run: &RunId, clock: &Clock, say: impl Fn(&[AtWork])) -> Vec<AtWork> {
        let deadline = clock.deadline(HANDOVER);
        let mut told = Vec::new();
        loop {
            let at_work = self.others_at_work(run).await;
            if at_work.is_empty() || clock.left_until(deadline).is_zero() {
                return at_work;
            }
            if told != at_work {
                say(&at_work);
                told = at_work;
            }
            clock.sleep(POLL).await;
        }
    }

    async fn others_at_work(&self, run: &RunId) -> Vec<AtWork> {
        let surveys = self.surveys().await;
        let answered = surveys.into_iter().filter_map(|(host, survey)| Some((host, survey.ok()?)));
        answered.flat_map(|(host, survey)| others(&host, &survey, run)).collect()
    }
}

fn others(host: &HostName, survey: &Survey, run: &RunId) -> Vec<AtWork> {
    let units = survey.our_units.iter().filter(|unit| !is_of(unit, run.as_str()));
    let resets = |unit: &str| survey.reset.as_ref().is_some_and(|reset| !reset.proved && is_of(unit, &reset.run));
    units.map(|unit| AtWork { host: host.clone(), unit: unit.clone(), resets: resets(unit) }).collect()
}

fn is_of(unit: &str, run: &str) -> bool {
    unit.strip_prefix("rke2flow-").and_then(|rest| rest.strip_prefix(run)).is_some_and(|rest| rest.starts_with('-'))
}
