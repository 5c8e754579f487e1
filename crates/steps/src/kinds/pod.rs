//! Pods: what is wanted of them, and how their containers are.

use serde::Deserialize;

use super::{Condition, Meta};

/// A pod.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(default)]
pub struct Pod {
    /// Its metadata.
    pub metadata: Meta,
    /// What is wanted.
    pub spec: PodSpec,
    /// What is.
    pub status: PodStatus,
}

/// What is wanted of a pod.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodSpec {
    /// Where it runs.
    pub node_name: String,
    /// The account that it acts as; empty: the namespace's default.
    pub service_account_name: String,
    /// Its containers.
    pub containers: Vec<Container>,
    /// What they mount.
    pub volumes: Vec<PodVolume>,
}

/// What a pod mounts.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodVolume {
    /// The claim; absent for what is no volume of its own.
    pub persistent_volume_claim: ClaimName,
    /// There for a directory that goes with the pod.
    pub empty_dir: Option<EmptyDir>,
}

/// A directory that goes with the pod.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default)]
pub struct EmptyDir {}

/// A claim by name.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ClaimName {
    /// Its name.
    pub claim_name: String,
}

/// A container of a pod.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(default)]
pub struct Container {
    /// `rancher/hardened-kubernetes:v1.33.4-rke2r1-build20250814`
    pub image: String,
}

/// What a pod is.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodStatus {
    /// `Running`, `Succeeded`, …
    pub phase: String,
    /// Why it failed as a whole, in one word: `Evicted`.
    pub reason: String,
    /// `Ready` and others.
    pub conditions: Vec<Condition>,
    /// The containers that run before the others, one after the other.
    pub init_container_statuses: Vec<ContainerStatus>,
    /// The others.
    pub container_statuses: Vec<ContainerStatus>,
}

/// How a container of a pod is.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(default)]
pub struct ContainerStatus {
    /// Its name.
    pub name: String,
    /// Its image.
    pub image: String,
    /// How it is.
    pub state: ContainerState,
}

/// How a container is: one of these.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(default)]
pub struct ContainerState {
    /// It has not begun.
    pub waiting: Option<ContainerMoment>,
    /// It runs.
    pub running: Option<ContainerMoment>,
    /// It has ended.
    pub terminated: Option<ContainerMoment>,
}

/// Why a container is as it is.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ContainerMoment {
    /// In one word: `ImagePullBackOff`.
    pub reason: String,
    /// For people.
    pub message: String,
    /// With what it ended.
    pub exit_code: i64,
}

impl Pod {
    /// The pods of kube-system.
    pub const SYSTEM: &str = "/api/v1/namespaces/kube-system/pods";

    /// Whether it was last said to serve.
    pub fn said_ready(&self) -> bool {
        self.status.conditions.iter().any(|condition| condition.kind == "Ready" && condition.status == "True")
    }
}
