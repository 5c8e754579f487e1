//! What a drain does with each pod of a node, by the rules of `kubectl drain` (kubectl pkg/drain/filters.go).

use rke2flow_engine::action::Failure;
use rke2flow_engine::id::HostName;

use crate::actions::World;
use crate::kinds::Pod;

/// What a pod is to a drain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It is bound to the node, or it has ended: it is left.
    Stays,
    /// A controller makes another one elsewhere.
    Moves,
    /// Nobody makes it again.
    Unmanaged,
}

/// The annotation of the API's image of a static pod.
const MIRROR: &str = "kubernetes.io/config.mirror";

/// What this pod is to a drain.
pub fn kind(pod: &Pod) -> Kind {
    let owners = &pod.metadata.owner_references;
    let bound = owners.iter().any(|owner| owner.kind == "DaemonSet" || owner.kind == "Node");
    let ended = matches!(pod.status.phase.as_str(), "Succeeded" | "Failed");
    if bound || ended || pod.metadata.annotations.contains_key(MIRROR) {
        return Kind::Stays;
    }
    if owners.iter().any(|owner| owner.controller) { Kind::Moves } else { Kind::Unmanaged }
}

/// Whether what it has written into a directory of its own goes with it.
pub fn has_local_data(pod: &Pod) -> bool {
    pod.spec.volumes.iter().any(|volume| volume.empty_dir.is_some())
}

/// The pods that are bound to this node, of every namespace.
pub async fn pods_on(world: &World, host: &HostName) -> Result<Vec<Pod>, Failure> {
    let path = format!("/api/v1/pods?fieldSelector=spec.nodeName%3D{host}");
    let pods: Vec<Pod> = world.objects().list(&path).await?.unwrap_or_default();
    Ok(pods.into_iter().filter(|pod| pod.spec.node_name == host.as_str()).collect())
}

/// A pod's path.
pub fn path(pod: &Pod) -> String {
    format!("/api/v1/namespaces/{}/pods/{}", pod.metadata.namespace, pod.metadata.name)
}

/// How many pods are named before the rest is counted.
const NAMED_MAX: usize = 8;

/// Pods by name, for a message.
pub fn shown<'p>(pods: impl Iterator<Item = &'p Pod>) -> String {
    let names: Vec<String> = pods.map(|pod| format!("{}/{}", pod.metadata.namespace, pod.metadata.name)).collect();
    match names.len().saturating_sub(NAMED_MAX) {
        0 => names.join(", "),
        more => format!("{} and {more} more", names[..NAMED_MAX].join(", ")),
    }
}
