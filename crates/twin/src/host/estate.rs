//! What a machine is beside its node, and what else its people have put on it.

use std::time::Duration;

use rke2flow_engine::cluster::Role;
use rke2flow_engine::id::HostName;
use rke2flow_steps::answer::{Certificate, Disk, DiskUse, Inspection};
use serde::{Deserialize, Serialize};

use crate::world::{World, version};

const DAY_SECONDS: i64 = 24 * 3600;
/// Leaf certificates are renewed by a start when they end sooner, and last this long then (DOC:security/certificates.md).
const RENEWED_BELOW_DAYS: i64 = 120;
const LEAF_DAYS: i64 = 365;
/// The binary and the runtime of a release.
const RELEASE_BYTES: u64 = 600 << 20;
/// etcd's quota, as RKE2 leaves it.
const QUOTA_BYTES: u64 = 2 << 30;

/// What a machine is beside its node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Estate {
    /// `amd64`, `arm64`, or what else `uname -m` says.
    pub arch: String,
    /// The package that the node's binary belongs to; empty: a tarball.
    pub package: String,
    /// Active units that are not the node's.
    pub units: Vec<String>,
    /// Whether APT upgrades by itself.
    pub apt_upgrades: bool,
    /// Whether it reboots after that.
    pub apt_reboots: bool,
    /// How far its clock is ahead.
    pub clock_ahead_seconds: i64,
    /// Bytes free on its one file system.
    pub disk_free: u64,
    /// Days from the twin's beginning until the node's leaf certificates end.
    pub certificate_days: i64,
    /// The same of the authorities'.
    pub authority_days: i64,
    /// etcd's patch release, when it is another than the version's: `3.5.12`.
    pub etcd_version: String,
    /// Where a K3s server keeps the cluster, when not in etcd: `sqlite`, `external`.
    pub datastore: String,
    /// `--server` in the node's unit.
    pub unit_server: String,
}

impl Default for Estate {
    fn default() -> Self {
        Self {
            arch: "amd64".to_owned(),
            package: String::new(),
            units: Vec::new(),
            apt_upgrades: false,
            apt_reboots: false,
            clock_ahead_seconds: 0,
            disk_free: 40 << 30,
            certificate_days: LEAF_DAYS,
            authority_days: 3650,
            etcd_version: String::new(),
            datastore: String::new(),
            unit_server: String::new(),
        }
    }
}

impl World {
    /// A moment of cluster time by the host's own clock, in seconds since the epoch.
    pub(crate) fn clock_of(&self, name: &HostName, at: Duration) -> i64 {
        self.epoch(at) + self.host(name).estate.clock_ahead_seconds
    }

    /// What a start does with certificates that end soon.
    pub(crate) fn renew_certificates(&mut self, name: &HostName) {
        let today = (self.epoch(self.now) - self.epoch(Duration::ZERO)) / DAY_SECONDS;
        let estate = &mut self.host_mut(name).estate;
        if estate.certificate_days - today < RENEWED_BELOW_DAYS {
            estate.certificate_days = today + LEAF_DAYS;
        }
    }

    pub(super) fn inspection(&self, name: &HostName) -> Inspection {
        let (host, paths) = (self.host(name), &self.paths);
        let (estate, plane) = (&host.estate, host.running_plane());
        let health = self.http(name, 2381, "/health").map(|(_, text)| text).unwrap_or_default();
        let reason = health.split("\"reason\":\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap_or_default();
        let release = plane.map(|plane| version::etcd_release(self.planes[plane].etcd).to_owned());
        let own = Some(estate.etcd_version.clone()).filter(|version| !version.is_empty());
        let bin = if estate.package.is_empty() { paths.bin.as_str() } else { "/usr/bin" };
        Inspection {
            binary: if host.installed.is_empty() { String::new() } else { format!("{bin}/{}", paths.name) },
            package: estate.package.clone(),
            units: estate.units.clone(),
            apt_upgrades: estate.apt_upgrades,
            apt_reboots: estate.apt_reboots,
            etcd_version: plane.and(own.or(release)).unwrap_or_default(),
            etcd_reason: reason.to_owned(),
            etcd_db_bytes: plane.map_or(0, |plane| 4096 * self.planes[plane].store.len() as u64),
            etcd_quota_bytes: plane.map_or(0, |_| QUOTA_BYTES),
            release_bytes: RELEASE_BYTES,
            certificates: self.certificates(name),
            certificates_unread: String::new(),
            disks: [DiskUse::Data, DiskUse::State, DiskUse::Bin]
                .map(|holds| Disk { holds, mount: "/".to_owned(), free: estate.disk_free })
                .to_vec(),
        }
    }

    fn certificates(&self, name: &HostName) -> Vec<Certificate> {
        let (host, birth) = (self.host(name), self.epoch(Duration::ZERO));
        let until = |file: &str| {
            let days =
                if file.ends_with("-ca.crt") { host.estate.authority_days } else { host.estate.certificate_days };
            Certificate { file: file.to_owned(), not_after: birth + days * DAY_SECONDS }
        };
        let agents = ["agent/client-kubelet.crt", "agent/server-ca.crt", "agent/serving-kubelet.crt"];
        let servers = ["server/tls/server-ca.crt", "server/tls/serving-kube-apiserver.crt"];
        let server = host.role == Role::Server && host.disk.tls.is_some();
        agents.iter().chain(servers.iter().filter(|_| server)).map(|file| until(file)).collect()
    }
}
