//! The right to act on a cluster: taken from its servers, kept by a majority of them, given back at the end.

use rke2flow_engine::action::Claim;
use rke2flow_engine::id::{HostName, RunId};

use super::Hosts;
use crate::answer::{ClaimAnswer, ClaimState, Survey};
use crate::command::{ClaimCommand, Look};
use crate::ports::AccessError;

/// Takes, checks and gives back claims.
#[derive(Clone)]
pub struct Claims {
    hosts: Hosts,
    lost: Vec<HostName>,
}

/// A claim that a majority of the servers remember.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claimed {
    /// The claim.
    pub claim: Claim,
    /// The hosts that did not answer: they refuse this run's orders until they have heard of it.
    pub silent: Vec<(HostName, String)>,
}

/// Whose unreleased claim may be passed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Takeover {
    /// Nobody's: only this run's own.
    No,
    /// The same person's other runs: a rollback that supersedes the upgrade before it.
    OwnRuns,
    /// Anybody's: a person said `takeover`.
    Anyone,
}

/// Why there is no claim.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClaimsError {
    /// Another operator or run holds the cluster.
    #[error("{host} is held by {}", who(.state))]
    Held {
        /// The first host that said so.
        host: HostName,
        /// Who, and since when.
        state: ClaimState,
    },
    /// Too few servers answered.
    #[error("only {answered} of {servers} servers answer, {needed} are needed: {why}")]
    NoMajority {
        /// Servers that took the claim.
        answered: usize,
        /// Servers that are not declared lost.
        servers: usize,
        /// The majority of those.
        needed: usize,
        /// What the others said.
        why: String,
    },
    /// The claim is for another cluster.
    #[error("the claim is for cluster `{0}`")]
    OtherCluster(String),
}

impl Claims {
    /// Claims on the hosts that are not lost.
    pub fn new(hosts: Hosts, lost: Vec<HostName>) -> Self {
        Self { hosts, lost }
    }

    /// Takes a new claim: its number is one more than the greatest that any host remembers.
    ///
    /// Every host is asked before the first one is changed, so that a cluster that is held is left as it was. Then
    /// servers come first, in file order, then agents; the first refusal ends it. A claim of the same run is taken up
    /// again with its own number.
    pub async fn acquire(&self, holder: &str, run: &RunId, takeover: Takeover) -> Result<Claimed, ClaimsError> {
        let mut greatest = 0;
        let mut own = None;
        for (host, state) in self.remembered().await {
            let Ok(Some(state)) = state else { continue };
            greatest = greatest.max(state.claim.number);
            if state.claim.run == *run && state.claim.holder == holder {
                own = own.max(Some(state.claim.number));
            } else if !state.released && !may_pass(&state, holder, takeover) {
                return Err(ClaimsError::Held { host, state });
            }
        }
        // A number that another claim has passed is worth nothing any more.
        let number = own.filter(|own| *own == greatest).unwrap_or(greatest + 1);
        let cluster = self.hosts.access().cluster.name.clone();
        self.take(Claim { number, holder: holder.to_owned(), run: run.clone(), cluster }).await
    }

    /// Makes every host remember this claim: a resumed run takes its own up again.
    pub async fn take(&self, claim: Claim) -> Result<Claimed, ClaimsError> {
        let cluster = &self.hosts.access().cluster.name;
        if claim.cluster != *cluster {
            return Err(ClaimsError::OtherCluster(claim.cluster));
        }
        let (mut silent, mut taken) = (Vec::new(), 0);
        let servers = self.servers();
        // One after the other: two operators who start at once must meet at the same first server.
        for host in &servers {
            match self.hosts.claim(host, ClaimCommand::Take(claim.clone())).await {
                Ok(ClaimAnswer::Accepted) => taken += 1,
                Ok(ClaimAnswer::Refused(state)) => return Err(ClaimsError::Held { host: host.clone(), state }),
                Err(error) => silent.push((host.clone(), error.to_string())),
            }
        }
        majority(taken, servers.len(), &silent)?;
        let agents = self.agents();
        let takes = agents.iter().map(|host| self.hosts.claim(host, ClaimCommand::Take(claim.clone())));
        let answers = futures::future::join_all(takes).await;
        for (host, answer) in agents.iter().zip(answers) {
            match answer {
                Ok(ClaimAnswer::Accepted) => {}
                Ok(ClaimAnswer::Refused(state)) => return Err(ClaimsError::Held { host: host.clone(), state }),
                Err(error) => silent.push((host.clone(), error.to_string())),
            }
        }
        Ok(Claimed { claim, silent })
    }

    /// Whether a majority of the servers still remember this claim, unreleased.
    pub async fn verify(&self, claim: &Claim) -> Result<(), ClaimsError> {
        let (mut held, mut silent) = (0, Vec::new());
        let servers = self.servers();
        let states = futures::future::join_all(servers.iter().map(|host| self.state(host))).await;
        for (host, state) in servers.iter().zip(states) {
            match state {
                Ok(Some(state)) if state.claim == *claim && !state.released => held += 1,
                Ok(Some(state)) if state.claim.number > claim.number => {
                    return Err(ClaimsError::Held { host: host.clone(), state });
                }
                Ok(Some(state)) => silent.push((host.clone(), format!("remembers {}", who(&state)))),
                Ok(None) => silent.push((host.clone(), "remembers no claim".to_owned())),
                Err(error) => silent.push((host.clone(), error.to_string())),
            }
        }
        majority(held, servers.len(), &silent)
    }

    /// Gives the claim back on every host; names the hosts that did not hear of it.
    pub async fn release(&self, claim: &Claim) -> Vec<(HostName, String)> {
        let hosts = self.everyone();
        let releases = hosts.iter().map(|host| self.hosts.claim(host, ClaimCommand::Release(claim.clone())));
        let answers = futures::future::join_all(releases).await;
        let failed =
            |(host, answer): (HostName, Result<ClaimAnswer, AccessError>)| Some((host, answer.err()?.to_string()));
        hosts.into_iter().zip(answers).filter_map(failed).collect()
    }

    /// What every host remembers; asked all at once.
    pub async fn remembered(&self) -> Vec<(HostName, Result<Option<ClaimState>, AccessError>)> {
        let hosts = self.everyone();
        let states = futures::future::join_all(hosts.iter().map(|host| self.state(host))).await;
        hosts.into_iter().zip(states).collect()
    }

    /// What every host tells of itself; asked all at once.
    pub(super) async fn surveys(&self) -> Vec<(HostName, Result<Survey, AccessError>)> {
        let hosts = self.everyone();
        let surveys = futures::future::join_all(hosts.iter().map(|host| self.hosts.look(host, Look::Survey))).await;
        hosts.into_iter().zip(surveys).collect()
    }

    async fn state(&self, host: &HostName) -> Result<Option<ClaimState>, AccessError> {
        let survey: Survey = self.hosts.look(host, Look::Survey).await?;
        Ok(survey.claim)
    }

    fn everyone(&self) -> Vec<HostName> {
        self.servers().into_iter().chain(self.agents()).collect()
    }

    fn servers(&self) -> Vec<HostName> {
        let names = self.hosts.access().cluster.servers().map(|host| host.name.clone());
        names.filter(|name| !self.lost.contains(name)).collect()
    }

    fn agents(&self) -> Vec<HostName> {
        let names = self.hosts.access().cluster.agents().map(|host| host.name.clone());
        names.filter(|name| !self.lost.contains(name)).collect()
    }
}

fn may_pass(state: &ClaimState, holder: &str, takeover: Takeover) -> bool {
    match takeover {
        Takeover::No => false,
        Takeover::OwnRuns => state.claim.holder == holder,
        Takeover::Anyone => true,
    }
}

fn majority(taken: usize, servers: usize, silent: &[(HostName, String)]) -> Result<(), ClaimsError> {
    let needed = servers / 2 + 1;
    if taken >= needed {
        return Ok(());
    }
    let why = silent.iter().map(|(host, why)| format!("{host}: {why}")).collect::<Vec<_>>().join("; ");
    Err(ClaimsError::NoMajority { answered: taken, servers, needed, why })
}

/// Who holds a claim, for a person.
pub(super) fn who(state: &ClaimState) -> String {
    let claim = &state.claim;
    let since = jiff::Timestamp::from_second(state.since).map_or_else(|_| "unknown".to_owned(), |at| at.to_string());
    let released = if state.released { ", released" } else { "" };
    format!("{} with run {} since {since} (claim {}{released})", claim.holder, claim.run, claim.number)
}
