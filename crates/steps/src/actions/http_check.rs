//! HttpCheck: these URLs answer 2xx or 3xx.

use rke2flow_engine::action::{ActionInfo, Place};
use rke2flow_engine::value::Param;
use serde::{Deserialize, Serialize};

use crate::actions::{Goal, info};

/// Goal: these URLs answer 2xx or 3xx.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpCheck {
    /// The URLs; those of the cluster file when empty.
    #[serde(default)]
    pub urls: Param<Vec<String>>,
}

impl Goal for HttpCheck {
    const INFO: ActionInfo =
        ActionInfo { changes: false, ..info("HttpCheck", "these URLs answer 2xx or 3xx", Place::Operator, 5) };
}
