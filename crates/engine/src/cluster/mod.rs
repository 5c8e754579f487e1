//! The cluster file (format 1): which hosts there are, how they are reached, and what else the cluster has.
//!
//! Plain data. The engine reads names, roles and groups; the rest is for the catalogue of actions.

mod read;
#[cfg(test)]
mod tests;
mod validate;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::id::HostName;

pub use read::{ClusterFile, parse, read};
pub use validate::check_version;

/// The newest cluster file format that is understood.
pub const FORMAT: u32 = 1;
/// What stands for no file and no host in [`Ssh`], as in OpenSSH's own options.
pub const NO_FILE: &str = "none";
/// How many hosts a cluster file may have.
pub const HOSTS_MAX: usize = 10_000;

/// The inventory of one cluster. Relative paths are resolved against the file's directory when it is read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cluster {
    /// Always 1.
    pub format: u32,
    /// The cluster's name, as written into claims: 1 to 63 of a-z, 0-9, `-`.
    pub name: String,
    /// Which distribution runs here.
    #[serde(default)]
    pub distribution: Distribution,
    /// The version that the cluster should run, such as `v1.33.4+rke2r1`: the default of `upgrade`'s `version`.
    #[serde(default)]
    pub version: Option<String>,
    /// Servers and agents, in the order in which "one after the other" takes them.
    pub hosts: Vec<Host>,
    /// How hosts are reached, unless a host says otherwise.
    #[serde(default)]
    pub ssh: Ssh,
    /// The server that is reset and restored; the first server by default.
    #[serde(default)]
    pub init: Option<HostName>,
    /// Where etcd snapshots are uploaded.
    #[serde(default)]
    pub s3: Option<S3>,
    /// Velero, when volumes are backed up by it.
    #[serde(default)]
    pub velero: Option<Velero>,
    /// The server token; by default the one on the init server's disk.
    #[serde(default)]
    pub token: Option<Secret>,
    /// How the Kubernetes API is reached.
    #[serde(default)]
    pub kube: Kube,
    /// URLs that answer 2xx when the applications are well.
    #[serde(default)]
    pub health_urls: Vec<String>,
    /// A PEM file with the certificates that the health URLs are checked against, instead of the system's.
    #[serde(default)]
    pub health_ca: Option<PathBuf>,
    /// Where releases come from.
    #[serde(default)]
    pub releases: Releases,
    /// Where things are on the hosts; the distribution's own places by default.
    #[serde(default)]
    pub paths: Option<PathOverrides>,
    /// Set by a twin: time runs faster, and durations never feed forecasts.
    #[serde(default)]
    pub rehearsal: Option<Rehearsal>,
}

/// A Kubernetes distribution.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Distribution {
    /// rke2-server and rke2-agent, static pods, supervisor on 9345.
    #[default]
    Rke2,
    /// k3s and k3s-agent, one process, supervisor on 6443.
    K3s,
}

/// A server or an agent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Host {
    /// The Kubernetes node name.
    pub name: HostName,
    /// Where SSH connects: an IP address, a DNS name, or a name that `~/.ssh/config` knows.
    pub address: String,
    /// The node's internal IP address, by which the other nodes reach it; what the node itself is configured with, or
    /// `address`, by default.
    #[serde(default)]
    pub node_ip: Option<String>,
    /// Server or agent.
    pub role: Role,
    /// Names under which `on: Group("…")` selects it.
    #[serde(default)]
    pub groups: Vec<String>,
    /// What differs from the cluster's `ssh`.
    #[serde(default)]
    pub ssh: Ssh,
    /// CPU architecture, `amd64` or `arm64`; asked from the host when left out.
    #[serde(default)]
    pub arch: Option<String>,
}

/// What a host is in the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Role {
    /// Control plane and etcd member.
    Server,
    /// Worker.
    Agent,
}

/// How to reach a host by SSH. What is left out comes from the cluster's `ssh`, then from the person's own
/// `~/.ssh/config` as OpenSSH reads it for `address`, then from the defaults.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ssh {
    /// Login name; `root` by default. Another user needs `sudo -n`.
    #[serde(default)]
    pub user: Option<String>,
    /// 22 by default.
    #[serde(default)]
    pub port: Option<u16>,
    /// Private key file, and then no other key; by default the agent's keys and the person's own key files.
    #[serde(default)]
    pub key: Option<PathBuf>,
    /// Hosts to go through, `user@host:port`, separated by commas, the nearest first; `none`: straight.
    #[serde(default)]
    pub jump: Option<String>,
    /// The host key that must be presented, as in known_hosts: `ssh-ed25519 AAAA…`.
    #[serde(default)]
    pub host_key: Option<String>,
    /// A known_hosts file of the cluster's own, tried before the user's.
    #[serde(default)]
    pub known_hosts: Option<PathBuf>,
    /// An OpenSSH client configuration instead of `~/.ssh/config` and `/etc/ssh/ssh_config`; `none`: neither is read.
    #[serde(default)]
    pub config: Option<PathBuf>,
}

/// An S3-compatible bucket for etcd snapshots.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct S3 {
    /// `https://fsn1.your-objectstorage.com`; `http://` is accepted and said aloud.
    pub endpoint: String,
    /// Any consistent word for most servers.
    #[serde(default = "default_region")]
    pub region: String,
    /// The bucket.
    pub bucket: String,
    /// The folder of this cluster's snapshots: RKE2's `etcd-s3-folder`.
    #[serde(default)]
    pub folder: String,
    /// Access key id.
    pub access_key: Secret,
    /// Secret access key.
    pub secret_key: Secret,
    /// A PEM file with the endpoint's certificate authority, when it is private.
    #[serde(default)]
    pub ca: Option<PathBuf>,
}

fn default_region() -> String {
    "us-east-1".to_owned()
}

/// Velero in this cluster.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Velero {
    /// Velero's namespace.
    #[serde(default = "default_velero_namespace")]
    pub namespace: String,
    /// The BackupStorageLocation that backups go to.
    #[serde(default = "default_velero_location")]
    pub location: String,
    /// Bucket of that location, when it is not `s3.bucket`.
    #[serde(default)]
    pub bucket: Option<String>,
    /// Prefix of that location inside the bucket.
    #[serde(default)]
    pub prefix: String,
    /// Whether a CSI driver provisions the volumes (the seed's guard `velero_requires_csi`).
    #[serde(default = "default_csi")]
    pub csi: bool,
}

fn default_velero_namespace() -> String {
    "velero".to_owned()
}

fn default_velero_location() -> String {
    "default".to_owned()
}

fn default_csi() -> bool {
    true
}

/// Where a secret is; never the secret itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Secret {
    /// The value of an environment variable.
    Env(String),
    /// The contents of a file, without its last newline.
    File(PathBuf),
    /// What a program prints (10 s, standard input closed): `["pass", "show", "s3"]`.
    Command(Vec<String>),
}

/// How the Kubernetes API is reached.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Kube {
    /// Through SSH to a healthy server's own 127.0.0.1:6443, with that server's kubeconfig.
    #[default]
    Ssh,
    /// With this kubeconfig file.
    Kubeconfig(PathBuf),
}

/// Where releases of the distribution come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Releases {
    /// A URL with `{version}` and `{file}`, fetched by each host; `+` in the version is sent as `%2B`.
    Url(String),
    /// A directory on each host with one directory per version: `<dir>/<version>/{install.sh,rke2.linux-amd64.tar.gz,…}`.
    Directory(PathBuf),
}

impl Default for Releases {
    fn default() -> Self {
        // R2:install.sh downloads `https://github.com/rancher/rke2/releases/download/<version>/<file>`.
        Releases::Url("https://github.com/rancher/rke2/releases/download/{version}/{file}".to_owned())
    }
}

/// Places on the hosts that differ from the distribution's.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PathOverrides {
    /// RKE2's data directory, `/var/lib/rancher/rke2`.
    #[serde(default)]
    pub data: Option<String>,
    /// RKE2's configuration directory, `/etc/rancher/rke2`.
    #[serde(default)]
    pub config: Option<String>,
    /// Where `rke2` and `rke2-killall.sh` are, `/usr/local/bin`.
    #[serde(default)]
    pub bin: Option<String>,
    /// systemd's directory for units and drop-ins, `/etc/systemd/system`.
    #[serde(default)]
    pub systemd: Option<String>,
    /// rke2flow's own state directory on hosts, `/var/lib/rke2flow`.
    #[serde(default)]
    pub state: Option<String>,
}

/// A rehearsal on a twin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rehearsal {
    /// How many times faster than life.
    pub speed: u32,
}

/// How many servers a cluster has, as far as budgets care.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Topology {
    /// More than one server.
    Ha,
    /// One server.
    Single,
}

impl Cluster {
    /// The servers, in file order.
    pub fn servers(&self) -> impl Iterator<Item = &Host> {
        self.hosts.iter().filter(|host| host.role == Role::Server)
    }

    /// The agents, in file order.
    pub fn agents(&self) -> impl Iterator<Item = &Host> {
        self.hosts.iter().filter(|host| host.role == Role::Agent)
    }

    /// The host of this name.
    pub fn host(&self, name: &HostName) -> Option<&Host> {
        self.hosts.iter().find(|host| host.name == *name)
    }

    /// The server that is reset and restored: `init`, or the first server. `None` in a file that `validate` refuses.
    pub fn init_server(&self) -> Option<&Host> {
        match &self.init {
            Some(name) => self.host(name),
            None => self.servers().next(),
        }
    }

    /// Whether there is one server or several.
    pub fn topology(&self) -> Topology {
        if self.servers().count() > 1 { Topology::Ha } else { Topology::Single }
    }

    /// The speed of the clock: 1, or the twin's.
    pub fn speed(&self) -> u32 {
        self.rehearsal.map_or(1, |rehearsal| rehearsal.speed.max(1))
    }

    /// A host's SSH settings with the cluster's filled in.
    pub fn ssh_of(&self, host: &Host) -> Ssh {
        let (own, all) = (&host.ssh, &self.ssh);
        Ssh {
            user: own.user.clone().or_else(|| all.user.clone()),
            port: own.port.or(all.port),
            key: own.key.clone().or_else(|| all.key.clone()),
            jump: own.jump.clone().or_else(|| all.jump.clone()),
            host_key: own.host_key.clone().or_else(|| all.host_key.clone()),
            known_hosts: own.known_hosts.clone().or_else(|| all.known_hosts.clone()),
            config: own.config.clone().or_else(|| all.config.clone()),
        }
    }
}
