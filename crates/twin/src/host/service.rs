//! A node's unit: how it starts, waits, fails and stops; its containers live on when it stops.

use std::time::Duration;

use rke2flow_engine::cluster::Role;
use rke2flow_engine::id::HostName;

use crate::host::{MemberData, Pods};
use crate::judge::ViolationKind;
use crate::kube::store::Store;
use crate::spec::Fault;
use crate::world::World;
use crate::world::durations as take;
use crate::world::event::Event;
use crate::world::plane::{Cause, Member, Origin, Plane};
use crate::world::version;

/// systemd's view of the node's unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// The state.
    pub state: UnitState,
    /// When it last became active.
    pub active_since: Duration,
    /// When it last began to start.
    pub begun_since: Duration,
    /// How often systemd restarted it after a failure.
    pub restarts: u32,
    /// Whether it starts at boot.
    pub enabled: bool,
    /// The version of the process.
    pub running: String,
    /// Counts starts and stops: steps of an older start do not happen any more.
    pub generation: u64,
}

/// systemd's ActiveState.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnitState {
    /// `READY=1` was sent.
    Active,
    /// On its way, or between two tries.
    Activating,
    /// Not running.
    Inactive,
}

impl UnitState {
    /// As `systemctl show` prints it.
    pub fn as_str(self) -> &'static str {
        match self {
            UnitState::Active => "active",
            UnitState::Activating => "activating",
            UnitState::Inactive => "inactive",
        }
    }
}

/// A step of a starting node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartStep {
    /// Containers of another version are stopped.
    Replace,
    /// The process decides: open its data, join, or begin anew.
    Begin,
    /// etcd waits for its quorum.
    Quorum,
    /// The leader looks whether the learner has caught up.
    Promote,
    /// The API server is ready, the kubelet registers.
    Api,
    /// `READY=1`.
    Ready,
}

impl World {
    /// `systemctl start --no-block` of the node's unit. Nothing happens when it runs, or when it is held.
    pub(crate) fn start_unit(&mut self, name: &HostName) {
        let host = self.host(name);
        if !host.powered || host.service.state != UnitState::Inactive {
            return;
        }
        let unit = self.paths.unit(host.role);
        if host.disk.hold && host.disk.hold_drop_in {
            self.host_mut(name)
                .log(&unit, "Condition check resulted in the unit being skipped: ConditionPathExists=!hold");
            return;
        }
        self.renew_certificates(name);
        let (one_process, now) = (self.one_process(), self.now);
        let host = self.host_mut(name);
        host.service.generation += 1;
        host.service.restarts = 0;
        host.service.begun_since = now;
        host.service.state = UnitState::Activating;
        host.service.running = host.installed.clone();
        host.log(&unit, format!("Starting {unit} {}", host.installed));
        let generation = host.service.generation;
        let replaced = host.pods.as_ref().is_some_and(|pods| pods.version != host.installed) && !one_process;
        let hangs = self.strikes(|fault| match fault {
            Fault::RestartHangs { host, times } if host == name => Some(times),
            _ => None,
        });
        if hangs {
            return;
        }
        let (delay, step) = match (self.host(name).role, replaced) {
            (Role::Server, true) => (take::STOP_UNIT, StartStep::Replace),
            (Role::Server, false) => (take::ETCD_START, StartStep::Begin),
            (Role::Agent, _) => (take::AGENT_START, StartStep::Begin),
        };
        self.after(delay, Event::Start { host: name.clone(), generation, step });
    }

    /// `systemctl stop`: the process ends, kubelet and containerd with it; containers live on (rke2#963).
    pub(crate) fn stop_unit(&mut self, name: &HostName, cause: Cause) {
        let one_process = self.one_process();
        let host = self.host_mut(name);
        host.service.generation += 1;
        host.service.state = UnitState::Inactive;
        host.kubelet = false;
        host.supervises = false;
        if one_process && let Some(pods) = &mut host.pods {
            pods.etcd = None;
            pods.api = false;
        }
        self.settle_planes(cause);
    }

    /// `rke2-killall.sh`, `k3s-killall.sh`: nothing of the node runs on.
    pub(crate) fn kill_all(&mut self, name: &HostName, cause: Cause) {
        self.stop_unit(name, cause);
        let host = self.host_mut(name);
        host.pods = None;
        host.resetting = false;
        host.disk.static_pods.clear();
        self.settle_planes(cause);
    }

    /// The next step of a start.
    pub(crate) fn continue_start(&mut self, name: &HostName, generation: u64, step: StartStep) {
        let host = self.host(name);
        if host.service.generation != generation || !host.powered {
            return;
        }
        let next = match (host.role, step) {
            (Role::Agent, _) => self.agent_begins(name),
            (Role::Server, StartStep::Replace) => self.containers_replaced(name),
            (Role::Server, StartStep::Begin) => self.server_begins(name),
            (Role::Server, StartStep::Quorum) => self.wait_for_quorum(name),
            (Role::Server, StartStep::Promote) => self.promote(name),
            (Role::Server, StartStep::Api) => self.api_is_up(name),
            (Role::Server, StartStep::Ready) => self.server_is_ready(name),
        };
        if let Some((delay, step)) = next {
            self.after(delay, Event::Start { host: name.clone(), generation, step });
        }
    }

    fn containers_replaced(&mut self, name: &HostName) -> Option<(Duration, StartStep)> {
        if let Some(pods) = &mut self.host_mut(name).pods {
            pods.etcd = None;
            pods.api = false;
        }
        self.settle_planes(Cause::Restart);
        Some((take::ETCD_START, StartStep::Begin))
    }

    fn server_begins(&mut self, name: &HostName) -> Option<(Duration, StartStep)> {
        let host = self.host(name);
        let warm = host.pods.as_ref().is_some_and(|pods| pods.etcd.is_some() && pods.version == host.service.running);
        match (warm, host.disk.etcd.clone(), host.effective_server()) {
            (true, ..) => Some((take::WARM_START, StartStep::Api)),
            (false, Some(data), _) => self.open_data(name, &data),
            (false, None, Some(server)) => self.join(name, &server),
            (false, None, None) => self.begin_anew(name),
        }
    }

    /// Starts etcd on the data that is there.
    fn open_data(&mut self, name: &HostName, data: &MemberData) -> Option<(Duration, StartStep)> {
        let running = self.host(name).service.running.clone();
        let Some(plane) = data.plane else {
            return self.fatal(name, "failed to open etcd: member directory is incomplete");
        };
        let (has, wants) = (version::etcd(&running), self.planes[plane].etcd);
        if has < wants {
            let text =
                format!("invalid downgrade: cluster has data from version {}.{}, cannot downgrade", wants.0, wants.1);
            return self.fatal(name, &text);
        }
        if !self.planes[plane].members.iter().any(|member| member.host == *name) {
            return self.fatal(name, "this server has been removed from the cluster; remove its data to join again");
        }
        if self.tls_is_newer(name, plane) {
            return self.fatal(name, NEWER_THAN_DATASTORE);
        }
        if self.newest_reset().is_some_and(|newest| newest > plane) && !self.host(name).away {
            self.violate(ViolationKind::StaleJoiner, Some(name), "started with the data of a replaced control plane");
        }
        self.run_member(name, plane);
        Some((Duration::ZERO, StartStep::Quorum))
    }

    /// Joins the cluster behind `server`: waits for its supervisor, for its quorum, for other learners.
    fn join(&mut self, name: &HostName, server: &str) -> Option<(Duration, StartStep)> {
        let again = Some((take::START_POLL, StartStep::Begin));
        let Some(plane) = self.behind(server) else { return again };
        if self.effective_token(name).as_deref() != Some(self.spec.token.as_str()) {
            return self.fatal(name, "failed to validate token: not authorized");
        }
        if self.planes[plane].members.iter().any(|member| member.host == *name) {
            return self.fatal(name, "etcd cluster join failed: duplicate node name found, please use a unique name");
        }
        if self.tls_is_newer(name, plane) {
            return self.fatal(name, NEWER_THAN_DATASTORE);
        }
        let running = self.host(name).service.running.clone();
        if version::etcd(&running) < self.planes[plane].etcd {
            return self.fatal(name, "etcd cluster join failed: cluster version is higher than this member's");
        }
        let busy = |member: &Member| member.learner || !self.runs(plane, &member.host);
        if self.planes[plane].members.iter().any(busy) {
            let unit = self.paths.unit(Role::Server);
            self.host_mut(name).log(&unit, "Waiting for other members to finish joining etcd cluster");
            return again;
        }
        let member = self.member(name, true);
        self.planes[plane].members.push(member);
        self.host_mut(name).disk.etcd = Some(MemberData { plane: Some(plane) });
        self.run_member(name, plane);
        Some((take::PROMOTION, StartStep::Promote))
    }

    /// A server with no data and nobody to join is the first of a new and empty cluster (rke2#6310).
    fn begin_anew(&mut self, name: &HostName) -> Option<(Duration, StartStep)> {
        let running = self.host(name).service.running.clone();
        self.violate(ViolationKind::EmptyCluster, Some(name), "started with no data and no `server:`");
        let plane = self.planes.len();
        let member = self.member(name, false);
        self.planes.push(Plane {
            store: Store::new(plane as u64 + 1),
            etcd: version::etcd(&running),
            members: vec![member],
            origin: Origin::Empty { host: name.clone() },
            started: None,
            api_since: None,
            had_quorum: false,
            leader: None,
            alarm: String::new(),
        });
        self.host_mut(name).disk.etcd = Some(MemberData { plane: Some(plane) });
        self.run_member(name, plane);
        Some((Duration::ZERO, StartStep::Quorum))
    }

    fn wait_for_quorum(&mut self, name: &HostName) -> Option<(Duration, StartStep)> {
        let plane = self.host(name).running_plane()?;
        let quorate = self.quorate(plane);
        Some(if quorate { (take::API_START, StartStep::Api) } else { (take::START_POLL, StartStep::Quorum) })
    }

    fn promote(&mut self, name: &HostName) -> Option<(Duration, StartStep)> {
        let plane = self.host(name).running_plane()?;
        let stalls = self.strikes(|fault| match fault {
            Fault::LearnerStalls { host, times } if host == name => Some(times),
            _ => None,
        });
        if stalls {
            let member = self.planes[plane].members.iter().find(|member| member.host == *name)?.name.clone();
            self.after(take::LEARNER_STALL, Event::Evict { plane, member });
            return None;
        }
        if !self.quorate(plane) {
            return Some((take::PROMOTION, StartStep::Promote));
        }
        for member in self.planes[plane].members.iter_mut().filter(|member| member.host == *name) {
            member.learner = false;
        }
        self.settle_planes(Cause::Start);
        Some((take::API_START, StartStep::Api))
    }

    /// The leader removes a learner that has not caught up; its server fails from then on (K3S pkg/etcd/etcd.go).
    pub(crate) fn evict(&mut self, plane: usize, name: &str) {
        let Some(at) = self.planes[plane].members.iter().position(|member| member.name == name && member.learner)
        else {
            return;
        };
        let host = self.planes[plane].members.remove(at).host;
        let (generation, running) = (self.host(&host).service.generation, self.host(&host).running_plane());
        if running == Some(plane) && self.host(&host).service.state == UnitState::Activating {
            self.host_mut(&host).pods = None;
            self.settle_planes(Cause::Fault);
            self.after(take::RESTART_AFTER_FAILURE, Event::Start { host, generation, step: StartStep::Begin });
        }
    }

    fn api_is_up(&mut self, name: &HostName) -> Option<(Duration, StartStep)> {
        let plane = self.host(name).running_plane()?;
        if !self.quorate(plane) {
            return Some((take::START_POLL, StartStep::Api));
        }
        let certificates = self.planes[plane].store.certificates;
        let token = self.spec.token.clone();
        let manifests = self.static_manifests(Role::Server);
        let host = self.host_mut(name);
        host.disk.token = token;
        let already = host.serves_api();
        host.supervises = true;
        host.disk.tls = Some(certificates);
        host.disk.cred = true;
        host.disk.reset_flag = false;
        host.disk.static_pods = manifests;
        if let Some(pods) = &mut host.pods {
            pods.api = true;
        }
        if let Some(reset) = &mut host.disk.reset {
            reset.started_since = reset.proved;
        }
        self.settle_planes(Cause::Start);
        self.kubelet_registers(name);
        Some((if already { Duration::from_secs(1) } else { take::HOOKS }, StartStep::Ready))
    }

    fn server_is_ready(&mut self, name: &HostName) -> Option<(Duration, StartStep)> {
        let plane = self.host(name).running_plane()?;
        if !self.quorate(plane) {
            return Some((take::START_POLL, StartStep::Ready));
        }
        self.becomes_active(name);
        // RKE2 disarms it when it starts, after a defragmentation; nobody disarms CORRUPT.
        if self.planes[plane].alarm == "NOSPACE" {
            self.planes[plane].alarm.clear();
        }
        let now = self.now;
        let first = self.planes[plane].started.is_none();
        self.planes[plane].started.get_or_insert(now);
        let (running, generation) = {
            let service = &self.host(name).service;
            (service.running.clone(), service.generation)
        };
        self.deploy_charts(name, plane, &running);
        if !self.one_process() {
            self.after(take::STATIC_PODS, Event::StaticPods { host: name.clone(), generation });
        }
        if first {
            self.controllers_start(plane);
        }
        None
    }

    fn agent_begins(&mut self, name: &HostName) -> Option<(Duration, StartStep)> {
        let supervisor = self.names.iter().any(|server| {
            let host = self.host(server);
            host.powered && host.supervises && host.running_plane().is_some_and(|plane| self.serves(plane))
        });
        if !supervisor {
            return Some((take::START_POLL, StartStep::Begin));
        }
        if self.password_is_rejected(name) {
            let unit = self.paths.unit(Role::Agent);
            let text = "Waiting to retrieve agent configuration; server is not ready: Node password rejected, duplicate \
                        hostname or contents of '/etc/rancher/node/password' may not match server node-passwd entry";
            self.host_mut(name).log(&unit, format!("level=info msg=\"{text}\""));
            return Some((take::START_POLL, StartStep::Begin));
        }
        let host = self.host_mut(name);
        host.pods = Some(Pods { etcd: None, api: false, version: host.service.running.clone(), shims: 6 });
        self.kubelet_registers(name);
        self.becomes_active(name);
        self.velero_may_start();
        None
    }

    /// The supervisor remembers a password for every node's name (rke2#7372).
    fn password_is_rejected(&self, name: &HostName) -> bool {
        let known = self.reached().and_then(|plane| self.planes[plane].store.get(&self.password_of(name)));
        known.is_some_and(|secret| secret["data"]["hash"] != self.host(name).disk.node_password.as_str())
    }

    fn becomes_active(&mut self, name: &HostName) {
        let now = self.now;
        let unit = self.paths.unit(self.host(name).role);
        let host = self.host_mut(name);
        host.service.state = UnitState::Active;
        host.service.active_since = now;
        host.log(&unit, format!("Started {unit}"));
    }

    /// The process ends with an error; systemd tries again, for ever (`Restart=always`).
    fn fatal(&mut self, name: &HostName, text: &str) -> Option<(Duration, StartStep)> {
        let (unit, now) = (self.paths.unit(self.host(name).role), self.now);
        let host = self.host_mut(name);
        host.service.restarts += 1;
        host.service.begun_since = now;
        host.log(&unit, format!("level=fatal msg=\"{text}\""));
        Some((take::RESTART_AFTER_FAILURE, StartStep::Begin))
    }

    fn run_member(&mut self, name: &HostName, plane: usize) {
        let host = self.host_mut(name);
        host.pods = Some(Pods { etcd: Some(plane), api: false, version: host.service.running.clone(), shims: 10 });
        self.settle_planes(Cause::Start);
    }

    /// Files newer than the datastore's stop a start (K3S pkg/cluster/bootstrap.go, rke2#1916).
    fn tls_is_newer(&self, name: &HostName, plane: usize) -> bool {
        self.host(name).disk.tls.is_some_and(|tls| tls > self.planes[plane].store.certificates)
    }

    /// The control plane that a supervisor URL leads to, when it answers.
    fn behind(&self, server: &str) -> Option<usize> {
        let address = server.trim_start_matches("https://").split(':').next().unwrap_or_default();
        let named = |host: &&HostName| host.as_str() == address || self.host(host).address == address;
        let host = self.host(self.names.iter().find(named)?);
        let plane = host.running_plane().filter(|_| host.powered && host.supervises)?;
        self.serves(plane).then_some(plane)
    }

    /// A member entry for a host.
    pub(crate) fn member(&self, name: &HostName, learner: bool) -> Member {
        let suffix = self.planes.len() as u32 * 0x0100_0001 + 0x5a_0000 + name.as_str().len() as u32;
        Member { host: name.clone(), name: format!("{name}-{suffix:08x}"), learner }
    }
}

const NEWER_THAN_DATASTORE: &str = "server/tls and server/cred newer than datastore and could cause a cluster outage. \
     Remove the file(s) from disk and restart to be recreated from datastore.";

/// The static pods of a server of RKE2 (domain fact: R2 pkg/executor/staticpod).
pub const STATIC_PODS: [&str; 6] =
    ["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "cloud-controller-manager", "kube-proxy"];
