//! What the servers ask of a simulated cluster. They know protocols and sockets; the cluster behind them knows RKE2.

use std::sync::Arc;

use async_trait::async_trait;
use rke2flow_engine::cluster::Cluster;
use rke2flow_engine::id::HostName;
use rke2flow_steps::ports::Output;
use serde_json::{Value, json};

use super::s3::Credentials;
use crate::kube::request::{KubeHttp, KubeReply};
use crate::s3::store::S3Store;
use crate::twin::Twin;

/// A simulated cluster, as its servers see it.
#[async_trait]
pub trait Backend: Send + Sync + 'static {
    /// The cluster file. Addresses, ports, keys, endpoints and secrets are filled in by [`super::up`].
    fn cluster(&self) -> Cluster;

    /// Gives a server the text of its own admin kubeconfig.
    fn set_kubeconfig(&self, host: &HostName, kubeconfig: String);

    /// Whether the host has power and network: its SSH answers.
    fn reachable(&self, host: &HostName) -> bool;

    /// Whether something listens on a port of the host's own loopback.
    fn listening(&self, host: &HostName, port: u16) -> bool;

    /// What stood in the arguments of a process on the host, for whoever looks for secrets there.
    fn saw_arguments(&self, host: &HostName, arguments: &str);

    /// Runs a script as `user` on a host. Goes on to its end even when the client has gone, as a real shell does.
    async fn shell(&self, host: &HostName, user: &str, script: &str) -> Output;

    /// Answers a request to the Kubernetes API server of one host.
    async fn kube(&self, host: &HostName, request: KubeHttp) -> KubeReply;

    /// Answers a GET to another port of a host; `None`: the connection ends without an answer.
    async fn http(&self, host: &HostName, port: u16, path: &str) -> Option<(u16, String)>;

    /// What the application answers to the operator; `None`: nobody listens.
    fn application(&self, url: &str) -> Option<(u16, String)>;

    /// The object store.
    fn bucket(&self) -> Arc<S3Store>;

    /// Who may use the object store.
    fn credentials(&self) -> Credentials;

    /// Asked by a test or a rehearsal, from outside the process; an error says what was wrong with the question.
    async fn control(&self, ask: Ask, with: Value) -> Result<Value, String>;
}

/// What a test or a rehearsal asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask {
    /// What must never have happened and did.
    Judge,
    /// Everything that was done to the cluster.
    Log,
    /// The cluster without what legitimately differs between two runs.
    Fingerprint,
    /// A workload writes: `{"method": "POST", "path": "/api/v1/…", "body": {…}}`, through any API server that answers.
    /// A write that was not acknowledged is an error.
    Write,
    /// A fact of the world becomes another one: a [`crate::Tamper`] as JSON, such as `{"StopUnit": "server-1"}`.
    Set,
    /// Something goes wrong from now on: a [`crate::Fault`] as JSON, such as `{"UploadFails": 1}`.
    Fault,
}

#[async_trait]
impl Backend for Twin {
    fn cluster(&self) -> Cluster {
        Twin::cluster(self)
    }

    fn set_kubeconfig(&self, host: &HostName, kubeconfig: String) {
        Twin::set_kubeconfig(self, host, kubeconfig);
    }

    fn reachable(&self, host: &HostName) -> bool {
        Twin::reachable(self, host)
    }

    fn listening(&self, host: &HostName, port: u16) -> bool {
        Twin::listening(self, host, port)
    }

    fn saw_arguments(&self, host: &HostName, arguments: &str) {
        Twin::saw_arguments(self, host, arguments);
    }

    async fn shell(&self, host: &HostName, user: &str, script: &str) -> Output {
        Twin::shell(self, host, user, script).await
    }

    async fn kube(&self, host: &HostName, request: KubeHttp) -> KubeReply {
        Twin::kube(self, host, request).await
    }

    async fn http(&self, host: &HostName, port: u16, path: &str) -> Option<(u16, String)> {
        Twin::http(self, host, port, path).await
    }

    fn application(&self, url: &str) -> Option<(u16, String)> {
        Twin::application(self, url)
    }

    fn bucket(&self) -> Arc<S3Store> {
        Twin::bucket(self)
    }

    fn credentials(&self) -> Credentials {
        Credentials { access_key: self.spec().access_key.clone(), secret_key: self.spec().secret_key.clone() }
    }

    async fn control(&self, ask: Ask, with: Value) -> Result<Value, String> {
        match ask {
            Ask::Judge => Ok(json!(self.judge())),
            Ask::Log => Ok(json!(self.log())),
            Ask::Fingerprint => Ok(self.fingerprint()),
            Ask::Write => write(self, &with).await,
            Ask::Set => self.tamper(read(with)?).map(|()| Value::Null),
            Ask::Fault => {
                self.inject(read(with)?);
                Ok(Value::Null)
            }
        }
    }
}

fn read<T: serde::de::DeserializeOwned>(with: Value) -> Result<T, String> {
    serde_json::from_value(with).map_err(|error| error.to_string())
}

async fn write(twin: &Twin, with: &Value) -> Result<Value, String> {
    let text = |field: &str| with[field].as_str().map(str::to_owned).ok_or(format!("`{field}` is not a text"));
    let request = KubeHttp {
        method: text("method")?,
        path: text("path")?,
        content_type: "application/json".to_owned(),
        body: with["body"].to_string().into_bytes(),
        user: "workload".to_owned(),
        ..KubeHttp::default()
    };
    let cluster = twin.cluster();
    let up = |host: &HostName| twin.reachable(host) && twin.listening(host, super::kube::API_PORT);
    let server = cluster.servers().map(|host| &host.name).find(|host| up(host));
    let reply = twin.kube(server.ok_or("no API server answers")?, request).await;
    let body = String::from_utf8_lossy(&reply.bytes()).into_owned();
    match reply.status {
        200..300 => Ok(json!({ "status": reply.status, "body": body })),
        status => Err(format!("the API answers {status}: {body}")),
    }
}
