//! What a host tells of itself when a run is about to begin: what guards judge by and a survey is too short for.

use serde::{Deserialize, Serialize};

/// How a node is installed, what else acts on its host, and what may run out there.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Inspection {
    /// The file that the node's unit starts: `/usr/local/bin/rke2`; empty: no such unit.
    pub binary: String,
    /// The package of the host's package manager that this file belongs to; empty: none.
    pub package: String,
    /// Those of [`WATCHED_UNITS`] that are active.
    pub units: Vec<String>,
    /// Whether APT installs upgrades by itself (`APT::Periodic::Unattended-Upgrade`).
    pub apt_upgrades: bool,
    /// Whether it then reboots by itself (`Unattended-Upgrade::Automatic-Reboot`).
    pub apt_reboots: bool,
    /// The version of etcd here, by its static pod's image or else by its metrics: `3.5.21`; empty: not known.
    pub etcd_version: String,
    /// etcd's own reason for not being healthy: `ALARM NOSPACE`; empty: none.
    pub etcd_reason: String,
    /// Bytes of etcd's database; 0: not known.
    pub etcd_db_bytes: u64,
    /// Bytes that it may grow to; 0: not known.
    pub etcd_quota_bytes: u64,
    /// Bytes of the release that is installed: its binary and its runtime.
    pub release_bytes: u64,
    /// The node's own certificates; at most 64.
    pub certificates: Vec<Certificate>,
    /// Why their dates cannot be told; empty: they can.
    pub certificates_unread: String,
    /// The file systems of what a run writes to.
    pub disks: Vec<Disk>,
}

/// One certificate of a node.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Certificate {
    /// Its file, relative to the data directory: `server/tls/serving-kube-apiserver.crt`.
    pub file: String,
    /// Seconds since the epoch until which it is valid; 0: it cannot be read.
    pub not_after: i64,
}

impl Certificate {
    /// Whether it is an authority's, which no restart renews.
    pub fn is_authority(&self) -> bool {
        self.file.ends_with("-ca.crt")
    }
}

/// The file system of one place.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Disk {
    /// What lies there.
    pub holds: DiskUse,
    /// Where it is mounted: places with the same one share its room.
    pub mount: String,
    /// Bytes free.
    pub free: u64,
}

/// What lies on a file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DiskUse {
    /// RKE2's data directory.
    #[default]
    Data,
    /// rke2flow's state directory, with what is fetched ahead.
    State,
    /// The directory of the binary.
    Bin,
}

/// Units of a host that change a node, or restart it, without asking rke2flow.
pub const WATCHED_UNITS: [&str; 8] = [
    "rancher-system-agent.service",
    "apt-daily-upgrade.timer",
    "dnf-automatic.timer",
    "dnf-automatic-install.timer",
    "yum-cron.service",
    "transactional-update.timer",
    "rebootmgr.service",
    "zincati.service",
];
