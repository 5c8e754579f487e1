//! The state of a simulated cluster, and how it moves in time.

pub mod log;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rke2flow_engine::cluster::Role;
use rke2flow_engine::id::HostName;
use rke2flow_steps::ports::Output;
use serde_json::{Value, json};

use crate::judge::Violation;
use crate::kube::request::{KubeBody, KubeHttp, KubeReply};
use crate::s3::store::S3Store;
use crate::spec::TwinSpec;
use log::{EntryKind, Recorder};

/// Everything there is. Moved forward by [`World::advance`] before each access; nothing runs in the background.
#[derive(Debug)]
pub struct World {
    now: Duration,
    roles: BTreeMap<HostName, Role>,
    recorder: Arc<Recorder>,
    bucket: Arc<S3Store>,
    kubeconfigs: BTreeMap<HostName, String>,
}

impl World {
    /// A healthy cluster.
    pub fn new(spec: &TwinSpec, recorder: Arc<Recorder>, bucket: Arc<S3Store>) -> Self {
        let roles = spec.hosts().into_iter().collect();
        Self { now: Duration::ZERO, roles, recorder, bucket, kubeconfigs: BTreeMap::new() }
    }

    /// Lets time pass until `now`.
    pub fn advance(&mut self, now: Duration) {
        self.now = self.now.max(now);
    }

    /// Whether the host has power.
    pub fn reachable(&self, host: &HostName) -> bool {
        self.roles.contains_key(host)
    }

    /// Interprets a script.
    pub fn shell(&mut self, host: &HostName, login_user: &str, script: &str) -> Output {
        let what = format!("script by {login_user}: {} bytes", script.len());
        self.recorder.record(Some(host), EntryKind::Write, what, None);
        Output { exit: 127, stdout: Vec::new(), stderr: b"no envelope in the first line".to_vec() }
    }

    /// Looks for secrets in arguments.
    pub fn saw_arguments(&mut self, host: &HostName, arguments: &str) {
        self.recorder.record(Some(host), EntryKind::Read, format!("arguments {arguments}"), None);
    }

    /// Answers a request to the API server of this host.
    pub fn kube(&mut self, host: &HostName, request: &KubeHttp) -> KubeReply {
        let kind = if request.method == "GET" { EntryKind::Read } else { EntryKind::Write };
        self.recorder.record(Some(host), kind, format!("kube {} {}", request.method, request.path), None);
        KubeReply { status: 503, body: KubeBody::Text("etcd has no leader".to_owned()) }
    }

    /// Whether a port is open.
    pub fn listening(&self, host: &HostName, port: u16) -> bool {
        self.roles.get(host) == Some(&Role::Server) && [2379, 2380, 2381, 6443, 9345].contains(&port)
    }

    /// A plain probe on the host's loopback.
    pub fn http(&self, host: &HostName, port: u16, path: &str) -> Option<(u16, String)> {
        self.listening(host, port).then(|| (404, format!("no {path}")))
    }

    /// An application of the workload.
    pub fn application(&self, url: &str) -> Option<(u16, String)> {
        url.starts_with("http").then(|| (200, "ok".to_owned()))
    }

    /// Remembers a kubeconfig.
    pub fn set_kubeconfig(&mut self, host: &HostName, text: String) {
        self.kubeconfigs.insert(host.clone(), text);
    }

    /// What must never have happened and did.
    pub fn judge(&self) -> Vec<Violation> {
        Vec::new()
    }

    /// The normalised world.
    pub fn fingerprint(&self) -> Value {
        json!({"bucket": self.bucket.keys("", ""), "kubeconfigs": self.kubeconfigs.len()})
    }
}
