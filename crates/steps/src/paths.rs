//! Where things are on a host. Every path that a script uses comes from one [`HostPaths`] value.

use rke2flow_engine::cluster::{Cluster, Distribution, PathOverrides, Role};
use rke2flow_engine::id::{InstanceId, RunId, UnitName};
use serde::{Deserialize, Serialize};

use crate::command::NodePart;
use crate::distribution::Traits;

/// Places, unit names and ports of a distribution on its hosts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostPaths {
    /// Data directory: `/var/lib/rancher/rke2`.
    pub data: String,
    /// Configuration directory: `/etc/rancher/rke2`.
    pub config: String,
    /// Directory of `rke2` and `rke2-killall.sh`: `/usr/local/bin` (R2:install.sh, tarball install).
    pub bin: String,
    /// systemd's own directory: `/etc/systemd/system`.
    pub systemd: String,
    /// rke2flow's state directory: `/var/lib/rke2flow`.
    pub state: String,
    /// A tmpfs for secrets and staging locks: `/run/rke2flow`.
    pub runtime: String,
    /// Name of the distribution and of its binary: `rke2`.
    pub name: String,
    /// Supervisor port: 9345 for RKE2, 6443 for K3s.
    pub supervisor_port: u16,
}

impl HostPaths {
    /// The distribution's own places, with what the cluster file overrides.
    pub fn of(cluster: &Cluster) -> Self {
        Self::with(cluster.distribution, cluster.paths.clone().unwrap_or_default())
    }

    /// A distribution's own places, with what is overridden.
    pub fn with(distribution: Distribution, overrides: PathOverrides) -> Self {
        let traits = Traits::of(distribution);
        let name = traits.name;
        Self {
            data: overrides.data.unwrap_or_else(|| format!("/var/lib/rancher/{name}")),
            config: overrides.config.unwrap_or_else(|| format!("/etc/rancher/{name}")),
            bin: overrides.bin.unwrap_or_else(|| "/usr/local/bin".to_owned()),
            systemd: overrides.systemd.unwrap_or_else(|| "/etc/systemd/system".to_owned()),
            state: overrides.state.unwrap_or_else(|| "/var/lib/rke2flow".to_owned()),
            runtime: "/run/rke2flow".to_owned(),
            name: name.to_owned(),
            supervisor_port: traits.supervisor_port,
        }
    }

    /// What the distribution is.
    pub fn distribution(&self) -> &'static Traits {
        Traits::named(&self.name)
    }

    /// The systemd unit of a role: `rke2-server` or `rke2-agent`; `k3s` or `k3s-agent`.
    pub fn unit(&self, role: Role) -> String {
        self.distribution().unit(role).to_owned()
    }

    /// The file that keeps the unit down while it exists.
    pub fn hold(&self) -> String {
        format!("{}/hold", self.state)
    }

    /// The file that remembers who may act.
    pub fn claim(&self) -> String {
        format!("{}/claim", self.state)
    }

    /// Directory of the marks of lost hosts: one file per host, its name, with the run in it.
    pub fn lost(&self) -> String {
        format!("{}/lost", self.state)
    }

    /// Directory of the local etcd snapshots.
    pub fn snapshots(&self) -> String {
        format!("{}/server/db/snapshots", self.data)
    }

    /// Directory of the copies of etcd snapshots that rke2flow keeps: outside the data directory, so that they survive
    /// its removal and nobody's retention looks at them.
    pub fn kept_snapshots(&self) -> String {
        format!("{}/snapshots", self.state)
    }

    /// What a presigned request is handed to a unit in: a file of a tmpfs that the unit removes before it is used.
    pub fn handed(&self, unit: &UnitName) -> String {
        format!("{}/{unit}.curl", self.runtime)
    }

    /// Directory of the releases that were fetched ahead: one directory per version.
    pub fn releases(&self) -> String {
        format!("{}/releases", self.state)
    }

    /// Directory of recovery points: one JSON file each.
    pub fn points(&self) -> String {
        format!("{}/points", self.state)
    }

    /// The file of one recovery point. What its id has beside letters, digits, `.`, `_` and `-` becomes `_`.
    pub fn point(&self, id: &str) -> String {
        let plain = |c: char| if c.is_ascii_alphanumeric() || ".-".contains(c) { c } else { '_' };
        let file: String = id.trim_start_matches('.').chars().map(plain).collect();
        format!("{}/{file}.json", self.points())
    }

    /// The configuration drop-in that overrides `server:` during a restore
    /// (the name sorts last, as in Rancher's own restore: RR pkg/controllers/operations/etcdsnapshotrestore).
    pub fn server_override(&self) -> String {
        format!("{}/config.yaml.d/zz_rke2flow.yaml", self.config)
    }

    /// The configuration drop-in that sets `token:` on a server that is made anew.
    pub fn token_drop_in(&self) -> String {
        format!("{}/config.yaml.d/zz_rke2flow_token.yaml", self.config)
    }

    /// The drop-in that refuses to start the unit while [`HostPaths::hold`] exists.
    pub fn hold_drop_in(&self, role: Role) -> String {
        format!("{}/{}.service.d/zz-rke2flow-hold.conf", self.systemd, self.unit(role))
    }

    /// What a part of a node is. The charts are those of [`Traits::charts`] in that directory.
    pub fn part(&self, part: NodePart) -> String {
        let below = match part {
            NodePart::Etcd => "server/db/etcd",
            NodePart::Tls => "server/tls",
            NodePart::Cred => "server/cred",
            NodePart::ShippedCharts => "server/manifests",
        };
        format!("{}/{below}", self.data)
    }

    /// Where a run moves a part to. If that is taken, the original is there already, and what came since goes to the
    /// first free of `….2` to `….99`. Charts go into this directory, which is outside the one that is deployed from.
    pub fn aside(&self, part: NodePart, run: &RunId) -> String {
        format!("{}-rke2flow-{run}", self.part(part))
    }

    /// What every place begins with to which some run has moved `server/db/etcd`.
    pub fn etcd_aside(&self) -> String {
        format!("{}-rke2flow-", self.part(NodePart::Etcd))
    }

    /// The file by which the distribution itself remembers a reset that no normal start has followed yet.
    pub fn reset_flag(&self) -> String {
        format!("{}/server/db/reset-flag", self.data)
    }

    /// The file that remembers the last cluster-reset that rke2flow began here.
    pub fn reset_record(&self) -> String {
        format!("{}/reset", self.state)
    }

    /// Directory of one release that was fetched ahead.
    pub fn release(&self, version: &str) -> String {
        format!("{}/{version}", self.releases())
    }

    /// Directory of what a run has staged on this host, such as the unzipped snapshot.
    pub fn staged(&self, run: &RunId) -> String {
        format!("{}/staged/{run}", self.state)
    }

    /// The binary that [`crate::command::Change::InstallVersion`] kept when it replaced `version`.
    pub fn replaced(&self, version: &str) -> String {
        format!("{}/replaced/{version}/{}", self.state, self.name)
    }

    /// Directory of an order's receipt: `script`, `started`, `exit`, `out`.
    pub fn receipt(&self, run: &RunId, instance: &InstanceId, attempt: u32) -> String {
        format!("{}/{run}/{instance}.a{attempt}", self.state)
    }
}
