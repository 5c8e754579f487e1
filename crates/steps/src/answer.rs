//! What hosts answer. A script prints one JSON object on its standard output; free text in it is base64.

use rke2flow_engine::action::Claim;
use rke2flow_engine::id::RunId;
use serde::{Deserialize, Serialize};

use crate::paths::HostPaths;

mod db_info;
mod inspection;

pub use inspection::{Certificate, Disk, DiskUse, Inspection, WATCHED_UNITS};

/// Everything about a node that is cheap to know.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Survey {
    /// `/proc/sys/kernel/random/boot_id`.
    pub boot: String,
    /// Seconds since the epoch by the host's clock.
    pub epoch: i64,
    /// `amd64`, `arm64`.
    pub arch: String,
    /// The version by `rke2 --version`, `v1.33.4+rke2r1`: the binary on disk, not the running one. Empty: not installed.
    pub installed: String,
    /// systemd's ActiveState of the node's unit: `active`, `activating`, `inactive`, `failed`, `deactivating`; empty: no such unit.
    pub unit: String,
    /// Seconds since the epoch when the unit last became active; 0 when it is not active.
    pub unit_active_since: i64,
    /// Seconds since the epoch when the unit last began to start; 0 when it is down.
    pub unit_begun_since: i64,
    /// systemd's NRestarts of the unit.
    pub unit_restarts: u32,
    /// Whether the unit starts at boot.
    pub unit_enabled: bool,
    /// Living containerd-shim processes below the data directory: containers outlive the unit (R2#963).
    pub shims: u32,
    /// Which of 2379, 2380, 6443 and the supervisor port are listened on.
    pub open_ports: Vec<u16>,
    /// Names of the manifests in `agent/pod-manifests`.
    pub static_pods: Vec<String>,
    /// Whether the hold file is there.
    pub hold: bool,
    /// Whether the hold's drop-in is there.
    pub hold_drop_in: bool,
    /// Whether `server/db/reset-flag` is there.
    pub reset_flag: bool,
    /// Whether `server/db/etcd/name` is there.
    pub etcd_name: bool,
    /// Whether `server/db/etcd/member` is there.
    pub etcd_member: bool,
    /// Whether `server/tls` is there.
    pub tls: bool,
    /// Whether `server/cred` is there.
    pub cred: bool,
    /// Number of the distribution's own charts in `server/manifests`: `rke2-*.yaml`.
    pub shipped_charts: u32,
    /// Names of what was moved aside: `server/db/etcd-rke2flow-<run>`, relative to the data directory.
    pub aside: Vec<String>,
    /// Our own `server:` drop-in as [`server_override`] writes it: the run and the value; empty: no drop-in.
    pub server_override: String,
    /// Value of `server:` in the node's configuration without our drop-in, or of the unit's `K3S_URL`; empty: none.
    pub configured_server: String,
    /// Value of `--server` in the unit's own command line, which counts for more than every file (K3s); empty: none.
    pub unit_server: String,
    /// The node's internal address: the first of `node-ip:` in its configuration, or else, as RKE2 does, the one of the
    /// default route's interface; empty: neither.
    pub node_ip: String,
    /// Whether `etcd-s3: true` is configured.
    pub etcd_s3: bool,
    /// Answer of `http://127.0.0.1:2381/health`: `true`, `false`, or empty when nothing answers.
    pub etcd_health: String,
    /// Answer of `https://127.0.0.1:6443/readyz`: `ok`, another text, or empty.
    pub readyz: String,
    /// The version that the host's own API server tells, where it is inside the unit's process (K3s); empty: not told.
    pub api_version: String,
    /// What a server of a distribution that may have others keeps its cluster in: `etcd`, `sqlite`, `external`; empty:
    /// it has nothing yet, or there is no choice.
    pub datastore: String,
    /// Members by `https://127.0.0.1:<supervisor>/db/info`; empty when it does not answer.
    /// Read from a list of [`Member`], or from base64 of that answer as etcd writes it.
    #[serde(deserialize_with = "db_info::members")]
    pub members: Vec<Member>,
    /// SHA-256 of the server token on disk, without its line end; empty: none.
    pub token_sha256: String,
    /// SHA-256 of `server/tls/server-ca.crt`; empty: none.
    pub ca_sha256: String,
    /// Bytes free on the data directory's file system.
    pub disk_free: u64,
    /// Bytes of `server/db/etcd`.
    pub etcd_bytes: u64,
    /// The claim that the host remembers.
    pub claim: Option<ClaimState>,
    /// Units `rke2flow-*` that are active now.
    pub our_units: Vec<String>,
    /// Exit and end of the last cluster-reset of the given run, see [`ResetState`].
    pub reset: Option<ResetState>,
    /// The hosts that were declared lost and have not been cleaned since, as this host remembers.
    pub lost: Vec<LostMark>,
}

impl Survey {
    /// Why a server must not come back by itself: its etcd is aside, or was reset and not started since.
    pub fn unstarted(&self, paths: &HostPaths, run: &RunId) -> Option<&'static str> {
        let aside = paths.etcd_aside();
        let below = aside.strip_prefix(&format!("{}/", paths.data)).unwrap_or(&aside);
        let is_aside = self.aside.iter().any(|moved| moved.starts_with(below) || moved.starts_with(&aside));
        let failed = self.reset.as_ref().is_some_and(|reset| reset.run == run.as_str() && !reset.proved);
        match () {
            () if self.reset_flag => Some("its etcd was reset and never started"),
            () if failed => Some("its cluster-reset has not succeeded"),
            () if is_aside && !self.etcd_name && !self.etcd_member => {
                Some("its etcd is aside, and nothing is in its place")
            }
            () => None,
        }
    }
}

/// How [`Survey::server_override`] tells of a drop-in: `<run> <server>`, or the run alone when it sets `server:` empty.
pub fn server_override(run: &RunId, server: Option<&str>) -> String {
    format!("{run} {}", server.unwrap_or_default()).trim_end().to_owned()
}

/// A member of etcd, as `/db/info` tells.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// `<node>-<8 hex>`.
    pub name: String,
    /// A learner has no vote yet.
    pub learner: bool,
    /// `https://10.0.0.10:2380`
    #[serde(default)]
    pub peer_urls: Vec<String>,
    /// etcd's own id of it; 0: not told. Of another cluster, the same node has another one.
    #[serde(default)]
    pub id: u64,
}

/// A host that was declared lost: the cluster was restored or went on without it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LostMark {
    /// Its name.
    pub host: String,
    /// The run that went on without it.
    pub run: String,
    /// Seconds since the epoch when that was remembered.
    pub since: i64,
}

/// A remembered claim.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClaimState {
    /// Who may act.
    pub claim: Claim,
    /// Seconds since the epoch when it was taken.
    pub since: i64,
    /// Whether its holder gave it up.
    pub released: bool,
}

/// What the last cluster-reset on this host left: its log's proof and its exit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResetState {
    /// The run that ordered it.
    pub run: String,
    /// SHA-256 of the snapshot that was restored.
    pub sha256: String,
    /// Whether it is over and its log has `Managed etcd cluster membership has been reset`: the only proof
    /// (K3S pkg/cluster/managed.go).
    pub proved: bool,
    /// Whether the node was started normally since.
    pub started_since: bool,
}

/// Answer to taking or giving up a claim.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ClaimAnswer {
    /// The host remembers it now.
    Accepted,
    /// Another one holds it.
    Refused(ClaimState),
}

/// What became of an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReceiptAnswer {
    /// The host has never seen it.
    Unknown,
    /// It runs.
    Running,
    /// It ended.
    Finished {
        /// Exit status.
        exit: i32,
        /// Boot in which it started.
        boot: String,
        /// End of its output, base64, at most 4 KiB.
        tail: String,
    },
    /// It started in another boot, or its unit is gone without an exit: the probe decides.
    Interrupted {
        /// Boot in which it started.
        boot: String,
    },
    /// The host refused it: its claim is not the remembered one.
    Refused(Option<ClaimState>),
}

/// The exit status of a change that the host refused before it changed anything, because the world is not one that it
/// may start from: trying again does not help. Every other status may pass.
pub const REFUSED_EXIT: i32 = 65;

/// Files of a host.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Files {
    /// Those that exist.
    pub files: Vec<FileInfo>,
    /// Snapshots that are being written: `<name>.part` changed within the last minute.
    #[serde(default)]
    pub in_progress: Vec<String>,
}

/// One file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileInfo {
    /// Absolute path.
    pub path: String,
    /// Bytes.
    pub size: u64,
    /// Seconds since the epoch.
    pub modified: i64,
    /// SHA-256, hex; empty when there was no time for more digests in one look: then ask for fewer files.
    pub sha256: String,
    /// Whether it ends in the SHA-256 of everything before (etcd's own trailer; size % 512 == 32).
    pub trailer: bool,
}

/// Recovery points of a host.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Points {
    /// The files' contents, base64 of JSON; newest last; at most 50.
    pub points: Vec<String>,
    /// Files that did not fit into this answer, newest first: to be asked for one by one.
    #[serde(default)]
    pub left_out: Vec<String>,
}

/// A part of a file.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Part {
    /// Bytes of the whole file.
    pub total: u64,
    /// The part, base64: at most 128 KiB of the file.
    pub text: String,
}

/// What a recovery point says of a host beside its survey.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Identity {
    /// [`crate::token::token_hash`] of the server token on disk, made on the host; empty: none.
    pub token_hash: String,
    /// SHA-256 over the node's configuration without our drop-ins; empty: there is none.
    pub config_sha256: String,
    /// The version of the etcd that runs here, `3.5.21`; empty: it does not answer.
    pub etcd_version: String,
    /// Whether the member of etcd that runs here leads.
    pub etcd_leads: bool,
}

/// Whether a release is staged.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Staged {
    /// Every file is there and its checksum fits.
    pub complete: bool,
    /// What is missing or wrong.
    pub missing: Vec<String>,
}

/// The end of a text.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Tail {
    /// Exit status of what printed it.
    pub exit: i32,
    /// The text, base64; at most 48 KiB.
    pub text: String,
}
