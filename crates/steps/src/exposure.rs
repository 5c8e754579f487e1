//! What on a cluster is exposed when nodes are drained or stop serving: budgets that block, workloads of one pod.

use std::collections::BTreeSet;
use std::fmt;

use rke2flow_engine::action::Failure;
use serde::{Deserialize, Serialize};

use crate::kinds::{DisruptionBudget, Pod, Workload};
use crate::objects::Objects;

/// What is exposed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Exposure {
    /// Budgets that allow no eviction of a pod on a node that is drained.
    pub blocking: Vec<Blocking>,
    /// Workloads of one pod, on nodes that are drained or stop serving for a while; those of kube-system last.
    pub single: Vec<Single>,
}

/// Budgets that block the eviction of a pod.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Blocking {
    /// `shop/web`; two of them when a pod has two: the eviction API then refuses always
    /// (Kubernetes pkg/registry/core/pod/storage/eviction.go).
    pub budget: String,
    /// Why it blocks.
    pub why: String,
    /// The nodes whose drain it blocks.
    pub nodes: Vec<String>,
}

/// A workload that has one pod.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Single {
    /// `Deployment`, `StatefulSet`, or `Pod` for one that nobody makes again.
    pub kind: String,
    /// `shop/db`
    pub name: String,
    /// Where its pod is.
    pub node: String,
}

impl fmt::Display for Single {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} on {}", self.kind, self.name, self.node)
    }
}

/// Asks the API. `drained` are nodes whose pods are evicted, `interrupted` those that stop serving, drained ones among
/// them or not.
pub async fn of(
    objects: &Objects,
    drained: &BTreeSet<String>,
    interrupted: &BTreeSet<String>,
) -> Result<Exposure, Failure> {
    let all: Vec<Pod> = objects.list(PODS).await?.unwrap_or_default();
    let pods: Vec<Pod> = all.into_iter().filter(is_alive).collect();
    let budgets: Vec<DisruptionBudget> = objects.list(DisruptionBudget::ALL).await?.unwrap_or_default();
    let mut single: Vec<Single> = alone(&pods);
    for (kind, path) in [("Deployment", DEPLOYMENTS), ("StatefulSet", STATEFUL_SETS)] {
        let workloads: Vec<Workload> = objects.list(path).await?.unwrap_or_default();
        single.extend(workloads.iter().filter_map(|workload| only_pod(kind, workload, &pods)));
    }
    single.retain(|one| drained.contains(&one.node) || interrupted.contains(&one.node));
    single.sort_by_key(|one| (one.name.starts_with("kube-system/"), one.name.clone(), one.kind.clone()));
    Ok(Exposure { blocking: blocking(&budgets, &pods, drained), single })
}

const PODS: &str = "/api/v1/pods";
const DEPLOYMENTS: &str = "/apis/apps/v1/deployments";
const STATEFUL_SETS: &str = "/apis/apps/v1/statefulsets";

fn is_alive(pod: &Pod) -> bool {
    !matches!(pod.status.phase.as_str(), "Succeeded" | "Failed") && pod.metadata.deletion_timestamp.is_none()
}

fn is_owned_by(pod: &Pod, kind: &str) -> bool {
    pod.metadata.owner_references.iter().any(|owner| owner.kind == kind)
}

/// A drain leaves pods of DaemonSets and mirrors of static pods where they are.
fn is_evicted(pod: &Pod) -> bool {
    !is_owned_by(pod, "DaemonSet") && !is_static(pod)
}

/// The kubelet's own annotation of a static pod's mirror.
fn is_static(pod: &Pod) -> bool {
    is_owned_by(pod, "Node") || pod.metadata.annotations.contains_key("kubernetes.io/config.mirror")
}

/// Pods that nobody makes again.
fn alone(pods: &[Pod]) -> Vec<Single> {
    let alone = pods.iter().filter(|pod| pod.metadata.owner_references.is_empty() && !is_static(pod));
    alone
        .map(|pod| Single { kind: "Pod".to_owned(), name: name(&pod.metadata), node: pod.spec.node_name.clone() })
        .collect()
}

fn only_pod(kind: &str, workload: &Workload, pods: &[Pod]) -> Option<Single> {
    if workload.spec.replicas.unwrap_or(1) != 1 {
        return None;
    }
    let own = |pod: &&Pod| {
        pod.metadata.namespace == workload.metadata.namespace && workload.spec.selector.matches(&pod.metadata.labels)
    };
    let pod = pods.iter().find(own)?;
    Some(Single { kind: kind.to_owned(), name: name(&workload.metadata), node: pod.spec.node_name.clone() })
}

fn blocking(budgets: &[DisruptionBudget], pods: &[Pod], drained: &BTreeSet<String>) -> Vec<Blocking> {
    let mut found: Vec<Blocking> = Vec::new();
    for pod in pods.iter().filter(|pod| drained.contains(&pod.spec.node_name) && is_evicted(pod)) {
        let about = |budget: &&DisruptionBudget| {
            let selector = budget.spec.selector.as_ref();
            budget.metadata.namespace == pod.metadata.namespace
                && selector.is_some_and(|selector| selector.matches(&pod.metadata.labels))
        };
        let of_pod: Vec<&DisruptionBudget> = budgets.iter().filter(about).collect();
        let why = match of_pod.as_slice() {
            [] => continue,
            [one] if one.status.disruptions_allowed > 0 => continue,
            [one] => format!(
                "allows no eviction: {} of {} pods that it wants are healthy",
                one.status.current_healthy, one.status.desired_healthy
            ),
            _ => format!("pod {} has several budgets, and then no eviction is allowed", pod.metadata.name),
        };
        let names: Vec<String> = of_pod.iter().map(|budget| name(&budget.metadata)).collect();
        let (budget, node) = (names.join(" and "), pod.spec.node_name.clone());
        match found.iter_mut().find(|other| other.budget == budget) {
            Some(other) if other.nodes.contains(&node) => {}
            Some(other) => other.nodes.push(node),
            None => found.push(Blocking { budget, why, nodes: vec![node] }),
        }
    }
    found.iter_mut().for_each(|blocking| blocking.nodes.sort());
    found.sort();
    found
}

fn name(meta: &crate::kinds::Meta) -> String {
    format!("{}/{}", meta.namespace, meta.name)
}

#[cfg(test)]
mod tests;
