//! A pair of hands that works on a twin without any engine: right and wrong sequences, written as changes.

// Each test binary uses a part of it; it is test code outside of test functions.
#![allow(dead_code, clippy::unwrap_used)]

use std::time::Duration;

use rke2flow_engine::action::Claim;
use rke2flow_engine::clock::Clock;
use rke2flow_engine::cluster::{Releases, Role};
use rke2flow_engine::id::{HostName, InstanceId, RunId, StepId, Target, UnitName};
use rke2flow_steps::answer::{ClaimAnswer, Files, ReceiptAnswer, Survey};
use rke2flow_steps::command::{
    Change, ClaimCommand, ENVELOPE_MARK, ENVELOPE_VERSION, Envelope, HostCommand, Look, NodePart, Order,
};
use rke2flow_steps::ports::Output;
use rke2flow_steps::render::answer;
use rke2flow_twin::{KubeBody, KubeHttp, Twin, TwinSpec, Violation, ViolationKind};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// The version at the beginning.
pub const OLD: &str = "v1.33.4+rke2r1";
/// The version of upgrades: another etcd release.
pub const NEW: &str = "v1.34.1+rke2r1";

/// The hands.
pub struct Hand {
    /// The twin.
    pub twin: Twin,
    /// Whose claim the orders carry.
    pub claim: Claim,
    orders: u32,
}

/// A snapshot on a host.
#[derive(Debug, Clone)]
pub struct Snapshot {
    pub path: String,
    pub sha256: String,
}

pub fn host(name: &str) -> HostName {
    HostName::new(name).unwrap()
}

impl Hand {
    pub fn on(spec: TwinSpec) -> Self {
        let twin = Twin::new(spec, Clock::real());
        let run = RunId::new("261122-0400-test").unwrap();
        let claim = Claim { number: 1, holder: "test@host".to_owned(), run, cluster: "twin".to_owned() };
        let mut hand = Self { twin, claim, orders: 0 };
        hand.take_claims();
        hand
    }

    pub fn new() -> Self {
        Self::on(TwinSpec::default())
    }

    /// The same twin in the hands of another run.
    pub fn next_run(&mut self, run: &str) {
        self.claim = Claim { number: self.claim.number + 1, run: RunId::new(run).unwrap(), ..self.claim.clone() };
        self.take_claims();
    }

    pub fn take_claims(&mut self) {
        for name in self.names(None) {
            if self.twin.reachable(&name) {
                let command = HostCommand::Claim(ClaimCommand::Take(self.claim.clone()));
                let taken: ClaimAnswer = answer(&self.send(&name, command)).unwrap();
                assert_eq!(taken, ClaimAnswer::Accepted);
            }
        }
    }

    pub fn names(&self, role: Option<Role>) -> Vec<HostName> {
        let hosts = self.twin.spec().hosts().into_iter();
        hosts.filter(|(_, found)| role.is_none_or(|role| role == *found)).map(|(name, _)| name).collect()
    }

    pub fn servers(&self) -> Vec<HostName> {
        self.names(Some(Role::Server))
    }

    pub fn agents(&self) -> Vec<HostName> {
        self.names(Some(Role::Agent))
    }

    pub fn role(&self, name: &HostName) -> Role {
        self.twin.spec().hosts().into_iter().find(|(found, _)| found == name).unwrap().1
    }

    pub fn send(&self, name: &HostName, command: HostCommand) -> Output {
        let envelope = Envelope {
            v: ENVELOPE_VERSION,
            cluster: "twin".to_owned(),
            role: self.role(name),
            paths: self.twin.spec().paths(),
            command,
        };
        self.twin.shell_now(name, "root", &format!("{ENVELOPE_MARK}{}\n", serde_json::to_string(&envelope).unwrap()))
    }

    pub fn look<T: DeserializeOwned>(&self, name: &HostName, look: Look) -> T {
        answer(&self.send(name, HostCommand::Look(look))).unwrap()
    }

    pub fn survey(&self, name: &HostName) -> Survey {
        self.look(name, Look::Survey)
    }

    /// Makes an order that has its own unit.
    pub fn order(&mut self, name: &HostName, change: Change) -> Order {
        self.orders += 1;
        let step = StepId::new(format!("s{}", self.orders)).unwrap();
        let instance = InstanceId::new(&step, "Change", 1, &Target::Host(name.clone()));
        let run = self.claim.run.clone();
        let unit = UnitName::new(&run, &instance, 1);
        Order { run, instance, attempt: 1, unit, claim: self.claim.clone(), change }
    }

    pub fn give(&self, name: &HostName, order: &Order) -> ReceiptAnswer {
        answer(&self.send(name, HostCommand::Change(order.clone()))).unwrap()
    }

    /// Gives an order and waits for its end.
    pub async fn change(&mut self, name: &HostName, change: Change) -> ReceiptAnswer {
        let order = self.order(name, change);
        let mut receipt = self.give(name, &order);
        for _ in 0..600 {
            if receipt != ReceiptAnswer::Running {
                return receipt;
            }
            self.twin.clock().sleep(Duration::from_secs(1)).await;
            receipt = self.give(name, &order);
        }
        panic!("the order on {name} has not ended within 600 s");
    }

    /// The same on several hosts at once; all must end with 0.
    pub async fn change_all(&mut self, names: &[HostName], change: impl Fn(&HostName) -> Change) {
        let orders: Vec<(HostName, Order)> =
            names.iter().map(|name| (name.clone(), self.order(name, change(name)))).collect();
        for (name, order) in &orders {
            self.give(name, order);
        }
        for (name, order) in &orders {
            self.wait(&format!("an order on {name}"), |hand| hand.give(name, order) != ReceiptAnswer::Running).await;
            assert!(done(&self.give(name, order)), "{name}: {:?}", self.give(name, order));
        }
    }

    /// Gives an order that must end with 0.
    pub async fn must(&mut self, name: &HostName, change: Change) {
        let receipt = self.change(name, change.clone()).await;
        assert!(done(&receipt), "{change:?} on {name}: {receipt:?}");
    }

    pub async fn wait(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        for _ in 0..900 {
            if holds(self) {
                return;
            }
            self.twin.clock().sleep(Duration::from_secs(1)).await;
        }
        panic!("waited 900 s for {what}");
    }

    pub async fn sleep(&self, seconds: u64) {
        self.twin.clock().sleep(Duration::from_secs(seconds)).await;
    }

    pub async fn active(&self, name: &HostName) {
        self.wait(&format!("{name} to be active"), |hand| hand.survey(name).unit == "active").await;
    }

    pub fn kube(&self, server: &str, method: &str, path: &str, body: Value) -> (u16, Value) {
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let request = KubeHttp {
            method: method.to_owned(),
            path: path.to_owned(),
            query: query.to_owned(),
            content_type: if method == "PATCH" { "application/merge-patch+json" } else { "application/json" }
                .to_owned(),
            body: if body.is_null() { Vec::new() } else { body.to_string().into_bytes() },
            user: "system:admin".to_owned(),
        };
        let reply = self.twin.kube_now(&host(server), &request);
        match reply.body {
            KubeBody::Json(value) => (reply.status, value),
            KubeBody::Text(text) => (reply.status, json!(text)),
            KubeBody::Events(events) => (reply.status, json!(events)),
        }
    }

    pub fn get(&self, path: &str) -> Value {
        self.kube("server-0", "GET", path, Value::Null).1
    }

    pub fn config_map(&self, name: &str) {
        let (status, body) = self.kube(
            "server-0",
            "POST",
            "/api/v1/namespaces/kube-system/configmaps",
            json!({"metadata": {"name": name}, "data": {}}),
        );
        assert_eq!(status, 201, "{body}");
    }

    pub fn has_config_map(&self, server: &str, name: &str) -> bool {
        let path = format!("/api/v1/namespaces/kube-system/configmaps/{name}");
        self.kube(server, "GET", &path, Value::Null).0 == 200
    }

    /// Saves a snapshot on server-0 and returns its newest file.
    pub async fn snapshot(&mut self, name: &str) -> Option<Snapshot> {
        self.must(&host("server-0"), Change::SaveSnapshot { name: name.to_owned() }).await;
        let files: Files = self.look(&host("server-0"), Look::Snapshots { prefix: format!("{name}-") });
        files.files.first().map(|file| Snapshot { path: file.path.clone(), sha256: file.sha256.clone() })
    }

    pub async fn fetch(&mut self, versions: &[&str]) {
        for version in versions {
            self.change_all(&self.names(None), |_| fetch(version)).await;
        }
    }

    /// One node after the other, servers first.
    pub async fn upgrade(&mut self, version: &str) {
        for name in self.names(None) {
            self.must(&name, install(version)).await;
            self.must(&name, Change::RestartUnit).await;
            self.active(&name).await;
        }
        self.sleep(60).await;
    }

    pub async fn kill(&mut self, names: &[HostName]) {
        self.change_all(names, |_| Change::Hold).await;
        self.change_all(names, |_| Change::KillNode { grace_seconds: 5 }).await;
    }

    pub async fn clean(&mut self, names: &[HostName]) {
        self.change_all(names, |_| Change::MoveAside { parts: parts() }).await;
        let url = |name: &HostName| (name != &host("server-0")).then(|| "https://server-0:9345".to_owned());
        self.change_all(names, |name| Change::PointAt { server: url(name) }).await;
    }

    pub async fn reset(&mut self, snapshot: &Snapshot) -> ReceiptAnswer {
        let to = "/var/lib/rke2flow/staged/snapshot".to_owned();
        let Snapshot { path: file, sha256 } = snapshot.clone();
        self.must(&host("server-0"), Change::StageSnapshot { file, sha256, to: to.clone() }).await;
        let staged: Files = self.look(&host("server-0"), Look::Files { paths: vec![to.clone()] });
        let sha256 = staged.files[0].sha256.clone();
        self.change(&host("server-0"), Change::ClusterReset { snapshot: to, sha256 }).await
    }

    pub async fn start(&mut self, name: &HostName) {
        self.must(name, Change::ReleaseHold).await;
        self.must(name, Change::StartUnit).await;
        self.active(name).await;
    }

    /// The whole rollback, as it should be.
    pub async fn rollback(&mut self, snapshot: &Snapshot, version: &str) {
        let (all, servers, agents) = (self.names(None), self.servers(), self.agents());
        self.kill(&all).await;
        self.change_all(&all, |_| install(version)).await;
        self.clean(&servers).await;
        assert!(done(&self.reset(snapshot).await));
        for name in servers.iter().chain(&agents) {
            self.start(name).await;
        }
        self.change_all(&all, |_| Change::CleanUp).await;
        self.sleep(60).await;
    }

    pub fn kinds(&self) -> Vec<ViolationKind> {
        let mut kinds: Vec<ViolationKind> = self.twin.judge().iter().map(|violation| violation.kind).collect();
        kinds.sort();
        kinds.dedup();
        kinds
    }

    pub fn no_violation(&self) {
        let found: Vec<Violation> = self.twin.judge();
        assert!(found.is_empty(), "{found:#?}");
    }
}

pub fn done(receipt: &ReceiptAnswer) -> bool {
    matches!(receipt, ReceiptAnswer::Finished { exit: 0, .. })
}

pub fn fetch(version: &str) -> Change {
    Change::FetchRelease { version: version.to_owned(), from: Releases::default(), arch: String::new() }
}

pub fn install(version: &str) -> Change {
    Change::InstallVersion { version: version.to_owned(), keep_replaced: true }
}

pub fn parts() -> Vec<NodePart> {
    vec![NodePart::Etcd, NodePart::Tls, NodePart::Cred, NodePart::ShippedCharts]
}
