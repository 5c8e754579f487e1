//! The state of a simulated cluster, and how it moves in time.

pub mod birth;
pub mod durations;
pub mod event;
pub mod log;
pub mod plane;
pub mod ticks;
pub mod version;
pub mod workload;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use rke2flow_engine::cluster::Role;
use rke2flow_engine::id::HostName;
use rke2flow_steps::distribution::Traits;
use rke2flow_steps::paths::HostPaths;

use crate::host::Host;
use crate::host::service::STATIC_PODS;
use crate::judge::evidence::Evidence;
use crate::kube::store::Key;
use crate::s3::store::S3Store;
use crate::spec::{Fault, TwinSpec};
use crate::velero::Volume;
use event::Event;
use log::Recorder;
use plane::Plane;
use workload::Workload;

/// Everything there is. Moved forward by [`World::advance`] before each access; nothing runs in the background.
#[derive(Debug, Clone)]
pub struct World {
    pub(crate) now: Duration,
    pub(crate) spec: TwinSpec,
    pub(crate) paths: HostPaths,
    /// The hosts in the cluster file's order.
    pub(crate) names: Vec<HostName>,
    pub(crate) hosts: BTreeMap<HostName, Host>,
    /// Every control plane that ever was, the first one first. A member's data says which one it belongs to.
    pub(crate) planes: Vec<Plane>,
    pub(crate) faults: Vec<Fault>,
    pub(crate) workload: Workload,
    pub(crate) volumes: BTreeMap<String, Volume>,
    pub(crate) evidence: Evidence,
    pub(crate) recorder: Arc<Recorder>,
    pub(crate) bucket: Arc<S3Store>,
    pub(crate) kubeconfigs: BTreeMap<HostName, String>,
    pub(crate) pods_made: u64,
    pub(crate) velero_seen: BTreeSet<String>,
    /// When the channel of an upgrade plan, by its uid, is asked next.
    pub(crate) channels_asked: BTreeMap<String, Duration>,
    /// When an upgrade job, by its uid, has ended.
    pub(crate) jobs_ended: BTreeMap<String, Duration>,
    events: BTreeMap<(Duration, u64), Event>,
    events_made: u64,
    ticked: Option<Duration>,
    base: Timestamp,
}

impl World {
    /// A healthy cluster.
    pub fn new(spec: &TwinSpec, recorder: Arc<Recorder>, bucket: Arc<S3Store>) -> Self {
        let clock = recorder.clock();
        let now = clock.elapsed();
        let since = SignedDuration::try_from(now / clock.speed()).unwrap_or(SignedDuration::ZERO);
        let base = clock.now().checked_sub(since).unwrap_or(Timestamp::UNIX_EPOCH);
        let hosts = spec.hosts();
        let mut world = Self {
            now,
            spec: spec.clone(),
            paths: spec.paths(),
            names: hosts.iter().map(|(name, _)| name.clone()).collect(),
            hosts: BTreeMap::new(),
            planes: Vec::new(),
            faults: spec.faults.clone(),
            workload: Workload::default(),
            volumes: BTreeMap::new(),
            evidence: Evidence::default(),
            recorder,
            bucket,
            kubeconfigs: BTreeMap::new(),
            pods_made: 0,
            velero_seen: BTreeSet::new(),
            channels_asked: BTreeMap::new(),
            jobs_ended: BTreeMap::new(),
            events: BTreeMap::new(),
            events_made: 0,
            ticked: None,
            base,
        };
        world.give_birth();
        world
    }

    /// Lets time pass until `now`: what was due happens, in order.
    pub fn advance(&mut self, now: Duration) {
        while let Some(entry) = self.events.first_entry() {
            if entry.key().0 > now {
                break;
            }
            let ((at, _), event) = entry.remove_entry();
            self.now = self.now.max(at);
            self.tick_when_due();
            self.happen(event);
        }
        self.now = self.now.max(now);
        self.tick_when_due();
    }

    /// Kubelets and node controller look at the clock ten times a second: with 200 hosts, a look at every request would
    /// take most of the twin's time.
    fn tick_when_due(&mut self) {
        if self.ticked.is_none_or(|ticked| self.now >= ticked + durations::TICK) {
            self.ticked = Some(self.now);
            self.tick();
        }
    }

    /// Makes something happen later.
    pub(crate) fn after(&mut self, delay: Duration, event: Event) {
        self.events_made += 1;
        self.events.insert((self.now + delay, self.events_made), event);
    }

    /// The date of a moment of cluster time, as the hosts' clocks show it.
    pub(crate) fn date(&self, at: Duration) -> Timestamp {
        let since = SignedDuration::try_from(at / self.recorder.clock().speed()).unwrap_or(SignedDuration::MAX);
        self.base.checked_add(since).unwrap_or(Timestamp::MAX)
    }

    /// The date now as Kubernetes writes it. A rehearsal's second holds many events: then with microseconds.
    pub(crate) fn stamp(&self) -> String {
        let date = self.date(self.now);
        if self.recorder.clock().speed() == 1 {
            date.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
        } else {
            date.strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string()
        }
    }

    /// The date of a moment as a host's lease has it: by that host's own clock.
    pub(crate) fn micro_stamp_of(&self, host: &HostName, at: Duration) -> String {
        let ahead = SignedDuration::from_secs(self.host(host).estate.clock_ahead_seconds);
        let date = self.date(at).checked_add(ahead).unwrap_or(Timestamp::MAX);
        date.strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string()
    }

    /// Seconds since the epoch of a moment of cluster time.
    pub(crate) fn epoch(&self, at: Duration) -> i64 {
        self.date(at).as_second()
    }

    /// A host that is known to be in the cluster.
    pub(crate) fn host(&self, name: &HostName) -> &Host {
        self.hosts.get(name).expect("callers check that the host exists")
    }

    /// The same, to be changed.
    pub(crate) fn host_mut(&mut self, name: &HostName) -> &mut Host {
        self.hosts.get_mut(name).expect("callers check that the host exists")
    }

    /// Whether the host exists and has power.
    pub fn reachable(&self, host: &HostName) -> bool {
        self.hosts.get(host).is_some_and(|host| host.powered)
    }

    /// Whether something listens on a port of the host.
    pub fn listening(&self, host: &HostName, port: u16) -> bool {
        let Some(found) = self.hosts.get(host).filter(|host| host.powered && host.role == Role::Server) else {
            return false;
        };
        let etcd = found.member_runs() || found.resetting;
        match port {
            2379..=2381 => etcd,
            6443 => found.serves_api(),
            _ if port == self.paths.supervisor_port => found.supervises,
            _ => false,
        }
    }

    /// A plain probe on the host's loopback.
    pub fn http(&self, host: &HostName, port: u16, path: &str) -> Option<(u16, String)> {
        if !self.listening(host, port) {
            return None;
        }
        let found = self.host(host);
        let plane = found.running_plane()?;
        let quorate = self.quorate(plane);
        match (port, path) {
            (2381, "/health") if quorate && !self.planes[plane].alarm.is_empty() => {
                Some((503, format!(r#"{{"health":"false","reason":"ALARM {}"}}"#, self.planes[plane].alarm)))
            }
            (2381, "/health") if quorate => Some((200, r#"{"health":"true","reason":""}"#.to_owned())),
            (2381, "/health") => Some((503, r#"{"health":"false","reason":"RAFT NO LEADER"}"#.to_owned())),
            (_, "/db/info") if port == self.paths.supervisor_port && quorate => Some((200, self.db_info(plane))),
            (_, "/db/info") if port == self.paths.supervisor_port => {
                Some((500, "context deadline exceeded".to_owned()))
            }
            (_, "/ping") if port == self.paths.supervisor_port => Some((200, "pong".to_owned())),
            _ => Some((404, "404 page not found".to_owned())),
        }
    }

    /// What an application of the workload answers.
    pub fn application(&self, url: &str) -> Option<(u16, String)> {
        let runs = |name: &HostName| self.host(name).powered && self.host(name).pods.is_some();
        (url.starts_with("http") && self.places(false).iter().any(runs)).then(|| (200, "ok".to_owned()))
    }

    /// Remembers what `rke2.yaml` of a server holds.
    pub fn set_kubeconfig(&mut self, host: &HostName, text: String) {
        self.kubeconfigs.insert(host.clone(), text);
    }

    /// Uses up one occurrence of a counted fault.
    pub(crate) fn strikes(&mut self, mut hit: impl FnMut(&mut Fault) -> Option<&mut u32>) -> bool {
        for fault in &mut self.faults {
            if let Some(times) = hit(fault)
                && *times > 0
            {
                *times -= 1;
                return true;
            }
        }
        false
    }

    /// The delay that faults put on every request to the Kubernetes API.
    pub(crate) fn api_delay(&self) -> Duration {
        let slow = |fault: &Fault| if let Fault::ApiSlow(milliseconds) = fault { Some(*milliseconds) } else { None };
        Duration::from_millis(self.faults.iter().filter_map(slow).sum())
    }

    /// Whether the control plane runs inside one process that stops with its unit (K3s).
    pub(crate) fn one_process(&self) -> bool {
        !self.distribution().static_pods
    }

    /// What the distribution is.
    pub(crate) fn distribution(&self) -> &'static Traits {
        self.paths.distribution()
    }

    /// The manifests of the static pods that a running server has on its disk.
    pub(crate) fn static_manifests(&self, role: Role) -> Vec<String> {
        match role {
            Role::Server if !self.one_process() => STATIC_PODS.map(|pod| format!("{pod}.yaml")).to_vec(),
            _ => Vec::new(),
        }
    }

    /// The secret by which the supervisor knows a node again.
    pub(crate) fn password_of(&self, node: &HostName) -> Key {
        Key::new("", "secrets", "kube-system", &format!("{node}.node-password.{}", self.paths.name))
    }
}
