//! A bench for the API: real etcd members in a directory of their own, and API servers before them.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use rke2flow_lab::api::authority::Authority;
use rke2flow_lab::api::handle::Api;
use rke2flow_lab::api::server::Server;
use rke2flow_lab::process::ControlPlane;
use serde_json::Value;
use tempfile::TempDir;

pub const VERSION: &str = "v1.33.4+rke2r1";

/// How long anything here may take to come about.
const PATIENCE: Duration = Duration::from_secs(20);

/// etcd members and the certificates of their cluster.
pub struct Bench {
    pub dir: TempDir,
    pub members: Vec<Member>,
    pub authority: Authority,
    cluster: String,
    peers: Vec<u16>,
    clients: Vec<u16>,
}

/// A member that runs; it is killed with this.
pub struct Member {
    child: Child,
    pub endpoint: String,
}

impl Drop for Member {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// An API server that runs; it stops with this.
pub struct Served {
    task: tokio::task::JoinHandle<()>,
    pub port: u16,
    pub config: ControlPlane,
    kubeconfig: String,
}

impl Drop for Served {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Bench {
    /// As many members as asked for, and healthy.
    pub async fn start(count: usize) -> Self {
        let (peers, clients) = (ports(count), ports(count));
        let names: Vec<String> =
            peers.iter().enumerate().map(|(at, port)| format!("m{at}=http://127.0.0.1:{port}")).collect();
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::create().unwrap();
        let mut bench = Self { dir, members: Vec::new(), authority, cluster: names.join(","), peers, clients };
        for at in 0..count {
            let member = bench.member(at, &bench.data(at));
            bench.members.push(member);
        }
        let etcd = rke2flow_lab::api::etcd::Etcd::new(&bench.members[0].endpoint);
        until("a quorum", async || etcd.get("/x").await.ok()).await;
        bench
    }

    /// Starts a member on a data directory.
    pub fn member(&self, at: usize, data: &Path) -> Member {
        let url = |port: u16| format!("http://127.0.0.1:{port}");
        let (peer, endpoint) = (url(self.peers[at]), url(self.clients[at]));
        let child = Command::new("etcd")
            .args(["--name", &format!("m{at}"), "--data-dir"])
            .arg(data)
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--listen-client-urls", &endpoint, "--advertise-client-urls", &endpoint])
            .args(["--initial-cluster", &self.cluster, "--initial-cluster-state", "new"])
            .args(["--heartbeat-interval", "50", "--election-timeout", "500"])
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(self.dir.path().join(format!("m{at}.log"))).unwrap())
            .spawn()
            .unwrap();
        Member { child, endpoint }
    }

    /// Where a member keeps its data.
    pub fn data(&self, at: usize) -> PathBuf {
        self.dir.path().join(format!("m{at}.etcd"))
    }

    /// Takes a snapshot through a member.
    pub fn snapshot(&self, at: usize) -> PathBuf {
        let file = self.dir.path().join("snapshot.db");
        etcdctl(&["--endpoints", &self.members[at].endpoint, "snapshot", "save", file.to_str().unwrap()]);
        file
    }

    /// Stops the only member and starts it again on what a snapshot holds.
    pub fn restore(&mut self, snapshot: &Path) {
        self.members.clear();
        let data = self.dir.path().join("restored.etcd");
        let (name, peer) = ("m0", format!("http://127.0.0.1:{}", self.peers[0]));
        let (from, to) = (snapshot.to_str().unwrap(), data.to_str().unwrap());
        let cluster = ["--initial-cluster", &self.cluster, "--initial-advertise-peer-urls", &peer];
        etcdctl(&[&["snapshot", "restore", from, "--name", name, "--data-dir", to], &cluster[..]].concat());
        let member = self.member(0, &data);
        self.members.push(member);
    }

    /// An API server before a member; ready.
    pub async fn serve(&self, at: usize) -> Served {
        let tls = self.dir.path().join(format!("tls-{at}"));
        let node = format!("server-{at}");
        self.authority.install(&tls, &node, [127, 0, 0, 1].into()).unwrap();
        let mut config = ControlPlane {
            node,
            address: "127.0.0.1".to_owned(),
            version: VERSION.to_owned(),
            etcd: self.members[at].endpoint.clone(),
            tls,
            port: 0,
            supervisor: None,
        };
        let server = Server::bind(Api::new(config.clone())).await.unwrap();
        let port = server.address().unwrap().port();
        config.port = port;
        let task = tokio::spawn(async move { match server.run().await {} });
        let kubeconfig = self.authority.kubeconfig(&format!("https://127.0.0.1:{port}")).unwrap();
        let served = Served { task, port, config, kubeconfig };
        let client = served.client().await;
        until("the namespaces", async || get(&client, "/api/v1/namespaces/kube-node-lease").await.ok()).await;
        served
    }
}

impl Served {
    /// The client that RKE2's users have, with the admin's kubeconfig.
    pub async fn client(&self) -> Client {
        client(&self.kubeconfig).await
    }
}

/// A client of a kubeconfig.
pub async fn client(kubeconfig: &str) -> Client {
    let kubeconfig = Kubeconfig::from_yaml(kubeconfig).unwrap();
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
    config.default_retry = false;
    Client::try_from(config).unwrap()
}

/// A GET, by path.
pub async fn get(client: &Client, path: &str) -> kube::Result<Value> {
    client.request(http::Request::get(path).body(Vec::new()).unwrap()).await
}

/// A GET of a text.
pub async fn text(client: &Client, path: &str) -> kube::Result<String> {
    client.request_text(http::Request::get(path).body(Vec::new()).unwrap()).await
}

/// The status of an answer that says no.
pub fn refusal<T: std::fmt::Debug>(answer: kube::Result<T>) -> u16 {
    match answer {
        Err(kube::Error::Api(status)) => status.code,
        other => panic!("not a refusal: {other:?}"),
    }
}

/// Waits for something to come about.
pub async fn until<T>(what: &str, look: impl AsyncFn() -> Option<T>) -> T {
    let waiting = async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("{what} did not come about"))
}

fn etcdctl(arguments: &[&str]) {
    let done = Command::new("etcdctl").env("ETCDCTL_API", "3").args(arguments).output().unwrap();
    assert!(done.status.success(), "etcdctl {arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
}

fn ports(count: usize) -> Vec<u16> {
    let held: Vec<TcpListener> = (0..count).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    held.iter().map(|listener| listener.local_addr().unwrap().port()).collect()
}
