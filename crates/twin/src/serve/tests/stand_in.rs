//! A scripted cluster behind the real servers: it answers by the book, can be switched off, and counts.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use rke2flow_engine::clock::Clock;
use rke2flow_engine::cluster::Cluster;
use rke2flow_engine::id::HostName;
use rke2flow_steps::answer::Survey;
use rke2flow_steps::ports::Output;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::Semaphore;

use crate::kube::request::{KubeBody, KubeHttp, KubeReply};
use crate::s3::store::S3Store;
use crate::serve::s3::Credentials;
use crate::serve::{Ask, Backend, Running, up};
use crate::spec::TwinSpec;
use crate::world::log::Recorder;

/// The bucket of every stand-in.
pub const BUCKET: &str = "backups";

/// What answers in tests.
pub struct StandIn {
    cluster: Cluster,
    store: Arc<S3Store>,
    down: Mutex<BTreeSet<(String, u16)>>,
    /// Scripts that begin with `slow` wait for a place here.
    pub go: Semaphore,
    /// Scripts that have begun.
    pub begun: AtomicUsize,
    /// Scripts that have ended.
    pub ended: AtomicUsize,
    kubeconfigs: Mutex<BTreeMap<HostName, String>>,
    /// Command lines that were seen.
    pub arguments: Mutex<Vec<String>>,
}

/// Stands for the host as a whole.
pub const POWER: u16 = 0;

impl StandIn {
    /// Opens or closes a port of a host, or its [`POWER`].
    pub fn switch(&self, host: &str, port: u16, on: bool) {
        let mut down = self.down.lock().unwrap();
        if on {
            down.remove(&(host.to_owned(), port))
        } else {
            down.insert((host.to_owned(), port))
        };
    }

    fn is_down(&self, host: &HostName, port: u16) -> bool {
        self.down.lock().unwrap().contains(&(host.to_string(), port))
    }
}

#[async_trait]
impl Backend for StandIn {
    fn cluster(&self) -> Cluster {
        self.cluster.clone()
    }

    fn set_kubeconfig(&self, host: &HostName, kubeconfig: String) {
        assert!(kubeconfig.contains("server: https://127.0.0.1:6443\n"), "{kubeconfig}");
        self.kubeconfigs.lock().unwrap().insert(host.clone(), kubeconfig);
    }

    fn reachable(&self, host: &HostName) -> bool {
        !self.is_down(host, POWER)
    }

    fn listening(&self, host: &HostName, port: u16) -> bool {
        self.reachable(host) && [6443, 9345, 2379, 2381].contains(&port) && !self.is_down(host, port)
    }

    fn saw_arguments(&self, _host: &HostName, arguments: &str) {
        self.arguments.lock().unwrap().push(arguments.to_owned());
    }

    async fn shell(&self, host: &HostName, user: &str, script: &str) -> Output {
        self.begun.fetch_add(1, Ordering::SeqCst);
        if script.starts_with("slow") {
            self.go.acquire().await.unwrap().forget();
        }
        self.ended.fetch_add(1, Ordering::SeqCst);
        let envelope = script.lines().next().unwrap_or_default();
        let asked = |look: &str| envelope.contains(&json!({ "Look": look }).to_string());
        let answered = |answer: Value| Output { stdout: format!("{answer}\n").into_bytes(), ..Output::default() };
        if asked("Survey") {
            return answered(json!(Survey::default()));
        }
        if asked("Kubeconfig") {
            let kubeconfig = self.kubeconfigs.lock().unwrap()[host].clone();
            return answered(json!({ "exit": 0, "text": BASE64.encode(kubeconfig) }));
        }
        match script.strip_prefix("print ") {
            Some(count) => Output { stdout: vec![b'x'; count.trim().parse().unwrap()], ..Output::default() },
            None => Output {
                exit: 3,
                stdout: format!("{host} {user} {} bytes: {script}", script.len()).into_bytes(),
                stderr: b"and this aside\n".to_vec(),
            },
        }
    }

    async fn kube(&self, host: &HostName, request: KubeHttp) -> KubeReply {
        let body = match request.path.as_str() {
            "/readyz" => return KubeReply { status: 200, body: KubeBody::Text("ok".to_owned()) },
            "/api/v1/nodes" => json!({ "kind": "NodeList", "apiVersion": "v1", "metadata": {},
                "items": [{ "metadata": { "name": host.as_str() } }] }),
            _ => json!({ "host": host, "method": request.method, "path": request.path, "query": request.query,
                "type": request.content_type, "user": request.user, "body": String::from_utf8(request.body).unwrap() }),
        };
        KubeReply { status: 200, body: KubeBody::Json(body) }
    }

    async fn http(&self, host: &HostName, port: u16, path: &str) -> Option<(u16, String)> {
        Some((200, format!("{host} {port} {path}")))
    }

    fn application(&self, url: &str) -> Option<(u16, String)> {
        url.ends_with("/heartbeat").then(|| (200, "alive".to_owned()))
    }

    fn bucket(&self) -> Arc<S3Store> {
        self.store.clone()
    }

    fn credentials(&self) -> Credentials {
        Credentials { access_key: "STANDIN".to_owned(), secret_key: "a secret / with + odd = signs".to_owned() }
    }

    async fn control(&self, ask: Ask, with: Value) -> Result<Value, String> {
        if with == json!("wrong") { Err("that is wrong".to_owned()) } else { Ok(json!([format!("{ask:?}"), with])) }
    }
}

/// A scripted cluster of this size that is being served, and its directory.
pub struct Stage {
    /// The cluster.
    pub stand_in: Arc<StandIn>,
    /// Its servers.
    pub running: Running,
    dir: TempDir,
}

impl Stage {
    /// Starts it.
    pub async fn of(servers: usize, agents: usize) -> Self {
        let spec = TwinSpec { servers, agents, bucket: BUCKET.to_owned(), ..TwinSpec::default() };
        let recorder = Arc::new(Recorder::new(Clock::real()));
        let stand_in = Arc::new(StandIn {
            cluster: crate::inprocess::cluster(&spec),
            store: Arc::new(S3Store::new(BUCKET, recorder)),
            down: Mutex::default(),
            go: Semaphore::new(0),
            begun: AtomicUsize::new(0),
            ended: AtomicUsize::new(0),
            arguments: Mutex::default(),
            kubeconfigs: Mutex::default(),
        });
        let dir = tempfile::tempdir().unwrap();
        let running = up(stand_in.clone(), dir.path()).await.unwrap();
        Self { stand_in, running, dir }
    }

    /// Its directory.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Stops it; nothing may be left.
    pub async fn stop(self) {
        let tasks = self.running.tasks();
        self.running.shutdown().await;
        assert_eq!(tasks.alive(), 0, "tasks that outlive the shutdown");
        assert!(!self.dir.path().join("twin.pid").exists());
    }
}

/// Waits until something holds; fails after ten seconds.
pub async fn until(what: &str, holds: impl Fn() -> bool) {
    let waited = tokio::time::timeout(std::time::Duration::from_secs(10), async {
        while !holds() {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    });
    assert!(waited.await.is_ok(), "waited in vain until {what}");
}
