//! DisableUpgradePlans: no upgrade plan of the system-upgrade-controller acts, and none is in flight.

use rke2flow_engine::action::{ActionInfo, Place};
use rke2flow_engine::value::{FactSpec, ValueType};
use serde::{Deserialize, Serialize};

use crate::actions::{Goal, info};

/// Goal: no upgrade plan of the system-upgrade-controller acts, and none is in flight.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DisableUpgradePlans {}

impl Goal for DisableUpgradePlans {
    const INFO: ActionInfo = ActionInfo {
        facts: &[FactSpec { name: "plans", kind: ValueType::List }],
        ..info(
            "DisableUpgradePlans",
            "no upgrade plan of the system-upgrade-controller acts, and none is in flight",
            Place::Operator,
            5,
        )
    };
}
