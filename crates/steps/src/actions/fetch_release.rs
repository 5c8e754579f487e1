//! FetchRelease: the release's files are on the host, and their checksums fit.

use rke2flow_engine::action::{ActionInfo, Place};
use rke2flow_engine::value::Param;
use serde::{Deserialize, Serialize};

use crate::actions::{Goal, info};

/// Goal: the release's files are on the host, and their checksums fit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FetchRelease {
    /// `v1.33.4+rke2r1`
    pub version: Param<String>,
}

impl Goal for FetchRelease {
    const INFO: ActionInfo =
        info("FetchRelease", "the release's files are on the host, and their checksums fit", Place::Host, 120);
}
