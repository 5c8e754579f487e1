//! What is done on a host, as a typed value.
//!
//! A [`HostCommand`] travels in an [`Envelope`] and is rendered to one POSIX `sh` script whose first line carries the
//! envelope as a comment. Real hosts run the shell; the twin interprets the typed form.

use std::fmt;

use rke2flow_engine::action::Claim;
use rke2flow_engine::cluster::{Releases, Role};
use rke2flow_engine::id::{HostName, InstanceId, RunId, UnitName};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::paths::HostPaths;
use crate::transfer::Presigned;

/// What a script's first line begins with; the rest of that line is the envelope as JSON.
pub const ENVELOPE_MARK: &str = "# rke2flow ";

/// Version of the envelope. A host-side reader refuses another one.
pub const ENVELOPE_VERSION: u32 = 1;

/// A command with everything that a host must know to accept or refuse it. Holds no secret but a [`Presigned`] request,
/// so it is never written to a disk, neither here nor there.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Envelope {
    /// [`ENVELOPE_VERSION`].
    pub v: u32,
    /// Name of the cluster.
    pub cluster: String,
    /// What the host is in the cluster: decides which unit is meant.
    pub role: Role,
    /// Where things are.
    pub paths: HostPaths,
    /// What is to be done.
    pub command: HostCommand,
}

/// What is done on a host.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum HostCommand {
    /// Looks; changes nothing, needs no claim, starts no unit.
    Look(Look),
    /// Takes, or gives up, the right to act.
    Claim(ClaimCommand),
    /// Changes the host as a detached unit, at most once per unit name.
    Change(Order),
}

/// A change together with who asks for it and under which name it runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Order {
    /// The run.
    pub run: RunId,
    /// The instance.
    pub instance: InstanceId,
    /// The attempt, from 1.
    pub attempt: u32,
    /// The unit it runs as.
    pub unit: UnitName,
    /// The right to act; the host refuses an order whose claim is not the one it remembers.
    pub claim: Claim,
    /// The change.
    pub change: Change,
}

/// A read-only question. Answered by the type of [`crate::answer`] that is named with each.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Look {
    /// Everything about a node that is cheap to know → [`crate::answer::Survey`].
    Survey,
    /// What became of an order → [`crate::answer::ReceiptAnswer`].
    Receipt {
        /// The run.
        run: RunId,
        /// The instance.
        instance: InstanceId,
        /// The attempt.
        attempt: u32,
        /// Its unit.
        unit: UnitName,
    },
    /// Files: presence, size, SHA-256, whether an etcd snapshot's trailer fits → [`crate::answer::Files`].
    Files {
        /// Absolute paths; at most 64.
        paths: Vec<String>,
    },
    /// Local etcd snapshots whose name begins so, RKE2's own and the copies that rke2flow keeps → [`crate::answer::Files`].
    Snapshots {
        /// Beginning of the file name; empty for all. The newest 200 are returned, newest first.
        prefix: String,
    },
    /// What RKE2 itself lists as snapshots, as `etcd-snapshot list --output json` prints it → [`crate::answer::Tail`].
    SnapshotList,
    /// Recovery points that this host keeps, as many as fit → [`crate::answer::Points`].
    Points,
    /// A part of one recovery point → [`crate::answer::Part`].
    Point {
        /// Its file, as [`crate::answer::Points::left_out`] names it.
        file: String,
        /// Bytes before the part.
        offset: u64,
    },
    /// What a recovery point says of a host beside its survey → [`crate::answer::Identity`].
    Identity,
    /// What guards judge by and a survey is too short for → [`crate::answer::Inspection`].
    Inspection,
    /// Whether a release is staged completely, its checksums verified → [`crate::answer::Staged`].
    Release {
        /// `v1.33.4+rke2r1`
        version: String,
    },
    /// The end of a unit's log → [`crate::answer::Tail`].
    Log {
        /// A unit name without `.service`: the node's own, or one of ours.
        unit: String,
        /// At most 200.
        lines: u32,
    },
    /// The node's own admin kubeconfig → [`crate::answer::Tail`]. Holds a secret: never logged, never journaled.
    Kubeconfig,
    /// A person's own probe → [`crate::answer::Tail`], with its exit status.
    Script {
        /// POSIX sh. It must change nothing; 30 s.
        script: String,
    },
}

/// Takes or gives up the right to act, compare-and-set under a lock on the host → [`crate::answer::ClaimAnswer`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum ClaimCommand {
    /// Accepted when the number is greater than the remembered one, or equal with the same holder and run.
    Take(Claim),
    /// Marks the claim as released when it is this one; otherwise does nothing.
    Release(Claim),
}

/// How many copies of snapshots a host keeps beside RKE2's own: as many recovery points can be reached without a bucket.
pub const KEPT_SNAPSHOTS: u32 = 5;

/// A change of a host. Each is safe to repeat, and safe to have been cut off after any of its commands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Change {
    /// Puts a release, verified by its checksums, below [`HostPaths::releases`].
    FetchRelease {
        /// `v1.33.4+rke2r1`
        version: String,
        /// Where from.
        from: Releases,
        /// `amd64` or `arm64`; the host's own when empty.
        arch: String,
    },
    /// Copies an etcd snapshot to [`HostPaths::state`]`/staged/<run>/`, unzipped, and checks its digest and trailer.
    StageSnapshot {
        /// A file of this host.
        file: String,
        /// SHA-256 of `file` as it is.
        sha256: String,
        /// Where the uncompressed copy goes.
        to: String,
    },
    /// `rke2 etcd-snapshot save --name <name>`. Exit 0 proves nothing (K3S pkg/etcd/snapshot.go): the probe does.
    SaveSnapshot {
        /// Unique per run: retention goes by name prefix.
        name: String,
    },
    /// Uploads an etcd snapshot by a presigned PUT, as RKE2 would have. What the bucket then has is the proof.
    UploadSnapshot {
        /// A file of this host.
        file: String,
        /// Its SHA-256.
        sha256: String,
        /// The request. It is in no file of the host's disk.
        request: Presigned,
    },
    /// Fetches an etcd snapshot by a presigned GET; keeps the newest [`KEPT_SNAPSHOTS`] of what is there.
    FetchSnapshot {
        /// Where it goes: below [`HostPaths::kept_snapshots`].
        to: String,
        /// Its size in bytes.
        size: u64,
        /// Its SHA-256; empty: not known.
        sha256: String,
        /// The request. It is in no file of the host's disk.
        request: Presigned,
    },
    /// Installs a staged release with its own `install.sh`; does not restart anything.
    InstallVersion {
        /// `v1.33.4+rke2r1`
        version: String,
        /// Keeps the replaced binary below [`HostPaths::state`]`/replaced/<version>/`.
        keep_replaced: bool,
    },
    /// Drop-in with `ConditionPathExists=!…/hold`, hold file, daemon-reload: a reboot does not bring the node back.
    Hold,
    /// Removes the hold file.
    ReleaseHold,
    /// SIGTERM to the containers' processes, a grace, then `rke2-killall.sh`: nothing of the node runs on.
    KillNode {
        /// Seconds between SIGTERM and killall.
        grace_seconds: u32,
    },
    /// A joining server that got stuck: killed, what it had of etcd moved aside, started again.
    JoinAnew {
        /// Seconds between SIGTERM and killall.
        grace_seconds: u32,
    },
    /// Moves directories out of the way as `<path>-rke2flow-<run>`; never deletes.
    MoveAside {
        /// What.
        parts: Vec<NodePart>,
    },
    /// Undoes [`Change::MoveAside`] and [`Change::ClusterReset`] of the same run.
    MoveBack {
        /// What.
        parts: Vec<NodePart>,
    },
    /// Writes the drop-in that sets `server:`; `None` sets it empty, as the reset node needs (R2#3178).
    PointAt {
        /// `https://10.0.0.10:9345`
        server: Option<String>,
    },
    /// `rke2 server --cluster-reset --cluster-reset-restore-path=… --etcd-s3=false` and the workaround flags.
    ClusterReset {
        /// Absolute path of the uncompressed snapshot.
        snapshot: String,
        /// Its SHA-256.
        sha256: String,
    },
    /// `systemctl start --no-block` of the node's unit, after `reset-failed`.
    StartUnit,
    /// `systemctl restart --no-block` of the node's unit, after `reset-failed`.
    RestartUnit,
    /// Writes a recovery point below [`HostPaths::points`].
    WritePoint {
        /// The point.
        point: Box<crate::point::RecoveryPoint>,
    },
    /// Writes the drop-in that sets `token:`, readable by root alone.
    WriteToken {
        /// The token: handed to the unit apart from the script, which is kept on disk.
        token: HandedToken,
    },
    /// `systemctl enable` of the node's unit.
    EnableUnit,
    /// Remembers below [`HostPaths::lost`] that these hosts were declared lost: the cluster goes on without them, and what
    /// they have on disk is of its past.
    MarkLost {
        /// Their names.
        hosts: Vec<HostName>,
    },
    /// Forgets it: they have been cleaned and are back.
    ForgetLost {
        /// Their names.
        hosts: Vec<HostName>,
    },
    /// Removes the drop-ins that rke2flow wrote and the hold: what a closed run leaves is nothing.
    CleanUp,
    /// A person's own command.
    Script {
        /// POSIX sh.
        script: String,
    },
}

/// A part of a node's data directory that a restore moves out of the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum NodePart {
    /// `server/db/etcd`: the member's data; never `server/db`, which holds the snapshots (rke2-docs#321).
    Etcd,
    /// `server/tls`: files newer than the datastore stop a start (R2#1916).
    Tls,
    /// `server/cred`: the same.
    Cred,
    /// `server/manifests/rke2-*.yaml`: charts of the newer version crash-loop after a rollback (rancher#41174).
    ShippedCharts,
}

/// The server token on its way to a host. No envelope, log or debug text has it.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct HandedToken {
    #[serde(skip)]
    token: String,
}

impl HandedToken {
    /// This token, without the line end of the file that it comes from.
    pub fn new(token: &str) -> Self {
        Self { token: token.trim().to_owned() }
    }

    /// SHA-256 of the drop-in that sets it.
    pub fn sha256(&self) -> String {
        let digest = Sha256::digest(format!("{}\n", self.drop_in()));
        digest.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The drop-in's text, without its line end: a JSON text is a YAML text.
    fn drop_in(&self) -> String {
        format!("token: {}", serde_json::Value::from(self.token.as_str()))
    }
}

impl fmt::Debug for HandedToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HandedToken([redacted])")
    }
}

impl Change {
    /// What is handed to its unit apart from the script; empty: nothing.
    pub fn handed(&self) -> String {
        match self {
            Change::WriteToken { token } => token.drop_in(),
            _ => self.request().map(Presigned::curl_config).unwrap_or_default(),
        }
    }

    /// The presigned request that it needs: handed to its unit apart from the script, which is kept on disk.
    pub fn request(&self) -> Option<&Presigned> {
        match self {
            Change::UploadSnapshot { request, .. } | Change::FetchSnapshot { request, .. } => Some(request),
            _ => None,
        }
    }

    /// The sub-steps of this change, in the order in which its script does them.
    ///
    /// Each begins with the line `#: <name>` in the staged script. A change that was cut off after any of them and is
    /// applied again (under a new attempt) leaves the world as if it had never been cut off. A sub-step that has
    /// nothing to do (a part that was not asked for, a file that is already right) changes nothing.
    pub fn stages(&self) -> &'static [&'static str] {
        match self {
            // `download` fills `<releases>/<version>.part`, `verify` checks every sum, `publish` renames the directory.
            Change::FetchRelease { .. } => &["download", "verify", "publish"],
            // `unpack` writes `<to>.part`, `publish` renames it.
            Change::StageSnapshot { .. } => &["verify-source", "unpack", "verify-copy", "publish"],
            Change::SaveSnapshot { .. } => &["save"],
            Change::UploadSnapshot { .. } => &["verify-source", "upload"],
            // `fetch` writes `<to>.part`, `publish` renames it; `prune` removes the oldest copies beyond the limit.
            Change::FetchSnapshot { .. } => &["fetch", "verify-arrival", "publish", "prune"],
            // `keep-replaced` copies the binary that is there; `install` replaces it; nothing is restarted.
            Change::InstallVersion { .. } => &["verify-release", "keep-replaced", "install", "prove-version"],
            Change::Hold => &["write-hold", "write-drop-in", "reload"],
            Change::ReleaseHold => &["remove-hold"],
            // The reset first: killing the shims below a running one would destroy it. Then the unit, or the kubelet
            // would start again what `terminate` ends.
            Change::KillNode { .. } => &["stop-reset", "stop-unit", "terminate", "kill", "prove"],
            // `guard` refuses on the server that was reset, and where nobody is joined.
            Change::JoinAnew { .. } => &[
                "guard",
                "stop-reset",
                "stop-unit",
                "terminate",
                "kill",
                "prove",
                "move-etcd",
                "move-tls",
                "move-cred",
                "start",
            ],
            // `guard` refuses while the unit or a shim lives, and for etcd once a reset of this run has begun.
            Change::MoveAside { .. } => &["guard", "move-etcd", "move-tls", "move-cred", "move-charts"],
            // `forget-reset` comes first and `clear-reset-flag` last, so that a cut never looks like a started node.
            Change::MoveBack { .. } => &[
                "guard",
                "stop-reset",
                "forget-reset",
                "return-etcd",
                "return-tls",
                "return-cred",
                "return-charts",
                "clear-reset-flag",
            ],
            Change::PointAt { .. } => &["write-override"],
            // `record` makes durable that a reset of this run has begun, before `move-partial` takes an older
            // attempt's `db/etcd` out of the way.
            Change::ClusterReset { .. } => {
                &["guard", "stop-old-reset", "verify-snapshot", "record", "move-partial", "reset", "prove"]
            }
            Change::StartUnit => &["start"],
            Change::RestartUnit => &["restart"],
            Change::WritePoint { .. } => &["write-point"],
            Change::WriteToken { .. } => &["write-token"],
            Change::EnableUnit => &["enable"],
            Change::MarkLost { .. } => &["mark"],
            Change::ForgetLost { .. } => &["forget"],
            // `guard` refuses on a server whose etcd is aside or was reset and not started. The hold before its drop-in:
            // without the file the drop-in is harmless, and a cut leaves no locked node.
            Change::CleanUp => &["guard", "remove-override", "remove-hold", "remove-drop-in", "reload"],
            Change::Script { .. } => &["script"],
        }
    }
}
