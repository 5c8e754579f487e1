//! The Kubernetes API by kubeconfig, and through sshd to a server's own loopback.

use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use rke2flow_engine::cluster::{Cluster, Kube};
use rke2flow_steps::access::kube::KubeClient;
use rke2flow_steps::access::ssh::{BEGINNING, SshShell};
use rke2flow_steps::ports::{AccessError, KubeApi, KubeRequest, KubeVerb};
use rke2flow_steps::secret::Redactor;
use serde_json::{Value, json};

use crate::sshd::{Sshd, cluster_of, host, settings};
use crate::web::{Answering, Asked, Authority, serve};

const TOKEN: &str = "token-of-the-admin";

fn kubeconfig(port: u16, authority: &Authority, token: &str) -> String {
    let ca = BASE64.encode(&authority.ca_pem);
    json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "default",
        "clusters": [{ "name": "default",
                       "cluster": { "server": format!("https://127.0.0.1:{port}"), "certificate-authority-data": ca } }],
        "users": [{ "name": "default", "user": { "token": token } }],
        "contexts": [{ "name": "default", "context": { "cluster": "default", "user": "default" } }],
    })
    .to_string()
}

fn get(path: &str) -> KubeRequest {
    KubeRequest { verb: KubeVerb::Get, path: path.to_owned(), body: Value::Null }
}

/// An API server that tells what it was asked, and whether it is ready.
fn api(name: &'static str, asked: Arc<Mutex<Vec<Asked>>>) -> Answering {
    Arc::new(move |request| {
        let authorized = request.headers.get("authorization").is_some_and(|value| value == &format!("Bearer {TOKEN}"));
        let path = request.path.clone();
        asked.lock().unwrap().push(request);
        match path.as_str() {
            _ if !authorized => (401, vec![], json!({ "reason": "Unauthorized" }).to_string().into_bytes()),
            "/readyz" => (200, vec![], b"ok".to_vec()),
            "/missing" => (404, vec![], json!({ "kind": "Status", "code": 404 }).to_string().into_bytes()),
            "/busy" => (429, vec![("retry-after", "1".to_owned())], b"{}".to_vec()),
            _ => (200, vec![], json!({ "server": name }).to_string().into_bytes()),
        }
    })
}

async fn by_file(
    authority: &Authority,
    trusted: &Authority,
    asked: &Arc<Mutex<Vec<Asked>>>,
) -> (KubeClient, tempfile::TempDir) {
    let port = serve(Some(authority), api("file", asked.clone())).await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("kubeconfig");
    std::fs::write(&file, kubeconfig(port, trusted, TOKEN)).unwrap();
    let cluster = Arc::new(Cluster { kube: Kube::Kubeconfig(file), ..cluster_of(&[]) });
    let shell = Arc::new(SshShell::new(cluster.clone(), settings(), rke2flow_steps::render::script));
    (KubeClient::new(cluster, shell, Redactor::default()), dir)
}

#[tokio::test]
async fn requests_go_out_as_the_verb_says_and_any_status_is_an_answer() {
    let (authority, asked) = (Authority::new(), Arc::default());
    let (kube, _dir) = by_file(&authority, &authority, &asked).await;
    let send = |verb, body| KubeRequest { verb, path: "/api/v1/nodes/n?x=1".to_owned(), body };
    for request in [
        get("/api/v1/nodes"),
        send(KubeVerb::Create, json!({ "a": 1 })),
        send(KubeVerb::MergePatch, json!({ "a": 2 })),
        send(KubeVerb::Replace, json!({ "a": 3 })),
        send(KubeVerb::Delete, Value::Null),
    ] {
        assert_eq!(kube.call(None, &request).await.unwrap().body, json!({ "server": "file" }));
    }
    assert_eq!(kube.call(None, &get("/readyz")).await.unwrap().body, json!("ok"));
    assert_eq!(kube.call(None, &get("/missing")).await.unwrap().status, 404);
    let asked = asked.lock().unwrap();
    let methods: Vec<_> = asked.iter().map(|one| one.method.as_str()).collect();
    assert_eq!(methods, ["GET", "POST", "PATCH", "PUT", "DELETE", "GET", "GET"]);
    assert_eq!(asked[2].headers["content-type"], "application/merge-patch+json");
    assert_eq!((asked[2].path.as_str(), asked[2].body.as_slice()), ("/api/v1/nodes/n?x=1", &br#"{"a":2}"#[..]));
}

#[tokio::test]
async fn a_server_that_is_busy_is_asked_once_and_not_again_behind_our_back() {
    let (authority, asked) = (Authority::new(), Arc::<Mutex<Vec<Asked>>>::default());
    let (kube, _dir) = by_file(&authority, &authority, &asked).await;
    let eviction = KubeRequest { verb: KubeVerb::Create, path: "/busy".to_owned(), body: json!({}) };
    assert_eq!(kube.call(None, &eviction).await.unwrap().status, 429);
    assert_eq!(asked.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn a_certificate_of_another_authority_is_not_accepted() {
    let asked = Arc::<Mutex<Vec<Asked>>>::default();
    let (kube, _dir) = by_file(&Authority::new(), &Authority::new(), &asked).await;
    let error = kube.call(None, &get("/version")).await.unwrap_err();
    assert!(matches!(&error, AccessError::Unreachable { why, .. } if why.contains("certificate")), "{error}");
    assert!(asked.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_kubeconfig_that_is_missing_is_refused_by_name() {
    let cluster = Arc::new(Cluster { kube: Kube::Kubeconfig("/nowhere/kubeconfig".into()), ..cluster_of(&[]) });
    let shell = Arc::new(SshShell::new(cluster.clone(), settings(), rke2flow_steps::render::script));
    let error = KubeClient::new(cluster, shell, Redactor::default()).call(None, &get("/version")).await.unwrap_err();
    assert!(matches!(&error, AccessError::Refused { whom, .. } if whom.contains("/nowhere/kubeconfig")), "{error}");
}

/// A server: an sshd whose only answer is its kubeconfig, and an API server on its loopback.
struct Server {
    sshd: Sshd,
    port: u16,
    authority: Authority,
    state: Arc<Mutex<ServerState>>,
    files: tempfile::TempDir,
}

struct ServerState {
    name: &'static str,
    ready: bool,
    token: &'static str,
    paths: Vec<String>,
}

impl Server {
    async fn start(name: &'static str) -> Self {
        let state = Arc::new(Mutex::new(ServerState { name, ready: true, token: "first-token", paths: vec![] }));
        let (authority, served) = (Authority::new(), state.clone());
        let port = serve(Some(&authority), Arc::new(move |asked| served.lock().unwrap().answer(&asked))).await;
        let files = tempfile::tempdir().unwrap();
        let answer = files.path().join("answer");
        let sshd =
            Sshd::with_config(&format!("ForceCommand cat >/dev/null; echo {BEGINNING}; cat {}", answer.display()));
        let server = Self { sshd, port, authority, state, files };
        server.write_kubeconfig("first-token");
        server
    }

    fn write_kubeconfig(&self, token: &str) {
        let text = BASE64.encode(kubeconfig(self.port, &self.authority, token));
        std::fs::write(self.files.path().join("answer"), json!({ "exit": 0, "text": text }).to_string()).unwrap();
    }

    fn paths(&self) -> Vec<String> {
        std::mem::take(&mut self.state.lock().unwrap().paths)
    }
}

impl ServerState {
    fn answer(&mut self, asked: &Asked) -> crate::web::Answer {
        self.paths.push(asked.path.clone());
        let authorized = asked.headers.get("authorization") == Some(&format!("Bearer {}", self.token));
        let (status, body) = match asked.path.as_str() {
            _ if !authorized => (401, json!({ "code": 401 })),
            _ if !self.ready => (500, json!("etcd failed")),
            "/readyz" => (200, json!("ok")),
            _ => (200, json!({ "server": self.name })),
        };
        (status, vec![], body.to_string().into_bytes())
    }
}

fn through_ssh(servers: &[&Server]) -> KubeClient {
    let names = ["s0", "s1", "s2"];
    let settings_of: Vec<_> = servers.iter().map(|server| server.sshd.ssh()).collect();
    let hosts: Vec<_> = names.into_iter().zip(&settings_of).collect();
    let cluster = Arc::new(Cluster { init: Some(host("s1")), ..cluster_of(&hosts) });
    let shell = Arc::new(SshShell::new(cluster.clone(), settings(), rke2flow_steps::render::script));
    KubeClient::new(cluster, shell, Redactor::default())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_named_server_is_asked_on_its_own_loopback_with_its_own_kubeconfig() {
    let (first, second) = (Server::start("first").await, Server::start("second").await);
    let kube = through_ssh(&[&first, &second]);
    for (name, expected) in [("s0", "first"), ("s1", "second"), ("s0", "first")] {
        let answer = kube.call(Some(&host(name)), &get("/version")).await.unwrap();
        assert_eq!(answer.body, json!({ "server": expected }));
    }
    assert_eq!(first.paths(), ["/version", "/version"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_name_the_init_server_is_preferred_and_the_one_that_answered_is_kept_until_it_fails() {
    let (first, init, third) =
        (Server::start("first").await, Server::start("init").await, Server::start("third").await);
    let kube = through_ssh(&[&first, &init, &third]);
    let ask = async || kube.call(None, &get("/version")).await.unwrap();
    assert_eq!(ask().await.body, json!({ "server": "init" }));
    assert_eq!(ask().await.body, json!({ "server": "init" }));
    assert_eq!(init.paths(), ["/readyz", "/version", "/version"]);
    init.state.lock().unwrap().ready = false;
    assert_eq!(ask().await.status, 500);
    assert_eq!(ask().await.body, json!({ "server": "first" }));
    first.state.lock().unwrap().ready = false;
    assert_eq!(ask().await.status, 500);
    assert_eq!(ask().await.body, json!({ "server": "third" }));
    third.state.lock().unwrap().ready = false;
    assert_eq!(ask().await.status, 500);
    let error = kube.call(None, &get("/version")).await.unwrap_err().to_string();
    assert!(error.contains("s1: /readyz answers 500; s0: /readyz answers 500; s2: "), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_that_a_reset_has_replaced_are_fetched_again() {
    let server = Server::start("only").await;
    let kube = through_ssh(&[&server]);
    let ask = async || kube.call(Some(&host("s0")), &get("/version")).await.unwrap().status;
    assert_eq!(ask().await, 200);
    server.state.lock().unwrap().token = "second-token";
    server.write_kubeconfig("second-token");
    assert_eq!(ask().await, 401);
    assert_eq!(ask().await, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_an_api_is_unreachable_and_a_change_through_a_dying_one_is_unknown() {
    let server = Server::start("only").await;
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let text = BASE64.encode(kubeconfig(closed, &server.authority, "first-token"));
    std::fs::write(server.files.path().join("answer"), json!({ "exit": 0, "text": text }).to_string()).unwrap();
    let change = KubeRequest { verb: KubeVerb::Create, path: "/api/v1/namespaces".to_owned(), body: json!({}) };
    let error = through_ssh(&[&server]).call(Some(&host("s0")), &change).await.unwrap_err();
    assert!(matches!(error, AccessError::Unreachable { .. }), "{error}");

    // Takes the request and closes without an answer.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let acceptor = server.authority.acceptor();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            if let Ok(mut stream) = acceptor.accept(stream).await {
                let mut buffer = [0; 64];
                tokio::io::AsyncReadExt::read(&mut stream, &mut buffer).await.ok();
            }
        }
    });
    let text = BASE64.encode(kubeconfig(port, &server.authority, "first-token"));
    std::fs::write(server.files.path().join("answer"), json!({ "exit": 0, "text": text }).to_string()).unwrap();
    let kube = through_ssh(&[&server]);
    let error = kube.call(Some(&host("s0")), &change).await.unwrap_err();
    assert!(matches!(error, AccessError::Unknown { .. }), "{error}");
    let error = kube.call(Some(&host("s0")), &get("/version")).await.unwrap_err();
    assert!(matches!(error, AccessError::Unreachable { .. }), "{error}");
}
