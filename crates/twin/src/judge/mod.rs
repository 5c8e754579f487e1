//! What the twin holds against those who worked on it, found in its own log and store.

pub mod evidence;
pub mod fingerprint;
pub mod verdict;

use std::time::Duration;

use rke2flow_engine::id::HostName;
use serde::Serialize;

/// Something that must never happen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Violation {
    /// What.
    pub kind: ViolationKind,
    /// Cluster time since the twin began.
    pub when: Duration,
    /// Where, when it is one host's.
    pub host: Option<HostName>,
    /// What was seen.
    pub detail: String,
}

/// The things that must never happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub enum ViolationKind {
    /// Two control planes took writes at the same time.
    TwoControlPlanes,
    /// A run reset the cluster again after the restored control plane had started: its writes are gone.
    ResetAfterStart,
    /// A write that was acknowledged, and that no rollback may discard, is gone.
    AcknowledgedWriteLost,
    /// A write made after the snapshot is still there after the rollback.
    WriteSurvivedRollback,
    /// The token or a key stood in a command line, a unit or a log.
    SecretExposed,
    /// Something that keeps others from acting is still there at the end.
    FenceLeftUp,
    /// etcd lost its quorum although nobody had declared an outage.
    QuorumLost,
    /// No API server answered although nobody had declared an outage, and there are several.
    ApiLost,
    /// Hosts run different versions at the end, or another one than is installed.
    VersionsDiffer,
    /// A server was started with the data of a control plane that has been replaced.
    StaleJoiner,
    /// A server came up as a new and empty cluster (rke2#6310).
    EmptyCluster,
    /// A unit of one name was run more than once.
    UnitRunTwice,
    /// Nothing serves the Kubernetes API at the end, or a node is missing.
    ClusterDown,
    /// A plan of the System Upgrade Controller that was made on the way is still there at the end, or a trace of it.
    PlanLeft,
}

impl ViolationKind {
    /// All of them, in order.
    pub const ALL: [Self; 14] = [
        Self::TwoControlPlanes,
        Self::ResetAfterStart,
        Self::AcknowledgedWriteLost,
        Self::WriteSurvivedRollback,
        Self::SecretExposed,
        Self::FenceLeftUp,
        Self::QuorumLost,
        Self::ApiLost,
        Self::VersionsDiffer,
        Self::StaleJoiner,
        Self::EmptyCluster,
        Self::UnitRunTwice,
        Self::ClusterDown,
        Self::PlanLeft,
    ];
}
