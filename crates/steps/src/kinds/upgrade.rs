//! Kinds of the system-upgrade-controller, which acts on its own (SUC pkg/apis/upgrade.cattle.io/v1/types.go).

use serde::Deserialize;
use serde_json::Value;

use super::{Condition, Meta};

/// A Plan of the system-upgrade-controller.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(default)]
pub struct UpgradePlan {
    /// Its metadata.
    pub metadata: Meta,
    /// What is wanted.
    pub spec: UpgradePlanSpec,
    /// What is.
    pub status: UpgradePlanStatus,
}

/// What is wanted of a Plan.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct UpgradePlanSpec {
    /// Which nodes it acts on; absent: none.
    pub node_selector: Value,
    /// The version that nodes get; empty: the channel's.
    pub version: String,
    /// The URL of the channel that says which version; asked every 15 min.
    pub channel: String,
}

/// What a Plan is doing.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct UpgradePlanStatus {
    /// Nodes that it acts on now.
    pub applying: Vec<String>,
    /// The version as a tag of an image, `v1.33.4-rke2r1`; empty: the controller has not looked at it.
    pub latest_version: String,
    /// What marks a node as done.
    pub latest_hash: String,
    /// `LatestResolved`, `Validated`, `Complete`.
    pub conditions: Vec<Condition>,
}

impl UpgradePlan {
    /// The Plans of every namespace.
    pub const ALL: &str = "/apis/upgrade.cattle.io/v1/plans";

    /// The Plans of this namespace.
    pub fn collection(namespace: &str) -> String {
        format!("/apis/upgrade.cattle.io/v1/namespaces/{namespace}/plans")
    }

    /// Its path.
    pub fn path(&self) -> String {
        format!("{}/{}", Self::collection(&self.metadata.namespace), self.metadata.name)
    }
}
