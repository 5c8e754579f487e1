//! What the stand-in's processes are told: each "container" is `lab-rke2 <name> <file>` with one of these in the file.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// `kube-apiserver` and `kube-controller-manager`: run beside the server's own etcd member.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ControlPlane {
    /// Name of the node.
    pub node: String,
    /// Its address.
    pub address: String,
    /// Running version, `v1.33.4+rke2r1`.
    pub version: String,
    /// The member's client endpoint: `http://127.0.0.1:2379`.
    pub etcd: String,
    /// `server/tls`: the authority and the API server's own certificate and key.
    pub tls: PathBuf,
    /// Port of the API: 6443.
    pub port: u16,
    /// Where what is asked of the supervisor goes, when it has no port of its own (K3s).
    #[serde(default)]
    pub supervisor: Option<u16>,
}

/// `kubelet`: runs the static pods of its manifests and reports the node, its lease and its pods.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kubelet {
    /// Name of the node.
    pub node: String,
    /// Its address.
    pub address: String,
    /// Running version, `v1.33.4+rke2r1`.
    pub version: String,
    /// Whether the node is a server.
    pub server: bool,
    /// Data directory: `/var/lib/rancher/rke2`.
    pub data: PathBuf,
    /// A file that lists the API servers that the node knows, one `address:port` per line, best first; may change.
    pub servers: PathBuf,
    /// The authority, the client certificate and its key.
    pub authority: PathBuf,
    /// See `authority`.
    pub certificate: PathBuf,
    /// See `authority`.
    pub key: PathBuf,
}

/// A pod that a kubelet runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunningPod {
    /// Namespace.
    pub namespace: String,
    /// Name: of a static pod with the node's name behind it.
    pub name: String,
    /// `rancher/hardened-kubernetes:v1.33.4-rke2r1`
    pub image: String,
    /// Whether it comes from a manifest of the node.
    pub is_static: bool,
    /// Whether its process lives.
    pub ready: bool,
}
