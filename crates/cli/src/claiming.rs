//! The engine's right to act, had from the hosts.

use async_trait::async_trait;
use jiff::Timestamp;
use rke2flow_engine::action::{Claim, Failure};
use rke2flow_engine::clock::Clock;
use rke2flow_engine::id::RunId;
use rke2flow_engine::plan::Plan;
use rke2flow_engine::run::{ClaimError, Claims};
use rke2flow_steps::host::{self, AtWork, ClaimsError, Takeover};

use crate::screen::Screen;

/// Claims of one operator on one cluster.
pub struct ClusterClaims {
    /// How hosts are asked.
    pub claims: host::Claims,
    /// Who asks.
    pub holder: String,
    /// Whose unreleased claim may be passed over.
    pub takeover: Takeover,
    /// Where silent hosts are named.
    pub screen: Screen,
    /// The cluster's time.
    pub clock: Clock,
    /// What becomes of a reset of another run that does not end.
    pub stuck_reset: StuckReset,
}

/// What becomes of a cluster-reset of another run that does not end in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StuckReset {
    /// The run kills every server first, and a reset with it.
    IsKilled,
    /// Nobody ends it: the run does not begin.
    Refuses,
}

impl StuckReset {
    /// What a plan makes of it.
    pub fn of(plan: &Plan) -> Self {
        let mut actions = plan.steps.iter().flat_map(|step| &step.actions);
        let kills = plan.supersedes && actions.any(|action| action.name == "KillNode");
        if kills { Self::IsKilled } else { Self::Refuses }
    }
}

#[async_trait]
impl Claims for ClusterClaims {
    async fn acquire(&self, run: &RunId) -> Result<Claim, ClaimError> {
        let claimed = self.claims.acquire(&self.holder, run, self.takeover).await.map_err(refused)?;
        for (host, why) in claimed.silent {
            self.screen.say(format!("note: {host} has not heard of the claim and refuses orders until it has: {why}"));
        }
        self.await_others(run).await?;
        Ok(claimed.claim)
    }

    async fn verify(&self, claim: &Claim) -> Result<(), ClaimError> {
        self.claims.verify(claim).await.map_err(refused)
    }

    async fn release(&self, claim: &Claim) -> Result<(), ClaimError> {
        let deaf = self.claims.release(claim).await;
        for (host, why) in &deaf {
            self.screen.say(format!("note: {host} still remembers the claim: {why}"));
        }
        Ok(())
    }
}

impl ClusterClaims {
    /// What other runs have begun on hosts goes on without them: nothing is begun beside it.
    async fn await_others(&self, run: &RunId) -> Result<(), ClaimError> {
        let say =
            |at_work: &[AtWork]| self.screen.say(format!("waiting for orders of another run: {}", named(at_work)));
        let mut left = self.claims.await_others(run, &self.clock, say).await;
        if self.stuck_reset == StuckReset::IsKilled {
            let (resets, others): (Vec<_>, Vec<_>) = left.into_iter().partition(|order| order.resets);
            for order in resets {
                let (unit, host) = (order.unit, order.host);
                self.screen.say(format!("note: the reset {unit} on {host} does not end: it is killed with its server"));
            }
            left = others;
        }
        if left.is_empty() {
            return Ok(());
        }
        let next = left.iter().map(|order| format!("ssh {} systemctl kill --signal=KILL {}", order.host, order.unit));
        let what = "orders of another run do not end, and nothing is begun beside them";
        Err(Failure::transient(what).observed(named(&left)).next(next.collect::<Vec<_>>().join("\n")).into())
    }
}

fn named(at_work: &[AtWork]) -> String {
    at_work.iter().map(|order| format!("{} on {}", order.unit, order.host)).collect::<Vec<_>>().join(", ")
}

fn refused(error: ClaimsError) -> ClaimError {
    match error {
        ClaimsError::Held { state, .. } => ClaimError::HeldBy {
            holder: state.claim.holder,
            since: Timestamp::from_second(state.since).map_or_else(|_| "unknown".to_owned(), |at| at.to_string()),
            run: state.claim.run.to_string(),
        },
        ClaimsError::NoMajority { .. } => {
            ClaimError::Failed(Failure::transient(error.to_string()).next("rke2flow doctor"))
        }
        ClaimsError::OtherCluster(_) => ClaimError::Failed(Failure::permanent(error.to_string())),
    }
}
