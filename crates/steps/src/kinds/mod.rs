//! The kinds of Kubernetes objects that actions read, reduced to the fields they look at.
//!
//! Everything has a default: clusters of many versions are read, and a field that is absent means its empty value.

mod batch;
mod budget;
mod charts;
mod fenced;
mod guarded;
mod pod;
mod storage;
mod upgrade;

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use batch::{CronJob, CronJobSpec, Job, JobStatus};
pub use budget::{DisruptionBudget, DisruptionBudgetSpec, DisruptionBudgetStatus, Requirement, Selector};
pub use charts::{HelmChart, HelmChartSpec, HelmChartStatus};
pub use fenced::{PodRef, Schedule, ScheduleSpec, VeleroEnd, VeleroJob, VeleroJobSpec, VeleroJobStatus};
pub use guarded::{
    Endpoint, EndpointConditions, EndpointSlice, LonghornVolume, LonghornVolumeStatus, ServiceRef, Webhook,
    WebhookClient, WebhookConfiguration,
};
pub use pod::{
    ClaimName, Container, ContainerMoment, ContainerState, ContainerStatus, EmptyDir, Pod, PodSpec, PodStatus,
    PodVolume,
};
pub use storage::{Attachment, AttachmentSource, AttachmentSpec, ClaimRef, Csi, Volume, VolumeSpec};
pub use upgrade::{UpgradePlan, UpgradePlanSpec, UpgradePlanStatus};

/// What every object has.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Meta {
    /// Its name.
    pub name: String,
    /// Its namespace; empty for one that has none.
    pub namespace: String,
    /// Which object of this name.
    pub uid: String,
    /// Which state of it.
    pub resource_version: String,
    /// Which specification of it.
    pub generation: i64,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    pub annotations: BTreeMap<String, String>,
    /// When it was made.
    pub creation_timestamp: Option<Timestamp>,
    /// When its deletion was asked for.
    pub deletion_timestamp: Option<Timestamp>,
    /// What it belongs to.
    pub owner_references: Vec<Owner>,
}

/// What an object belongs to.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(default)]
pub struct Owner {
    /// `DaemonSet`, `ReplicaSet`, `Node`, `Job`.
    pub kind: String,
    /// Whether it makes another one when this one is gone.
    pub controller: bool,
    /// Its name.
    pub name: String,
}

impl Meta {
    /// The run whose label it has.
    pub fn run(&self) -> Option<&str> {
        self.labels.get(LABEL_RUN).map(String::as_str)
    }
}

/// The label of everything that a run creates.
pub const LABEL_RUN: &str = "rke2flow.io/run";
/// The label with the step that created it.
pub const LABEL_STEP: &str = "rke2flow.io/step";

/// Any object, its metadata only.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(default)]
pub struct AnyKind {
    /// Its metadata.
    pub metadata: Meta,
}

/// A node.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(default)]
pub struct Node {
    /// Its metadata.
    pub metadata: Meta,
    /// What is wanted of it.
    pub spec: NodeSpec,
    /// What its kubelet told.
    pub status: NodeStatus,
}

/// What is wanted of a node.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(default)]
pub struct NodeSpec {
    /// Cordoned.
    pub unschedulable: bool,
    /// Its taints.
    pub taints: Vec<Taint>,
}

/// A taint.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Taint {
    /// Its key.
    pub key: String,
    /// Its value.
    pub value: String,
    /// `NoSchedule`, `PreferNoSchedule`, `NoExecute`.
    pub effect: String,
}

/// What a kubelet told.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeStatus {
    /// `Ready` and others. As stale as the kubelet is silent.
    pub conditions: Vec<Condition>,
    /// Versions.
    pub node_info: NodeInfo,
    /// Where it can be reached.
    pub addresses: Vec<NodeAddress>,
}

/// An address of a node.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(default)]
pub struct NodeAddress {
    /// `InternalIP`, `ExternalIP`, `Hostname`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The address.
    pub address: String,
}

/// Versions that a kubelet told.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeInfo {
    /// `v1.33.4+rke2r1`: the running kubelet's.
    pub kubelet_version: String,
}

/// A condition of an object.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Condition {
    /// `Ready`, `Complete`, `Failed`.
    #[serde(rename = "type")]
    pub kind: String,
    /// `True`, `False`, `Unknown`.
    pub status: String,
    /// Why, in one word.
    pub reason: String,
    /// Why, for people.
    pub message: String,
    /// Since when.
    pub last_transition_time: Option<Timestamp>,
}

impl Node {
    /// Its path.
    pub fn path(name: &str) -> String {
        format!("/api/v1/nodes/{name}")
    }

    /// Whether its last word, however old, was that it is ready.
    pub fn said_ready(&self) -> bool {
        self.status.conditions.iter().any(|condition| condition.kind == "Ready" && condition.status == "True")
    }

    /// The version that its kubelet last told.
    pub fn version(&self) -> &str {
        &self.status.node_info.kubelet_version
    }
}

/// A node's lease: the only word of a node that cannot come from an old snapshot when it is newer than the restore.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(default)]
pub struct Lease {
    /// Its metadata.
    pub metadata: Meta,
    /// Its contents.
    pub spec: LeaseSpec,
}

/// Contents of a lease.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LeaseSpec {
    /// When the kubelet renewed it, by its own clock; every 10 s.
    pub renew_time: Option<Timestamp>,
}

impl Lease {
    /// The collection of the nodes' leases.
    pub const NODES: &str = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";

    /// Path of a node's lease.
    pub fn path(node: &str) -> String {
        format!("{}/{node}", Self::NODES)
    }
}

/// A Deployment, a DaemonSet or a StatefulSet.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(default)]
pub struct Workload {
    /// Its metadata.
    pub metadata: Meta,
    /// What is wanted.
    pub spec: WorkloadSpec,
    /// What is.
    pub status: WorkloadStatus,
}

/// What is wanted of a workload.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct WorkloadSpec {
    /// Pods wanted; absent for a DaemonSet, and 1 when absent for a Deployment.
    pub replicas: Option<i64>,
    /// Which pods are its own.
    pub selector: Selector,
    /// How its pods are replaced.
    pub update_strategy: UpdateStrategy,
    /// What its pods are made like.
    pub template: PodTemplate,
}

/// What the pods of a workload are made like.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(default)]
pub struct PodTemplate {
    /// Their metadata.
    pub metadata: Meta,
    /// What is wanted of them.
    pub spec: PodSpec,
}

/// How a workload's pods are replaced.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(default)]
pub struct UpdateStrategy {
    /// `RollingUpdate`; `OnDelete`: when somebody deletes them.
    #[serde(rename = "type")]
    pub kind: String,
}

/// What a workload is. The first three belong to Deployments and StatefulSets, the next four to DaemonSets.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct WorkloadStatus {
    /// Pods of the new template.
    pub updated_replicas: i64,
    /// Pods that serve.
    pub available_replicas: i64,
    /// All of its pods, old ones too.
    pub replicas: i64,
    /// Nodes that should have one.
    pub desired_number_scheduled: i64,
    /// Nodes that have one of the new template.
    pub updated_number_scheduled: i64,
    /// Nodes that have one that serves.
    pub number_available: i64,
    /// The generation that these numbers are about.
    pub observed_generation: i64,
}

impl Workload {
    /// Why the rollout of a Deployment is not done; `None`: it is.
    pub fn deployment_lacks(&self) -> Option<String> {
        let wanted = self.spec.replicas.unwrap_or(1);
        let status = &self.status;
        self.lacks(&[
            ("updated", status.updated_replicas, wanted),
            ("available", status.available_replicas, wanted),
            ("in all", status.replicas, wanted),
        ])
    }

    /// Why the rollout of a StatefulSet is not done; `None`: it is.
    pub fn stateful_set_lacks(&self) -> Option<String> {
        let wanted = self.spec.replicas.unwrap_or(1);
        let status = &self.status;
        let updated = if self.is_updated_by_hand() { wanted } else { status.updated_replicas };
        self.lacks(&[("updated", updated, wanted), ("available", status.available_replicas, wanted)])
    }

    /// Why the rollout of a DaemonSet is not done; `None`: it is.
    pub fn daemon_set_lacks(&self) -> Option<String> {
        self.daemon_set_lacks_beside(&[], &[])
    }

    /// The same without its pods on nodes that are lost: a DaemonSet wants one on every node that has an object.
    pub fn daemon_set_lacks_beside(&self, pods: &[Pod], lost: &[String]) -> Option<String> {
        let is_own = |owner: &Owner| owner.kind == "DaemonSet" && owner.name == self.metadata.name;
        let gone = pods.iter().filter(|pod| lost.contains(&pod.spec.node_name));
        let gone: Vec<&Pod> = gone.filter(|pod| pod.metadata.owner_references.iter().any(is_own)).collect();
        // For a while after a restore they are still said to serve.
        let ready = gone.iter().filter(|pod| pod.said_ready()).count() as i64;
        let (status, wanted) = (&self.status, self.status.desired_number_scheduled - gone.len() as i64);
        // Whether those that are gone are of the new template is not told: a DaemonSet without any must have them all.
        let updated =
            if gone.is_empty() { status.updated_number_scheduled } else { status.updated_number_scheduled.min(wanted) };
        let updated = if self.is_updated_by_hand() { wanted } else { updated };
        self.lacks(&[("updated", updated, wanted), ("available", status.number_available - ready, wanted)])
    }

    /// Then it has no rollout of its own: its pods are new when somebody has deleted the old ones.
    fn is_updated_by_hand(&self) -> bool {
        self.spec.update_strategy.kind == "OnDelete"
    }

    fn lacks(&self, counts: &[(&str, i64, i64)]) -> Option<String> {
        let name = &self.metadata.name;
        if self.status.observed_generation < self.metadata.generation {
            let (seen, wanted) = (self.status.observed_generation, self.metadata.generation);
            return Some(format!("{name}: generation {seen} of {wanted} is observed"));
        }
        let wrong = counts.iter().find(|(_, is, wanted)| is != wanted);
        wrong.map(|(what, is, wanted)| format!("{name}: {is} of {wanted} pods {what}"))
    }
}
