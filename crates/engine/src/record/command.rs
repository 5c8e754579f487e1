//! What people ask of a run.

use serde::{Deserialize, Serialize};

/// What a person asks of a run through its inbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// Start nothing new; what runs goes on.
    Pause {
        /// Why.
        reason: String,
        /// Who.
        who: String,
    },
    /// Go on after a pause.
    Continue {
        /// Who.
        who: String,
    },
    /// Stop, take down what the run still has on hosts, close it.
    Abort {
        /// Why.
        reason: String,
        /// Who.
        who: String,
    },
    /// Say yes at a gate.
    Approve {
        /// The step, or an instance of it.
        step: String,
        /// Who.
        who: String,
        /// Why.
        reason: String,
    },
    /// Say no at a gate.
    Deny {
        /// The step, or an instance of it.
        step: String,
        /// Who.
        who: String,
        /// Why.
        reason: String,
    },
    /// Count a failed or waiting step as done.
    Skip {
        /// The step, or an instance of it.
        step: String,
        /// Who.
        who: String,
        /// Why.
        reason: String,
    },
    /// Try a failed step again.
    Retry {
        /// The step, or an instance of it.
        step: String,
        /// Who.
        who: String,
    },
}
