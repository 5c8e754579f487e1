//! The checks: one row each. A new one is a row here and a function in the file of its group.

use std::fmt;

use futures::future::BoxFuture;
use rke2flow_engine::action::Failure;
use serde::{Deserialize, Serialize};

use super::evidence::Evidence;
use super::{backups, certificates, controllers, datastore, disks, etcd, hosts, objects, token, versions};

macro_rules! checks {
    ($($check:ident $name:literal $what:literal => $row:path,)+) => {
        /// A precondition. Its name in a runbook, in `--waive` and in what people read is the same.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        pub enum Check {
            $(#[doc = $what] #[serde(rename = $name)] $check,)+
        }

        impl Check {
            /// Every check, in the order in which they are told.
            pub const ALL: &'static [Check] = &[$(Check::$check,)+];

            /// Its name.
            pub fn name(self) -> &'static str {
                match self { $(Check::$check => $name,)+ }
            }

            /// What holds when it passes.
            pub fn what(self) -> &'static str {
                match self { $(Check::$check => $what,)+ }
            }

            pub(super) fn row(self) -> &'static Row {
                match self { $(Check::$check => &$row,)+ }
            }
        }
    };
}

checks! {
    HostsReachable "hosts_reachable" "every host of the cluster file answers" => hosts::REACHABLE,
    InstallMethod "install_method" "every node was installed from the tarball, where the cluster file says" => hosts::INSTALL,
    Architecture "architecture" "a release exists for every host's architecture" => hosts::ARCHITECTURE,
    ClockOffset "clock_offset" "the hosts' clocks agree" => hosts::CLOCKS,
    DiskFree "disk_free" "there is room for what is moved aside, fetched and installed" => disks::FREE,
    ManagedByRancher "managed_by_rancher" "Rancher's agent does not manage the node" => controllers::RANCHER,
    OsUpdates "os_updates" "nothing upgrades or reboots hosts by itself" => controllers::OS_UPDATES,
    EtcdQuorum "etcd_quorum" "every server is a voting and healthy member of etcd, and there is no other" => etcd::QUORUM,
    EtcdAlarms "etcd_alarms" "etcd has no alarm, and is not about to have one" => etcd::ALARMS,
    EtcdPath "etcd_path" "this etcd can become the next release's" => etcd::PATH,
    VersionSkew "version_skew" "nodes are, and stay, no further apart than Kubernetes supports" => versions::SKEW,
    OneMinor "one_minor" "the upgrade is one minor release at most" => versions::ONE_MINOR,
    NoDowngrade "no_downgrade" "the upgrade is no downgrade" => versions::NO_DOWNGRADE,
    ServerToken "server_token" "every server has the same token, and it is the recovery point's" => token::TOKEN,
    EmbeddedEtcd "embedded_etcd" "every server keeps its cluster in embedded etcd" => datastore::EMBEDDED,
    ServerFlag "server_flag" "no unit says --server itself and leads elsewhere than to the server that is restored" => datastore::FLAG,
    Certificates "certificates" "no certificate of RKE2's own ends soon" => certificates::DATES,
    Webhooks "webhooks" "every webhook that can block the API has somebody who answers" => objects::WEBHOOKS,
    DisruptionBudgets "disruption_budgets" "no PodDisruptionBudget blocks a drain" => objects::BUDGETS,
    LonghornVolumes "longhorn_volumes" "every Longhorn volume is healthy" => objects::LONGHORN,
    OtherControllers "other_controllers" "nobody else changes the cluster meanwhile" => controllers::OTHERS,
    BackupFreshness "backup_freshness" "there is a fresh recovery point that can be used" => backups::FRESHNESS,
    EtcdBackupRequiresS3Config "etcd_backup_requires_s3_config" "uploads of snapshots have their bucket" => backups::ETCD_S3,
    VeleroRequiresS3Config "velero_requires_s3_config" "Velero has its bucket" => backups::VELERO_S3,
    VeleroRequiresCsi "velero_requires_csi" "Velero has a CSI driver" => backups::VELERO_CSI,
}

/// What a check says of a world that is wrong for it, at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// It is told, and stops nothing.
    Warn,
    /// The run does not start.
    Refuse,
}

impl Check {
    /// The check of this name.
    pub fn named(name: &str) -> Option<Check> {
        Check::ALL.iter().copied().find(|check| check.name() == name)
    }

    /// What it says of a world that is wrong for it, at most.
    pub fn level(self) -> Level {
        self.row().level
    }

    /// Why it matters.
    pub fn reason(self) -> &'static str {
        self.row().why
    }

    /// Who says so.
    pub fn source(self) -> &'static str {
        self.row().source
    }

    /// Why nobody can pass over it; `None`: one can.
    pub fn unwaivable(self) -> Option<&'static str> {
        self.row().unwaivable
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What is known of a check, and how it is judged.
pub(super) struct Row {
    pub level: Level,
    /// Why it matters, in one sentence.
    pub why: &'static str,
    /// Issue numbers, pages of documentation.
    pub source: &'static str,
    /// Why nobody can pass over it.
    pub unwaivable: Option<&'static str>,
    pub judge: Judge,
}

/// How a check looks at the world.
pub(super) type Judge = for<'e, 'a> fn(&'e Evidence<'a>) -> BoxFuture<'e, Result<Seen, Failure>>;

/// What a check saw.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// What is told when nothing is wrong.
    pub well: String,
    pub ills: Vec<Ill>,
}

/// One thing that is wrong.
#[derive(Debug)]
pub(super) struct Ill {
    pub level: Level,
    pub what: String,
    /// What a person does next; the same fix of several things is told once.
    pub fix: String,
}

impl Seen {
    /// Nothing wrong so far.
    pub fn well(text: impl Into<String>) -> Self {
        Self { well: text.into(), ills: Vec::new() }
    }

    /// Something stands in the way.
    pub fn refuse(&mut self, what: impl Into<String>, fix: impl Into<String>) {
        self.ills.push(Ill { level: Level::Refuse, what: what.into(), fix: fix.into() });
    }

    /// Something should be known.
    pub fn warn(&mut self, what: impl Into<String>, fix: impl Into<String>) {
        self.ills.push(Ill { level: Level::Warn, what: what.into(), fix: fix.into() });
    }
}
