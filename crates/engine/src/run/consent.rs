//! How a person at the keyboard is asked at a gate.

use async_trait::async_trait;

use crate::state::OpenGate;

/// Asks a person. The same gate may be answered through the inbox meanwhile; the question is dropped then.
#[async_trait]
pub trait Consent: Send + Sync {
    /// Asks, and waits for the answer.
    async fn ask(&self, gate: &OpenGate) -> Consented;
}

/// What came of asking.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Consented {
    /// Go on.
    Yes {
        /// Who, and how.
        who: String,
    },
    /// Do not.
    No {
        /// Who, and how.
        who: String,
        /// Why, when it was said.
        reason: String,
    },
    /// There is nobody to ask: the run stops at the gate and can be resumed.
    NobodyHere,
}

/// No terminal: every gate stops the run.
#[derive(Debug, Clone, Copy, Default)]
pub struct NobodyHere;

#[async_trait]
impl Consent for NobodyHere {
    async fn ask(&self, _gate: &OpenGate) -> Consented {
        Consented::NobodyHere
    }
}
