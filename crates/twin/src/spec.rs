//! What cluster a twin is: its hosts, version, volumes, speed and faults.

use std::net::Ipv4Addr;

use rke2flow_engine::cluster::{Distribution, PathOverrides, Role};
use rke2flow_engine::id::HostName;
use rke2flow_steps::paths::HostPaths;
use serde::{Deserialize, Serialize};

/// What a twin is made of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TwinSpec {
    /// The cluster's name.
    pub name: String,
    /// Number of servers: `server-0`, `server-1`, …
    pub servers: usize,
    /// Number of agents: `agent-0`, `agent-1`, …
    pub agents: usize,
    /// The version that runs at the beginning.
    pub version: String,
    /// The releases that can be downloaded; the last one is what the cluster file asks for.
    pub releases: Vec<String>,
    /// Persistent volumes that pods of the workload use.
    pub volumes: Vec<VolumeSpec>,
    /// How many times faster than life.
    pub speed: u32,
    /// What goes wrong.
    pub faults: Vec<Fault>,
    /// Which distribution it is.
    pub distribution: Distribution,
    /// Whether etcd snapshots are written as `.zip` (`etcd-snapshot-compress: true`).
    pub compress: bool,
    /// Whether etcd snapshots are uploaded (`etcd-s3: true`).
    pub etcd_s3: bool,
    /// Whether Velero is installed.
    pub velero: bool,
    /// A System Upgrade Controller plan that follows this version, as `channel: stable` would; `None`: no controller.
    pub upgrade_plan: Option<String>,
    /// Whether the System Upgrade Controller is installed, with no plans of its own. With `upgrade_plan` it always is.
    pub upgrade_controller: bool,
    /// The bucket of etcd snapshots and Velero backups.
    pub bucket: String,
    /// `etcd-s3-folder`.
    pub folder: String,
    /// The access key of the bucket.
    pub access_key: String,
    /// The secret key of the bucket: must never be seen in a command line.
    pub secret_key: String,
    /// The server token: must never be seen in a command line.
    pub token: String,
}

/// A persistent volume, declared by size; its content is small.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VolumeSpec {
    /// Namespace of the claim.
    pub namespace: String,
    /// Name of the claim.
    pub claim: String,
    /// Declared size: drives how long a backup or a restore takes.
    pub gib: u32,
}

/// What goes wrong in a twin.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Fault {
    /// Snapshots are saved, their upload fails, and the command exits 0 (k3s#13087). This many times.
    UploadFails(u32),
    /// Snapshots are saved, half of each arrives in the bucket, and the command exits 0 (rancher#43539). This many times.
    UploadTruncated(u32),
    /// The bucket refuses what a host sends by a presigned request. This many times.
    BucketRefusesHosts(u32),
    /// The snapshot itself fails; the command prints nothing and exits 0. This many times.
    SnapshotFails(u32),
    /// A started unit stays `activating`, this many times.
    RestartHangs {
        /// Where.
        host: HostName,
        /// How often.
        times: u32,
    },
    /// A joining server stays a learner without a vote, this many times; the leader gives it up after 5 min.
    LearnerStalls {
        /// Which.
        host: HostName,
        /// How often.
        times: u32,
    },
    /// The host loses its power.
    HostDown {
        /// Which.
        host: HostName,
        /// Cluster seconds after the twin began, or after the fault was injected.
        at_seconds: u64,
        /// Cluster seconds until it comes back; `None`: never.
        back_after_seconds: Option<u64>,
    },
    /// Every request to the Kubernetes API takes so many cluster milliseconds.
    ApiSlow(u64),
    /// Velero backups end `PartiallyFailed`. This many times.
    VeleroPartiallyFails(u32),
    /// A change's script fails at the stage of this index, this many times.
    UnitFails {
        /// Where; everywhere when left out.
        host: Option<HostName>,
        /// The change: `InstallVersion`.
        change: String,
        /// Index of the stage, from 0: it and what follows does not happen.
        stage: usize,
        /// How often.
        times: u32,
    },
    /// A job of the System Upgrade Controller goes wrong on a host, this many times.
    UpgradeJob {
        /// Where.
        host: HostName,
        /// How.
        trouble: JobTrouble,
        /// How often.
        times: u32,
    },
    /// A change's unit disappears without an exit after the stage of this index, this many times.
    UnitCut {
        /// Where; everywhere when left out.
        host: Option<HostName>,
        /// The change: `ClusterReset`.
        change: String,
        /// Index of the last stage that happens, from 0.
        stage: usize,
        /// How often.
        times: u32,
    },
}

/// How a job of the System Upgrade Controller goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum JobTrouble {
    /// Its image cannot be pulled on the node.
    CannotPull,
    /// Its container ends with an error before it has changed anything.
    Fails,
    /// Its container is cut off between the two things that it does: the binary is new, the process the old one.
    CutOff,
    /// It is complete before the kubelet that it killed is back: then the next node's turn comes at once.
    EndsEarly,
}

impl Default for TwinSpec {
    fn default() -> Self {
        Self {
            name: "twin".to_owned(),
            servers: 3,
            agents: 3,
            version: "v1.33.4+rke2r1".to_owned(),
            releases: ["v1.35.1+rke2r1", "v1.33.4+rke2r1", "v1.34.1+rke2r1"].map(str::to_owned).to_vec(),
            volumes: vec![VolumeSpec { namespace: "shop".to_owned(), claim: "data-db-0".to_owned(), gib: 16 }],
            speed: 1,
            faults: Vec::new(),
            distribution: Distribution::Rke2,
            compress: false,
            etcd_s3: true,
            velero: true,
            upgrade_plan: None,
            upgrade_controller: false,
            bucket: "twin-backups".to_owned(),
            folder: "twin-etcd".to_owned(),
            access_key: "TWINACCESSKEY".to_owned(),
            secret_key: "twin-secret-key-5f1b0c7e2d".to_owned(),
            token: "K10twin::server:9d2c44d1e07ab8f6".to_owned(),
        }
    }
}

impl TwinSpec {
    /// The same of this distribution, with its releases in the place of RKE2's.
    pub fn of(distribution: Distribution) -> Self {
        let default = Self::default();
        if distribution == Distribution::Rke2 {
            return default;
        }
        let release = |version: &String| version.replace("+rke2r", "+k3s");
        Self {
            version: release(&default.version),
            releases: default.releases.iter().map(release).collect(),
            distribution,
            ..default
        }
    }

    /// The hosts in the cluster file's order: servers first.
    pub fn hosts(&self) -> Vec<(HostName, Role)> {
        let name = |kind: &str, i: usize| HostName::new(format!("{kind}-{i}")).expect("letters, a dash and digits");
        let servers = (0..self.servers).map(|i| (name("server", i), Role::Server));
        let agents = (0..self.agents).map(|i| (name("agent", i), Role::Agent));
        servers.chain(agents).collect()
    }

    /// The address of a host, inside the model and outside: `server:` of a node's configuration is made of the one in
    /// the cluster file, and must mean the same host to the model.
    pub fn address(&self, index: usize) -> Ipv4Addr {
        let low = 1 + index as u32;
        Ipv4Addr::from(u32::from(Ipv4Addr::new(127, 0, 1, 0)) + low)
    }

    /// Places, unit names and ports of the distribution.
    pub fn paths(&self) -> HostPaths {
        HostPaths::with(self.distribution, PathOverrides::default())
    }
}
