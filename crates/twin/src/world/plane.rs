//! A control plane: the members of one etcd cluster and the objects that they hold.

use std::time::Duration;

use rke2flow_engine::id::HostName;
use serde_json::json;

use crate::host::Host;
use crate::judge::ViolationKind;
use crate::kube::store::Store;
use crate::world::{World, version};

/// One etcd cluster. A reset and an empty start make new ones; members' data says to which one they belong.
#[derive(Debug, Clone)]
pub struct Plane {
    /// The objects; all voters hold the same.
    pub store: Store,
    /// etcd's release that the data are of: an older one never opens them.
    pub etcd: (u64, u64),
    /// Members, running or not.
    pub members: Vec<Member>,
    /// How it came to be.
    pub origin: Origin,
    /// When a server first reached `READY=1` with it.
    pub started: Option<Duration>,
    /// Since when an API server answers from it.
    pub api_since: Option<Duration>,
    /// Whether it had a quorum when last looked at.
    pub had_quorum: bool,
    /// The member that leads; it goes on leading until it stops.
    pub leader: Option<HostName>,
    /// `NOSPACE` or `CORRUPT`: etcd takes no writes; empty: no alarm.
    pub alarm: String,
}

/// A member of etcd.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Where its data is.
    pub host: HostName,
    /// `<node>-<8 hex>`.
    pub name: String,
    /// A learner has no vote.
    pub learner: bool,
}

/// How a control plane came to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// It was there at the beginning.
    Birth,
    /// A cluster-reset from a snapshot.
    Reset {
        /// The run that ordered it.
        run: String,
        /// Where.
        host: HostName,
        /// When the reset began.
        at: Duration,
        /// When the snapshot was taken.
        taken: Duration,
    },
    /// A server started with nothing and nobody to join (rke2#6310).
    Empty {
        /// Where.
        host: HostName,
    },
}

/// Why a member stopped or started, for the judge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// Someone declared an outage: KillNode.
    Kill,
    /// A restart or an upgrade.
    Restart,
    /// Power, or another fault of the twin's own.
    Fault,
    /// A start, a reset: never takes a member away.
    Start,
}

impl World {
    /// Whether a majority of the voters runs.
    pub(crate) fn quorate(&self, plane: usize) -> bool {
        let Some(found) = self.planes.get(plane) else { return false };
        let voters: Vec<&Member> = found.members.iter().filter(|member| !member.learner).collect();
        let running = voters.iter().filter(|member| self.runs(plane, &member.host)).count();
        !voters.is_empty() && running * 2 > voters.len()
    }

    /// Whether the host's etcd member of this control plane runs.
    pub(crate) fn runs(&self, plane: usize, host: &HostName) -> bool {
        self.hosts.get(host).is_some_and(|host| host.powered && host.running_plane() == Some(plane))
    }

    /// Whether some API server answers from this control plane.
    pub(crate) fn serves(&self, plane: usize) -> bool {
        let up = |host: &Host| host.powered && host.serves_api() && host.running_plane() == Some(plane);
        self.quorate(plane) && self.hosts.values().any(up)
    }

    /// The control plane that clients reach through any server: the first that answers, in file order.
    pub(crate) fn reached(&self) -> Option<usize> {
        let plane = |name: &HostName| self.host(name).running_plane().filter(|_| self.host(name).powered);
        self.names
            .iter()
            .filter_map(|name| plane(name).map(|plane| (name, plane)))
            .find_map(|(name, plane)| (self.host(name).serves_api() && self.quorate(plane)).then_some(plane))
    }

    /// The answer of `/db/info`.
    pub(crate) fn db_info(&self, plane: usize) -> String {
        let members: Vec<_> = self.planes[plane]
            .members
            .iter()
            .enumerate()
            .map(|(i, member)| {
                let address = &self.host(&member.host).address;
                json!({
                    "ID": self.member_id(plane, i),
                    "name": member.name,
                    "peerURLs": [format!("https://{address}:2380")],
                    "clientURLs": [format!("https://{address}:2379")],
                    "isLearner": member.learner,
                })
            })
            .collect();
        json!({"header": {"cluster_id": plane + 1, "revision": self.planes[plane].store.revision()}, "members": members})
            .to_string()
    }

    /// etcd's id of a member: another one in another cluster.
    pub(crate) fn member_id(&self, plane: usize, index: usize) -> u64 {
        let name = &self.planes[plane].members[index].name;
        name.bytes().fold(1_000_003 * (plane as u64 + 1), |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()))
    }

    /// Looks at every control plane after something moved: quorum lost, two alive at once, API up or gone.
    pub(crate) fn settle_planes(&mut self, cause: Cause) {
        let mut alive = Vec::new();
        for plane in 0..self.planes.len() {
            let quorate = self.quorate(plane);
            let serves = self.serves(plane);
            let lost = self.planes[plane].had_quorum && !quorate;
            let voters = self.planes[plane].members.iter().filter(|member| !member.learner).count();
            if lost && cause == Cause::Restart && voters > 1 {
                self.violate(ViolationKind::QuorumLost, None, "a restart left etcd without a majority of its voters");
            }
            // One server is away for a moment whenever it restarts; of several, one always answers.
            let silent = self.planes[plane].api_since.is_some() && !serves;
            if silent && cause == Cause::Restart && voters > 1 {
                self.violate(ViolationKind::ApiLost, None, "a restart left no server that answers for the API");
            }
            self.elect(plane, quorate);
            self.raise_etcd(plane);
            let now = self.now;
            let found = &mut self.planes[plane];
            found.had_quorum = quorate;
            match (serves, found.api_since) {
                (true, None) => found.api_since = Some(now),
                (false, Some(_)) => found.api_since = None,
                _ => {}
            }
            let resetting = self.hosts.values().any(|host| host.resetting && host.data_plane() == Some(plane));
            if quorate || resetting {
                alive.push(plane);
            }
        }
        if alive.len() > 1 {
            let detail = format!("control planes {alive:?} had a quorum at the same time");
            self.violate(ViolationKind::TwoControlPlanes, None, &detail);
        }
    }

    /// etcd raises its cluster version, and with it what it writes, when every member runs the newer release (etcd
    /// server/etcdserver/server.go, monitorVersions): until then an older one opens its data.
    fn raise_etcd(&mut self, plane: usize) {
        let version = |member: &Member| {
            let host = self.hosts.get(&member.host).filter(|_| self.runs(plane, &member.host))?;
            host.pods.as_ref().map(|pods| version::etcd(&pods.version))
        };
        let all: Option<Vec<(u64, u64)>> = self.planes[plane].members.iter().map(version).collect();
        if let Some(lowest) = all.and_then(|all| all.into_iter().min()) {
            self.planes[plane].etcd = self.planes[plane].etcd.max(lowest);
        }
    }

    /// A leader that has stopped, or lost its majority, is followed by the first voter that runs.
    fn elect(&mut self, plane: usize, quorate: bool) {
        let votes = |member: &&Member| !member.learner && self.runs(plane, &member.host);
        let voters: Vec<&HostName> = self.planes[plane].members.iter().filter(votes).map(|m| &m.host).collect();
        let leads = self.planes[plane].leader.as_ref().filter(|leader| quorate && voters.contains(leader));
        let next = leads.or(voters.first().copied().filter(|_| quorate)).cloned();
        self.planes[plane].leader = next;
    }

    /// The newest control plane that a reset made.
    pub(crate) fn newest_reset(&self) -> Option<usize> {
        let is_reset = |plane: &usize| matches!(self.planes[*plane].origin, Origin::Reset { .. });
        (0..self.planes.len()).rev().filter(is_reset).find(|plane| self.is_in_force(*plane))
    }

    /// Whether a control plane counts: one that a reset made, that never started and that was put away, does not.
    pub(crate) fn is_in_force(&self, plane: usize) -> bool {
        let in_place = self.hosts.values().any(|host| host.data_plane() == Some(plane));
        in_place || self.planes[plane].started.is_some() || self.planes[plane].api_since.is_some()
    }
}
