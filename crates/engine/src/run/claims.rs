//! Who may act on the cluster: the engine takes, re-reads and releases the right; the catalogue's crate knows how.

use async_trait::async_trait;

use crate::action::{Claim, Failure, FailureClass};
use crate::id::RunId;

/// The right to act on a cluster, as its hosts remember it. Each call ends by a deadline of its own.
#[async_trait]
pub trait Claims: Send + Sync {
    /// Takes the right for this run, or takes it up again. When this returns, a majority of the servers know.
    async fn acquire(&self, run: &RunId) -> Result<Claim, ClaimError>;

    /// Reads again whether the claim is still ours.
    async fn verify(&self, claim: &Claim) -> Result<(), ClaimError>;

    /// Gives the right back.
    async fn release(&self, claim: &Claim) -> Result<(), ClaimError>;
}

/// Why the right to act could not be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClaimError {
    /// Another operator holds the cluster.
    #[error("the cluster is held by {holder} since {since} (run {run})")]
    HeldBy {
        /// `bob@laptop`.
        holder: String,
        /// When it was taken.
        since: String,
        /// For which run.
        run: String,
    },
    /// It could not be found out.
    #[error(transparent)]
    Failed(#[from] Failure),
}

impl ClaimError {
    /// The failure of the step that needed the claim.
    pub(crate) fn into_failure(self) -> Failure {
        match self {
            ClaimError::HeldBy { .. } => Failure::of(FailureClass::Fenced, self.to_string()),
            ClaimError::Failed(failure) => failure,
        }
    }
}

/// Nobody else acts: for tests and for runbooks that touch no host.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoClaims;

#[async_trait]
impl Claims for NoClaims {
    async fn acquire(&self, run: &RunId) -> Result<Claim, ClaimError> {
        Ok(Claim { number: 1, holder: "nobody".to_owned(), run: run.clone(), cluster: String::new() })
    }

    async fn verify(&self, _claim: &Claim) -> Result<(), ClaimError> {
        Ok(())
    }

    async fn release(&self, _claim: &Claim) -> Result<(), ClaimError> {
        Ok(())
    }
}
