//! Unfence: upgrade plans and schedules are as they were before rke2flow stopped them.

use rke2flow_engine::action::{ActionInfo, Place};
use serde::{Deserialize, Serialize};

use crate::actions::{Goal, info};

/// Goal: upgrade plans and schedules are as they were before rke2flow stopped them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unfence {}

impl Goal for Unfence {
    const INFO: ActionInfo = info(
        "Unfence",
        "upgrade plans and schedules are as they were before rke2flow stopped them",
        Place::Operator,
        5,
    );
}
