//! Connecting to a cluster: everything that refuses is told at once, host by host, before anything is done.

use std::sync::Arc;

use jiff::Timestamp;
use rke2flow_engine::cluster::Cluster;
use rke2flow_engine::id::HostName;
use rke2flow_engine::plan::Plan;
use rke2flow_steps::access::ssh::HostReport;
use rke2flow_steps::access::{self, Connected};
use rke2flow_steps::answer::ClaimState;
use rke2flow_steps::host::Takeover;
use rke2flow_steps::ports::{Access, AccessError};

use crate::exit::{Exit, Problem};
use crate::found::left_on;
use crate::lost;
use crate::passphrase::AtTerminal;
use crate::runs::Runs;

/// What one host answered to the first look.
pub type Checked = (HostName, Result<HostReport, AccessError>);

/// Connects to every host that is not lost. Refuses, with all of them named, when one cannot be used, when one that is
/// lost answers, and when one was lost to an earlier run and has not been cleaned since, unless the plan is to do so.
pub async fn reach(cluster: Arc<Cluster>, plan: &Plan) -> Result<Reached, Problem> {
    let lost: Vec<HostName> = plan.hosts.iter().filter(|host| host.lost).map(|host| host.name.clone()).collect();
    let connected = open(cluster.clone(), &lost).await?;
    let alive = hosts(&cluster, &lost);
    let (checked, of_lost) = tokio::join!(connected.shell.check_all(&alive), connected.shell.check_all(&lost));
    let claim = held(&checked);
    let left = left_behind(&checked);
    let marks = lost::marks(&checked);
    let refused = refusals(checked);
    if !refused.is_empty() {
        return Err(unreachable(&refused));
    }
    lost::must_be_gone(&of_lost)?;
    lost::must_be_clean(&alive, &marks, plan)?;
    Ok(Reached { access: connected.access, claim, left })
}

/// A cluster whose hosts all answered.
pub struct Reached {
    /// The way to them.
    pub access: Access,
    /// The greatest claim that a host remembers and nobody has released.
    pub claim: Option<ClaimState>,
    /// What its hosts have of a run that is not finished, one line each.
    left: Vec<String>,
}

impl Reached {
    /// Refuses when somebody holds the cluster whose claim may not be passed over: no run is created then. Says what is
    /// taken over, otherwise.
    pub fn must_be_free(&self, who: &str, takeover: Takeover, runs: &Runs) -> Result<(), Problem> {
        let Some(state) = &self.claim else { return Ok(()) };
        let may_pass = match takeover {
            Takeover::Anyone => true,
            Takeover::OwnRuns => state.claim.holder == who,
            Takeover::No => false,
        };
        let run = &state.claim.run;
        if may_pass {
            if takeover == Takeover::Anyone {
                eprintln!("taking over from {}, run {run}", state.claim.holder);
                self.left.iter().for_each(|line| eprintln!("  {line}"));
            }
            return Ok(());
        }
        let since = Timestamp::from_second(state.since).map_or_else(|_| "unknown".to_owned(), |at| at.to_string());
        let next = if runs.see(run).is_ok() {
            [format!("status {run}"), format!("resume {run}"), format!("abort {run}")]
                .map(|rest| runs.again(&rest))
                .join("\n")
        } else {
            format!(
                "ask {}\nrke2flow run … --takeover   (when that run will not go on, for certain; what it has begun is waited for)",
                state.claim.holder
            )
        };
        Err(Problem::new(
            Exit::Held,
            format!("the cluster is held by {} since {since}, for run {run}", state.claim.holder),
        )
        .observed(self.left.join("\n"))
        .next(next))
    }
}

fn left_behind(checked: &[Checked]) -> Vec<String> {
    checked.iter().filter_map(|(host, answer)| left_on(host, &answer.as_ref().ok()?.survey)).collect()
}

fn held(checked: &[Checked]) -> Option<ClaimState> {
    let states = checked.iter().filter_map(|(_, answer)| answer.as_ref().ok()?.survey.claim.clone());
    states.filter(|state| !state.released).max_by_key(|state| state.claim.number)
}

/// Connects for a run that is under way. A host that does not answer is told and may come back: its steps wait for it.
/// One that answers with another key, or not to us, refuses.
pub async fn reach_again(cluster: Arc<Cluster>, lost: &[HostName]) -> Result<Access, Problem> {
    let connected = open(cluster.clone(), lost).await?;
    let (silent, refused): (Vec<_>, Vec<_>) = refusals(connected.shell.check_all(&hosts(&cluster, lost)).await)
        .into_iter()
        .partition(|(_, error)| matches!(error, AccessError::Unreachable { .. } | AccessError::Unknown { .. }));
    for (host, error) in silent {
        eprintln!("warning: {host} does not answer: {error}");
    }
    if refused.is_empty() { Ok(connected.access) } else { Err(unreachable(&refused)) }
}

/// Prepares connections; opens none.
pub async fn open(cluster: Arc<Cluster>, lost: &[HostName]) -> Result<Connected, Problem> {
    let asked = Arc::new(AtTerminal);
    access::connect_asking(cluster, lost, asked)
        .await
        .map_err(|error| Problem::bad_input("cannot use the cluster file").observed(error))
}

/// The hosts that are not lost.
pub fn hosts(cluster: &Cluster, lost: &[HostName]) -> Vec<HostName> {
    cluster.hosts.iter().map(|host| host.name.clone()).filter(|name| !lost.contains(name)).collect()
}

fn refusals(checked: Vec<Checked>) -> Vec<(HostName, AccessError)> {
    checked.into_iter().filter_map(|(host, answer)| Some((host, answer.err()?))).collect()
}

fn unreachable(refused: &[(HostName, AccessError)]) -> Problem {
    let told: Vec<String> = refused.iter().map(|(host, error)| format!("{host}: {error}")).collect();
    let mut next = vec!["rke2flow doctor"];
    if refused.iter().any(|(_, error)| matches!(error, AccessError::Refused { .. })) {
        next.push("rke2flow trust   (when it is the host key, and you know why)");
    }
    if refused.iter().any(|(_, error)| matches!(error, AccessError::Unreachable { .. })) {
        next.push("rke2flow … --lost HOST   (when it is powered off for certain)");
    }
    Problem::new(Exit::Refused, format!("{} cannot be used, nothing was changed", counted(refused.len())))
        .observed(told.join("\n"))
        .next(next.join("\n"))
}

fn counted(hosts: usize) -> String {
    if hosts == 1 { "1 host".to_owned() } else { format!("{hosts} hosts") }
}
