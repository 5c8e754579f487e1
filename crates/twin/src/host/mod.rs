//! One host of the simulated cluster: power, service, containers, disk, what rke2flow left there.

pub mod archive;
pub mod claim;
pub mod estate;
pub mod look;
pub mod order;
pub mod person;
pub mod power;
pub mod reset;
pub mod service;
pub mod shell;
pub mod stage;
pub mod transfer;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rke2flow_engine::cluster::Role;
use rke2flow_engine::id::HostName;
use rke2flow_steps::answer::{ClaimState, LostMark, ResetState};
use rke2flow_steps::command::NodePart;

use estate::Estate;
use order::OrderRun;
use service::Service;

pub use shell::{can_change, describe, describe_change};

/// A host keeps so many lines of each unit's log.
pub const LOG_LIMIT_LINES: usize = 400;

/// A machine.
#[derive(Debug, Clone)]
pub struct Host {
    /// Its node name.
    pub name: HostName,
    /// Server or agent.
    pub role: Role,
    /// Its address inside the model.
    pub address: String,
    /// Whether it has power.
    pub powered: bool,
    /// It was powered off for good: what it starts with when a person brings it back is that person's doing.
    pub away: bool,
    /// What was handed to units apart from their scripts.
    pub handed: BTreeMap<String, String>,
    /// How often it was booted.
    pub boots: u32,
    /// The version of the binary on disk; not necessarily the running one.
    pub installed: String,
    /// The node's unit.
    pub service: Service,
    /// Containers: they outlive the unit (rke2#963).
    pub pods: Option<Pods>,
    /// Whether the kubelet runs and has registered.
    pub kubelet: bool,
    /// Whether the supervisor listens.
    pub supervises: bool,
    /// Whether a cluster-reset runs its temporary etcd now.
    pub resetting: bool,
    /// What the machine is, and what else its people have put on it.
    pub estate: Estate,
    /// What the node has on disk.
    pub disk: Disk,
    /// The claim that it remembers.
    pub claim: Option<ClaimState>,
    /// Detached units and their receipts, by unit name.
    pub orders: BTreeMap<String, OrderRun>,
    /// The ends of the logs of units.
    pub logs: BTreeMap<String, Vec<String>>,
}

/// The containers of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pods {
    /// The control plane that the etcd container belongs to; `None` on agents and while it is replaced.
    pub etcd: Option<usize>,
    /// Whether the API server's container runs.
    pub api: bool,
    /// The version of the static pods.
    pub version: String,
    /// Living containerd-shims.
    pub shims: u32,
}

/// A node's disk, as far as anybody asks.
#[derive(Debug, Clone, Default)]
pub struct Disk {
    /// `server/db/etcd`.
    pub etcd: Option<MemberData>,
    /// `server/tls`: how new its certificates are.
    pub tls: Option<u64>,
    /// `server/cred`.
    pub cred: bool,
    /// `server/manifests/rke2-*.yaml`.
    pub charts: Vec<String>,
    /// `agent/pod-manifests`.
    pub static_pods: Vec<String>,
    /// `server/db/reset-flag`.
    pub reset_flag: bool,
    /// `server:` of the configuration; empty: none.
    pub configured_server: String,
    /// Our own drop-in: the run and the value.
    pub server_override: Option<(String, Option<String>)>,
    /// `server/token`.
    pub token: String,
    /// Hash of `/etc/rancher/node/password`, as the cluster remembers it.
    pub node_password: String,
    /// The hold file.
    pub hold: bool,
    /// The hold's drop-in.
    pub hold_drop_in: bool,
    /// What was moved away: path → content.
    pub aside: BTreeMap<String, Aside>,
    /// Plain files: snapshots, staged copies, points.
    pub files: BTreeMap<String, File>,
    /// Releases below our own directory, and how far they got.
    pub releases: BTreeMap<String, Release>,
    /// What the last cluster-reset that rke2flow began here left.
    pub reset: Option<ResetState>,
    /// The marks of lost hosts.
    pub lost: Vec<LostMark>,
}

/// A member's data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberData {
    /// Its control plane; `None`: a directory without `member`, as an interrupted reset leaves it.
    pub plane: Option<usize>,
}

/// Something that was moved away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Aside {
    /// A member's data.
    Etcd(MemberData),
    /// Certificates.
    Tls(u64),
    /// Credentials.
    Cred,
    /// Charts.
    Charts(Vec<String>),
}

/// A file.
#[derive(Debug, Clone)]
pub struct File {
    /// Its bytes.
    pub bytes: Arc<Vec<u8>>,
    /// When it was written, in cluster time.
    pub modified: Duration,
}

/// How far a release got that is fetched ahead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Release {
    /// Downloaded, not checked.
    Part,
    /// Checked.
    Verified,
    /// Where it belongs.
    Complete,
}

impl Host {
    /// The boot id.
    pub fn boot_id(&self) -> String {
        let name: u32 = self.name.as_str().bytes().fold(7, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
        format!("{name:08x}-0000-4000-8000-{:012x}", self.boots)
    }

    /// The control plane whose member runs here.
    pub fn running_plane(&self) -> Option<usize> {
        self.pods.as_ref().and_then(|pods| pods.etcd)
    }

    /// Whether an etcd container runs.
    pub fn member_runs(&self) -> bool {
        self.running_plane().is_some()
    }

    /// Whether an API server's container runs.
    pub fn serves_api(&self) -> bool {
        self.pods.as_ref().is_some_and(|pods| pods.api && pods.etcd.is_some())
    }

    /// The control plane that the data on disk belongs to.
    pub fn data_plane(&self) -> Option<usize> {
        self.disk.etcd.as_ref().and_then(|data| data.plane)
    }

    /// What a joining server joins: our drop-in first, then the configuration; `None`: nobody.
    pub fn effective_server(&self) -> Option<String> {
        match &self.disk.server_override {
            Some((_, server)) => server.clone().filter(|server| !server.is_empty()),
            None => Some(self.disk.configured_server.clone()).filter(|server| !server.is_empty()),
        }
    }

    /// Adds a line to a unit's log.
    pub fn log(&mut self, unit: &str, line: impl Into<String>) {
        let lines = self.logs.entry(unit.to_owned()).or_default();
        lines.push(line.into());
        if lines.len() > LOG_LIMIT_LINES {
            lines.remove(0);
        }
    }

    /// Whether a part of the node's data is there.
    pub fn has_part(&self, part: NodePart) -> bool {
        match part {
            NodePart::Etcd => self.disk.etcd.is_some(),
            NodePart::Tls => self.disk.tls.is_some(),
            NodePart::Cred => self.disk.cred,
            NodePart::ShippedCharts => !self.disk.charts.is_empty(),
        }
    }
}
