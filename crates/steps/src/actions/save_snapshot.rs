//! SaveSnapshot: an etcd snapshot of this run exists on the server, is sound, and is in the bucket when there is one.

use rke2flow_engine::action::{ActionInfo, Place};
use rke2flow_engine::value::{FactSpec, ValueType};
use serde::{Deserialize, Serialize};

use crate::actions::{Goal, info};

/// Goal: an etcd snapshot of this run exists on the server, is sound, and is in the bucket when there is one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SaveSnapshot {}

impl Goal for SaveSnapshot {
    const INFO: ActionInfo = ActionInfo {
        facts: &[
            FactSpec { name: "host", kind: ValueType::Text },
            FactSpec { name: "path", kind: ValueType::Text },
            FactSpec { name: "file", kind: ValueType::Text },
            FactSpec { name: "size", kind: ValueType::Number },
            FactSpec { name: "sha256", kind: ValueType::Text },
            FactSpec { name: "s3_key", kind: ValueType::Text },
            FactSpec { name: "taken_at", kind: ValueType::Time },
            FactSpec { name: "version", kind: ValueType::Version },
        ],
        ..info(
            "SaveSnapshot",
            "an etcd snapshot of this run exists on the server, is sound, and is in the bucket when there is one",
            Place::Host,
            30,
        )
    };
}
