//! Gate: a person has said yes.

use rke2flow_engine::action::{ActionInfo, Place};
use rke2flow_engine::value::Param;
use serde::{Deserialize, Serialize};

use crate::actions::{Goal, info};

/// Goal: a person has said yes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gate {
    /// What the person is asked.
    pub show: Param<String>,
}

impl Goal for Gate {
    const INFO: ActionInfo =
        ActionInfo { changes: false, gate: true, ..info("Gate", "a person has said yes", Place::Anywhere, 60) };
}
