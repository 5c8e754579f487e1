//! Where RKE2 keeps things on a host, and the ports it serves.

use std::path::{Path, PathBuf};

/// Kubernetes API.
pub const API_PORT: u16 = 6443;
/// etcd's clients.
pub const ETCD_CLIENT_PORT: u16 = 2379;
/// etcd's peers.
pub const ETCD_PEER_PORT: u16 = 2380;
/// etcd's metrics and health, on loopback.
pub const ETCD_METRICS_PORT: u16 = 2381;
/// The temporary etcd that a start reads the bootstrap data with (K3S `pkg/cluster/cluster.go`); its peers are one above.
pub const ETCD_TEMPORARY_PORT: u16 = 2399;
/// Where containerd keeps a directory per running container (R2 `pkg/bootstrap/bootstrap.go` taskDir).
pub const TASKS: &str = "/run/k3s/containerd/io.containerd.runtime.v2.task/k8s.io";
/// The node's own password, made once (K3S `pkg/agent/config/config.go`).
pub const NODE_PASSWORD: &str = "/etc/rancher/node/password";

/// The places below one data directory.
#[derive(Debug, Clone)]
pub struct Layout {
    data: PathBuf,
}

macro_rules! places {
    ($($(#[$doc:meta])* $name:ident => $below:literal;)*) => {
        impl Layout {
            $($(#[$doc])* pub fn $name(&self) -> PathBuf { self.data.join($below) })*
        }
    };
}

places! {
    /// Symlink to the binaries of the running release.
    bin => "bin";
    /// One directory per release that was extracted.
    releases => "data";
    /// Archives of images.
    images => "agent/images";
    /// The static pods' manifests.
    pod_manifests => "agent/pod-manifests";
    /// What an agent remembers of the servers.
    agent_etc => "agent/etc";
    /// The agent's own certificates.
    agent => "agent";
    /// Present: the next start kills every control-plane pod first (R2 `pkg/rke2/rke2_linux.go`).
    force_restart => "force-restart";
    /// Working directory of a server.
    server => "server";
    /// Certificates and keys.
    tls => "server/tls";
    /// Kubeconfigs and passwords of a server's own processes.
    cred => "server/cred";
    /// The server token.
    token => "server/token";
    /// What is deployed from this server.
    manifests => "server/manifests";
    /// The database directory.
    db => "server/db";
    /// etcd's data directory.
    etcd => "server/db/etcd";
    /// The member's name.
    etcd_name => "server/db/etcd/name";
    /// etcd's configuration file.
    etcd_config => "server/db/etcd/config";
    /// Present: etcd was reset and not started normally since.
    reset_flag => "server/db/reset-flag";
    /// Local snapshots.
    snapshots => "server/db/snapshots";
    /// What the processes of the control plane are told.
    control_plane => "server/etc/control-plane.json";
    /// What the kubelet is told.
    kubelet => "agent/etc/kubelet.json";
    /// API servers, one per line.
    api_servers => "agent/etc/rke2-api-server-agent-load-balancer.list";
}

impl Layout {
    /// The places below `data`.
    pub fn new(data: impl Into<PathBuf>) -> Self {
        Self { data: data.into() }
    }

    /// The data directory itself.
    pub fn data(&self) -> &Path {
        &self.data
    }
}
