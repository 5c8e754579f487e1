//! The engine's right to act, had from the hosts.

use async_trait::async_trait;
use jiff::Timestamp;
use rke2flow_engine::action::{Claim, Failure};
use rke2flow_engine::id::RunId;
use rke2flow_engine::run::{ClaimError, Claims};
use rke2flow_steps::host::{self, ClaimsError, Takeover};

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
}

#[async_trait]
impl Claims for ClusterClaims {
    async fn acquire(&self, run: &RunId) -> Result<Claim, ClaimError> {
        let claimed = self.claims.acquire(&self.holder, run, self.takeover).await.map_err(refused)?;
        for (host, why) in claimed.silent {
            self.screen.say(format!("note: {host} has not heard of the claim and refuses orders until it has: {why}"));
        }
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
