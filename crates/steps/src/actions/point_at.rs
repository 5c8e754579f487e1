//! PointAt: the server's `server:` points at the restored server; the restored server's own is empty.

use rke2flow_engine::action::{ActionInfo, Place};
use rke2flow_engine::value::Param;
use serde::{Deserialize, Serialize};

use crate::actions::{Goal, info};

/// Goal: the server's `server:` points at the restored server; the restored server's own is empty.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PointAt {
    /// Name of the restored server, or a URL.
    pub server: Param<String>,
}

impl Goal for PointAt {
    const INFO: ActionInfo = info(
        "PointAt",
        "the server's `server:` points at the restored server; the restored server's own is empty",
        Place::Host,
        2,
    );
}
