//! How long things take, in cluster time: one table.
//!
//! Sources: published logs and polls inside rke2 (cluster-reset 23–29 s: rke2#2652, k3s#7148; learner tick 15 s, etcd
//! test 5 s, apiserver poll 20 s: K3S pkg/etcd, R2 pkg/executor), the restore table of the plan that this product
//! answers (server 0 within 3 min, 16 GiB of volumes by Kopia in 3–5 min), Velero's own periods (1 min).

use std::time::Duration;

const fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// Download of one release's files to one host (2–3 min from GitHub).
pub const DOWNLOAD: Duration = seconds(120);
/// Checking the sums of a release.
pub const VERIFY_RELEASE: Duration = seconds(3);
/// Running `install.sh` on staged files.
pub const INSTALL: Duration = seconds(4);
/// Hashing a snapshot.
pub const VERIFY_SNAPSHOT: Duration = seconds(1);
/// Unpacking a snapshot.
pub const UNPACK_SNAPSHOT: Duration = seconds(3);
/// A snapshot on its way between a host and the bucket.
pub const TRANSFER_SNAPSHOT: Duration = seconds(4);
/// `etcd-snapshot save`, upload included.
pub const SAVE_SNAPSHOT: Duration = seconds(6);
/// `systemctl stop` of a node's unit.
pub const STOP_UNIT: Duration = seconds(3);
/// `rke2-killall.sh`.
pub const KILLALL: Duration = seconds(6);
/// `rke2 server --cluster-reset` with a restore.
pub const CLUSTER_RESET: Duration = seconds(26);
/// More when static pods still run and are cleaned up first (10 s polls).
pub const STATIC_POD_CLEANUP: Duration = seconds(15);
/// Any other stage of a change.
pub const SMALL: Duration = Duration::from_millis(300);
/// From the start of the unit to a running kubelet and etcd container.
pub const ETCD_START: Duration = seconds(8);
/// How often a starting server looks again: etcd's health, a free place for a learner, the supervisor to join.
pub const START_POLL: Duration = seconds(5);
/// From a joined learner to its promotion: one tick of the leader.
pub const PROMOTION: Duration = seconds(15);
/// How long the leader waits for a learner that makes no progress.
pub const LEARNER_STALL: Duration = seconds(300);
/// From a healthy etcd to a ready API server.
pub const API_START: Duration = seconds(25);
/// From a ready API server to `READY=1`.
pub const HOOKS: Duration = seconds(20);
/// A restart that finds its containers alive and of its own version.
pub const WARM_START: Duration = seconds(12);
/// From the start of an agent's unit to `active`.
pub const AGENT_START: Duration = seconds(15);
/// From the unit's `active` to static pods of the new version (kubeletVersion flips first: rke2#8269).
pub const STATIC_PODS: Duration = seconds(20);
/// From a fatal error of a starting unit to the next try (`RestartSec=5s` and what it takes to fail).
pub const RESTART_AFTER_FAILURE: Duration = seconds(10);
/// From power to started units.
pub const BOOT: Duration = seconds(30);
/// Between two renewals of a node's lease.
pub const LEASE_RENEWAL: Duration = seconds(10);
/// How often at most everybody looks at the clock.
pub const TICK: Duration = Duration::from_millis(100);
/// From the last renewal to `Ready: Unknown` (rke2#2652 shows about 45 s).
pub const NODE_GRACE: Duration = seconds(45);
/// From the deletion of a controller's pod to its ready successor.
pub const POD_START: Duration = seconds(8);
/// A helm-install job of a shipped chart.
pub const CHART_JOB: Duration = seconds(30);
/// Between two polls of an upgrade plan's channel.
pub const PLAN_POLL: Duration = seconds(15 * 60);
/// From the start of the upgrade controller to its first look at the plans.
pub const PLAN_FIRST: Duration = seconds(60);
/// How often the upgrade controller looks at its plans even if nothing has changed.
pub const PLAN_RESYNC: Duration = seconds(30);
/// From a change to the upgrade controller's look at it.
pub const PLAN_LOOK: Duration = seconds(1);
/// The images of an upgrade job: about 100 MB for one node.
pub const PLAN_PULL: Duration = seconds(20);
/// A container of an upgrade job.
pub const PLAN_CONTAINER: Duration = seconds(3);
/// Until something of an upgrade job is tried again.
pub const PLAN_RETRY: Duration = seconds(5);
/// An upgrade job out of a snapshot, from its pod to its end.
pub const PLAN_JOB: Duration = seconds(45);
/// Between two writes of the workload.
pub const WORKLOAD_WRITE: Duration = seconds(10);
/// Velero: from `New` to `InProgress`, and between other phases.
pub const VELERO_PHASE: Duration = seconds(3);
/// Velero: a backup or restore without its volumes.
pub const VELERO_ITEMS: Duration = seconds(8);
/// Velero: upload of one GiB by Kopia.
pub const VOLUME_BACKUP_PER_GIB: Duration = seconds(8);
/// Velero: download of one GiB by Kopia (16 GiB in about four minutes).
pub const VOLUME_RESTORE_PER_GIB: Duration = seconds(14);
/// Velero: validation and sync of a storage location.
pub const VELERO_SYNC: Duration = seconds(60);
/// Velero: from the first ready agent to a running server.
pub const VELERO_START: Duration = seconds(20);
