//! A small world in memory for the actions' own tests: hosts that answer typed commands, an object store behind the
//! Kubernetes API, a bucket and a web. The twin is the faithful one; this one only lets a probe see what an apply did.

mod fake;
mod kube;
pub mod suc;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rke2flow_engine::action::{Action, Claim, Context, Failure, Probe, Progress};
use rke2flow_engine::clock::Clock;
use rke2flow_engine::cluster::{self, Role};
use rke2flow_engine::id::{HostName, InstanceId, RunId, StepId, Target, UnitName};
use rke2flow_engine::source::SourceText;
use serde_json::{Value, json};

pub use self::fake::file;
use self::fake::{Fake, FakeHost, State, kill};
use super::{Bound, Goal, World};
use crate::answer::{Certificate, ClaimState, Disk, DiskUse, Identity, Inspection, Member, Survey};
use crate::paths::HostPaths;
use crate::ports::{Access, Bucket};

/// The host's clock, in seconds since the epoch: 2026-11-22T03:00:00Z.
pub const NOW: i64 = 1_795_316_400;
/// What every node runs at first.
pub const OLD: &str = "v1.33.4+rke2r1";
/// What it can be upgraded to.
pub const NEW: &str = "v1.34.1+rke2r1";
/// The run of every context.
pub const RUN: &str = "261122-0300-k7q2";

/// A cluster of three servers and two agents that runs well.
#[derive(Clone)]
pub struct Scene {
    state: Arc<Mutex<State>>,
    access: Access,
}

impl Scene {
    /// Three servers, two agents, a bucket and Velero.
    pub fn new() -> Self {
        Self::with(
            "s3: (endpoint: \"https://s3.test\", bucket: \"etcd\", folder: \"prod\", access_key: Env(\"A\"), secret_key: Env(\"B\")), velero: (),",
        )
    }

    /// The same of K3s: one process per server, no static pods, no port of the supervisor's own.
    pub fn k3s() -> Self {
        let scene = Self::with("distribution: K3s,");
        for server in ["server-0", "server-1", "server-2"] {
            scene.survey(server, |survey| {
                survey.open_ports.retain(|port| *port != 9345);
                survey.static_pods.clear();
                (survey.api_version, survey.datastore) = (OLD.to_owned(), "etcd".to_owned());
            });
        }
        scene.change(|state| state.objects.retain(|path, _| !path.starts_with(crate::kinds::Pod::SYSTEM)));
        scene
    }

    /// The same with other fields in the cluster file.
    pub fn with(fields: &str) -> Self {
        let host = |role: &str, net: u8, number: u8| {
            format!("(name: \"{}-{number}\", address: \"10.0.{net}.{number}\", role: {role})", role.to_lowercase())
        };
        let hosts = [
            host("Server", 0, 0),
            host("Server", 0, 1),
            host("Server", 0, 2),
            host("Agent", 1, 0),
            host("Agent", 1, 1),
        ];
        let text = format!("(format: 1, name: \"test\", {fields} hosts: [{}])", hosts.join(", "));
        let cluster = cluster::parse(SourceText::new("cluster.ron", text), std::path::Path::new("/"));
        let cluster = cluster.unwrap_or_else(|found| panic!("{found}")).cluster;
        let state = Arc::new(Mutex::new(State::default()));
        let world = Arc::new(Fake { state: state.clone() });
        let access = Access {
            history: Arc::default(),
            paths: HostPaths::of(&cluster),
            bucket: cluster.s3.is_some().then(|| world.clone() as Arc<dyn Bucket>),
            cluster: Arc::new(cluster),
            lost: Vec::new(),
            token: None,
            shell: world.clone(),
            kube: world.clone(),
            http: world,
            redactor: crate::secret::Redactor::default(),
        };
        let scene = Self { state, access };
        scene.populate();
        scene
    }

    /// What actions reach this world through.
    pub fn access(&self) -> &Access {
        &self.access
    }

    fn populate(&self) {
        let hosts: Vec<_> = self.access.cluster.hosts.clone();
        let servers: Vec<String> = self.access.cluster.servers().map(|host| host.name.to_string()).collect();
        for host in &hosts {
            let name = host.name.as_str();
            let survey = match host.role {
                Role::Server => server_survey(&servers),
                Role::Agent => Survey { claim: Some(claim_state()), ..well(0) },
            };
            let server = host.role == Role::Server;
            let identity = Identity {
                token_hash: if server { "0123456789ab".to_owned() } else { String::new() },
                config_sha256: format!("config of {name}"),
                etcd_version: if server { "3.5.21".to_owned() } else { String::new() },
                etcd_leads: name == "server-1",
            };
            let fake = FakeHost { survey, identity, inspection: inspection(server), ..FakeHost::default() };
            self.change(|state| state.hosts.insert(name.to_owned(), fake));
            self.put(&format!("/api/v1/nodes/{name}"), node(OLD));
            self.put(&format!("{}/{name}", crate::kinds::Lease::NODES), lease(NOW - 5));
            if host.role == Role::Server {
                for pod in ["kube-apiserver", "kube-controller-manager", "kube-scheduler"] {
                    let image = format!("rancher/hardened-kubernetes:{}-build20260101", OLD.replace('+', "-"));
                    let body = json!({ "spec": { "nodeName": name, "containers": [{ "image": image }] } });
                    self.put(&format!("{}/{pod}-{name}", crate::kinds::Pod::SYSTEM), body);
                }
            }
        }
        let rollout = json!({
            "metadata": { "generation": 2 }, "spec": { "replicas": 2 },
            "status": { "observedGeneration": 2, "updatedReplicas": 2, "availableReplicas": 2, "replicas": 2 },
        });
        self.put("/apis/apps/v1/namespaces/kube-system/deployments/rke2-coredns-rke2-coredns", rollout);
        let rollout = json!({
            "metadata": { "generation": 1 },
            "status": {
                "observedGeneration": 1, "desiredNumberScheduled": 5, "updatedNumberScheduled": 5, "numberAvailable": 5,
            },
        });
        self.put("/apis/apps/v1/namespaces/kube-system/daemonsets/rke2-canal", rollout);
        self.change(|state| state.changes.clear());
    }

    /// Changes the world by hand, or looks at it.
    pub fn change<R>(&self, change: impl FnOnce(&mut State) -> R) -> R {
        change(&mut self.state.lock().unwrap())
    }

    /// Changes what a host tells of itself.
    pub fn survey(&self, host: &str, change: impl FnOnce(&mut Survey)) {
        self.change(|state| change(&mut state.hosts.get_mut(host).unwrap().survey));
    }

    /// Changes what a host tells guards.
    pub fn inspection(&self, host: &str, change: impl FnOnce(&mut Inspection)) {
        self.change(|state| change(&mut state.hosts.get_mut(host).unwrap().inspection));
    }

    /// Nothing of a host's node runs any more.
    pub fn kill(&self, hosts: &[&str]) {
        for host in hosts {
            self.change(|state| kill(&mut state.hosts.get_mut(*host).unwrap().survey));
        }
    }

    /// Puts an object at its path.
    pub fn put(&self, path: &str, body: Value) {
        self.change(|state| state.put(path, body));
    }

    /// Changes an object in place.
    pub fn edit(&self, path: &str, change: impl FnOnce(&mut Value)) {
        self.change(|state| change(state.objects.get_mut(path).unwrap()));
    }

    /// An object as it is.
    pub fn object(&self, path: &str) -> Option<Value> {
        self.change(|state| state.objects.get(path).cloned())
    }

    /// The world for an action.
    pub fn world(&self) -> World {
        World::new(self.access.clone())
    }

    /// The action of a goal on a target: `operator` or a host.
    pub fn on<G: Goal>(&self, target: &str, goal: G) -> Bench {
        let target = match target {
            "operator" => Target::Operator,
            host => Target::Host(HostName::new(host).unwrap()),
        };
        let context = context(G::INFO.name, target);
        Bench { scene: self.clone(), action: Bound::action(self.world(), goal), context }
    }
}

/// One action on one target, ready to be probed and applied.
pub struct Bench {
    scene: Scene,
    action: Arc<dyn Action>,
    /// What it runs with.
    pub context: Context,
}

impl Bench {
    /// Looks.
    pub async fn probe(&self) -> Probe {
        self.action.probe(&self.context).await.unwrap()
    }

    /// Looks and finds that the goal holds: its facts.
    pub async fn satisfied(&self) -> BTreeMap<String, Value> {
        match self.probe().await {
            Probe::Satisfied(facts) => facts,
            other => panic!("not satisfied: {other:?}"),
        }
    }

    /// Looks and finds that the goal does not hold: why.
    pub async fn pending(&self) -> String {
        match self.probe().await {
            Probe::Pending(why) => why,
            other => panic!("not pending: {other:?}"),
        }
    }

    /// Why it cannot look.
    pub async fn failure(&self) -> Failure {
        self.action.probe(&self.context).await.expect_err("the probe failed in no way")
    }

    /// Why it cannot change.
    pub async fn failure_of_apply(&self) -> Failure {
        self.action.apply(&self.context).await.expect_err("the apply failed in no way")
    }

    /// Changes.
    pub async fn apply(&self) {
        self.action.apply(&self.context).await.unwrap();
    }

    /// What every action that changes something must do: look without changing, change until the goal holds, change
    /// nothing more when it is applied again, and refuse to change anything without a claim. Returns the facts.
    pub async fn idempotent(mut self) -> BTreeMap<String, Value> {
        let untouched = self.world();
        self.pending().await;
        assert_eq!(self.world(), untouched, "looking changed the world");

        let claim = self.context.claim.take();
        self.action.apply(&self.context).await.expect_err("it was applied without a claim");
        assert_eq!(self.world(), untouched, "it changed the world without a claim");
        self.context.claim = claim;

        self.apply().await;
        let facts = self.satisfied().await;
        let reached = self.world();
        assert_eq!(facts_named(&facts), facts_named(&self.satisfied().await), "the facts of one world differ");
        assert_eq!(self.world(), reached, "looking changed the world");
        self.apply().await;
        assert_eq!(self.world(), reached, "a second apply changed the world");
        self.satisfied().await;
        facts
    }

    fn world(&self) -> State {
        let mut state = self.scene.change(|state| state.clone());
        state.changes.clear();
        state
    }
}

fn facts_named(facts: &BTreeMap<String, Value>) -> String {
    format!("{facts:?}")
}

/// A context of the run [`RUN`] with its claim.
pub fn context(action: &str, target: Target) -> Context {
    let (run, step) = (RunId::new(RUN).unwrap(), StepId::new("test").unwrap());
    let instance = InstanceId::new(&step, action, 1, &target);
    Context {
        unit: UnitName::new(&run, &instance, 1),
        cluster: "test".to_owned(),
        claim: Some(claim()),
        waived: Vec::new(),
        opened_at: super::stamp(NOW),
        clock: Clock::real(),
        deadline: tokio::time::Instant::now() + Duration::from_secs(600),
        progress: Progress::silent(),
        attempt: 1,
        round: None,
        run,
        step,
        instance,
        target,
    }
}

fn claim() -> Claim {
    Claim { number: 3, holder: "alice@laptop".to_owned(), run: RunId::new(RUN).unwrap(), cluster: "test".to_owned() }
}

fn claim_state() -> ClaimState {
    ClaimState { claim: claim(), since: NOW, released: false }
}

fn well(open: u32) -> Survey {
    Survey {
        boot: "boot-1".to_owned(),
        epoch: NOW,
        arch: "amd64".to_owned(),
        installed: OLD.to_owned(),
        unit: "active".to_owned(),
        unit_active_since: NOW - 3600,
        unit_begun_since: NOW - 3630,
        unit_enabled: true,
        shims: 5 + open,
        disk_free: 20 << 30,
        ..Survey::default()
    }
}

fn server_survey(servers: &[String]) -> Survey {
    let member = |(number, name): (usize, &String)| Member {
        name: format!("{name}-0000000{number}"),
        learner: false,
        peer_urls: vec![format!("https://10.0.0.{number}:2380")],
        id: 100 + number as u64,
    };
    Survey {
        open_ports: vec![2379, 2380, 6443, 9345],
        static_pods: vec!["etcd.yaml".to_owned(), "kube-apiserver.yaml".to_owned()],
        etcd_name: true,
        etcd_member: true,
        tls: true,
        cred: true,
        shipped_charts: 4,
        etcd_s3: true,
        etcd_health: "true".to_owned(),
        readyz: "ok".to_owned(),
        members: servers.iter().enumerate().map(member).collect(),
        token_sha256: "token".to_owned(),
        ca_sha256: "ca".to_owned(),
        etcd_bytes: 100 << 20,
        claim: Some(claim_state()),
        ..well(4)
    }
}

fn inspection(server: bool) -> Inspection {
    let disk = |holds| Disk { holds, mount: "/".to_owned(), free: 20 << 30 };
    let certificate = |file: &str, days: i64| Certificate { file: file.to_owned(), not_after: NOW + days * 24 * 3600 };
    let mut certificates = vec![certificate("agent/client-kubelet.crt", 300)];
    if server {
        certificates.push(certificate("server/tls/server-ca.crt", 3000));
    }
    Inspection {
        binary: "/usr/local/bin/rke2".to_owned(),
        etcd_version: if server { "3.5.26".to_owned() } else { String::new() },
        release_bytes: 500 << 20,
        certificates,
        disks: [DiskUse::Data, DiskUse::State, DiskUse::Bin].map(disk).to_vec(),
        ..Inspection::default()
    }
}

fn node(version: &str) -> Value {
    json!({
        "metadata": { "labels": { "zone": "a" } },
        "spec": {},
        "status": {
            "conditions": [{ "type": "Ready", "status": "True" }],
            "nodeInfo": { "kubeletVersion": version },
        },
    })
}

/// A lease that was renewed in that second.
pub fn lease(renewed: i64) -> Value {
    json!({ "spec": { "renewTime": super::stamp(renewed).to_string() } })
}
