//! What was found out about a cluster, before it is written down.

use rke2flow_engine::cluster::Distribution;

use crate::args::InitArgs;

/// A cluster as far as it is known.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Found {
    /// Where it comes from: `root@10.0.0.10 over SSH`.
    pub from: String,
    pub name: String,
    pub distribution: Distribution,
    pub version: Option<String>,
    pub servers: Vec<Node>,
    pub agents: Vec<Node>,
    pub ssh: Way,
    pub s3: Option<Bucket>,
    pub velero: Option<Backups>,
    pub kubeconfig: Option<String>,
    /// What a person should know, told and written.
    pub notes: Vec<String>,
}

/// A host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Node {
    pub name: String,
    pub address: String,
    pub arch: Option<String>,
}

/// How hosts are entered; what is left out is not written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Way {
    pub user: Option<String>,
    pub port: Option<u16>,
    pub key: Option<String>,
    pub config: Option<String>,
}

/// Where etcd snapshots go. Never holds a secret.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Bucket {
    pub endpoint: String,
    pub region: String,
    pub bucket: String,
    pub folder: String,
}

/// Velero's default location.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Backups {
    pub namespace: String,
    pub location: String,
    pub bucket: String,
    pub prefix: String,
}

impl Found {
    pub(super) fn counts(&self) -> (usize, usize) {
        (self.servers.len(), self.agents.len())
    }
}

impl Way {
    /// What the command line says of it.
    pub(super) fn of(args: &InitArgs) -> Self {
        let absolute = |path: &std::path::PathBuf| {
            std::path::absolute(path).unwrap_or_else(|_| path.clone()).display().to_string()
        };
        Self {
            user: args.user.clone(),
            port: args.port,
            key: args.key.as_ref().map(absolute),
            config: args.ssh_config.as_ref().map(absolute),
        }
    }
}

/// A word as the name of a cluster may be: a-z, 0-9 and `-`, at most 63.
pub(super) fn name_of(word: &str) -> String {
    let fits = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let name: String = word.chars().map(fits).take(63).collect();
    name.trim_matches('-').to_owned()
}
