//! The Kubernetes API: by a kubeconfig file, or through SSH to one server's own loopback with that server's kubeconfig.
//!
//! No request is sent twice here, and the same read not twice at once; a client that failed is forgotten, and the next
//! call begins with a fresh kubeconfig.

mod tunnel;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ::kube::config::{KubeConfigOptions, Kubeconfig};
use ::kube::{Client, Config};
use async_trait::async_trait;
use futures::StreamExt;
use http_body_util::{BodyExt, Limited};
use hyper_util::client::legacy;
use rke2flow_engine::cluster::{Cluster, Kube};
use rke2flow_engine::id::HostName;
use secrecy::ExposeSecret;
use serde_json::Value;
use tokio::sync::Semaphore;

use super::http::chain;
use super::ssh::SshShell;
use super::together::Together;
use crate::ports::{AccessError, KubeApi, KubeRequest, KubeResponse, KubeVerb};
use crate::secret::Redactor;

/// TCP and TLS.
const CONNECT: Duration = Duration::from_secs(10);
/// Silence while an answer or a request is on its way.
const SILENCE: Duration = Duration::from_secs(30);
/// One request, everything included.
const WHOLE: Duration = Duration::from_secs(60);
/// `/readyz` while a server is chosen.
const READY: Duration = Duration::from_secs(10);
/// The largest answer: a list of all pods of a large cluster has tens of megabytes.
const BODY_BYTES: usize = 64 * 1024 * 1024;
/// Requests at once through one place; more wait for their turn. Each needs a connection, and through a server an SSH
/// connection of its own, of which sshd lets ten log in at once (MaxStartups).
const REQUESTS_AT_ONCE: usize = 4;
/// Servers that are asked at once which of them is ready.
const PROBED_AT_ONCE: usize = 9;

/// The Kubernetes API of one cluster.
pub struct KubeClient {
    cluster: Arc<Cluster>,
    shell: Arc<SshShell>,
    redactor: Redactor,
    lost: Vec<HostName>,
    state: Mutex<State>,
    opening: Together<Option<HostName>, Result<Client, AccessError>>,
    choosing: Together<(), Result<HostName, AccessError>>,
    reads: Together<Read, Result<KubeResponse, AccessError>>,
}

/// A read: through which server, and of what.
type Read = (Option<HostName>, String);

#[derive(Default)]
struct State {
    /// Clients that have worked, or have not been tried yet. `None` is the kubeconfig file's.
    clients: HashMap<Option<HostName>, Client>,
    /// The server that answered last.
    last: Option<HostName>,
    /// Room for requests.
    room: HashMap<Option<HostName>, Arc<Semaphore>>,
}

impl KubeClient {
    /// The API of this cluster. Nothing is connected yet.
    pub fn new(cluster: Arc<Cluster>, shell: Arc<SshShell>, redactor: Redactor) -> Self {
        Self {
            cluster,
            shell,
            redactor,
            lost: Vec::new(),
            state: Mutex::default(),
            opening: Together::default(),
            choosing: Together::default(),
            reads: Together::default(),
        }
    }

    /// The same, never through these servers: what serves there is not the cluster that is meant.
    pub fn without(mut self, lost: &[HostName]) -> Self {
        self.lost = lost.to_vec();
        self
    }

    /// Sends to one place; a failure forgets its client.
    async fn send(
        &self,
        place: Option<&HostName>,
        request: &KubeRequest,
        limit: Duration,
    ) -> Result<KubeResponse, AccessError> {
        let sending = async {
            let client = self.client(place).await?;
            let room = self.room(place);
            let _one = room.acquire().await.expect("it is never closed");
            exchange(client, &self.whom(place), request).await
        };
        let answer = tokio::time::timeout(limit, Box::pin(sending)).await;
        let answer =
            answer.unwrap_or_else(|_| Err(broken(&self.whom(place), request, format!("no answer within {limit:?}"))));
        // 401: the kubeconfig is older than the server's certificates, as after a cluster-reset.
        if answer.as_ref().map_or(true, |response| response.status == 401) {
            self.locked().clients.remove(&place.cloned());
        }
        answer.map_err(|error| self.redacted(error))
    }

    fn room(&self, place: Option<&HostName>) -> Arc<Semaphore> {
        let mut state = self.locked();
        state.room.entry(place.cloned()).or_insert_with(|| Arc::new(Semaphore::new(REQUESTS_AT_ONCE))).clone()
    }

    async fn client(&self, place: Option<&HostName>) -> Result<Client, AccessError> {
        let known = || self.locked().clients.get(&place.cloned()).cloned();
        if let Some(client) = known() {
            return Ok(client);
        }
        let opening = async {
            // Somebody may have opened it while this waited for its turn.
            if let Some(client) = known() {
                return Ok(client);
            }
            let client = match place {
                Some(server) => self.tunnelled(server).await?,
                None => self.direct().await?,
            };
            self.locked().clients.insert(place.cloned(), client.clone());
            Ok(client)
        };
        self.opening.ask(&place.cloned(), Box::pin(opening)).await
    }

    async fn direct(&self) -> Result<Client, AccessError> {
        let refused = |why: String| AccessError::Refused { whom: self.whom(None), why };
        let Kube::Kubeconfig(file) = &self.cluster.kube else {
            return Err(refused("the cluster file names no kubeconfig".to_owned()));
        };
        let kubeconfig = Kubeconfig::read_from(file).map_err(|error| refused(chain(&error)))?;
        let config = self.config(kubeconfig).await.map_err(refused)?;
        Client::try_from(config).map_err(|error| refused(chain(&error)))
    }

    async fn tunnelled(&self, server: &HostName) -> Result<Client, AccessError> {
        let nonsense = |why: String| AccessError::Nonsense { whom: self.whom(Some(server)), why };
        let text = crate::host::kubeconfig(self.shell.as_ref(), &self.cluster, server).await?;
        // The parser's own words could quote a line of the file.
        let kubeconfig = Kubeconfig::from_yaml(text.expose_secret())
            .map_err(|_| nonsense("its kubeconfig is not one".to_owned()))?;
        let config = self.config(kubeconfig).await.map_err(nonsense)?;
        tunnel::client(config, self.shell.clone(), server.clone()).map_err(|error| nonsense(chain(&error)))
    }

    async fn config(&self, kubeconfig: Kubeconfig) -> Result<Config, String> {
        for auth in kubeconfig.auth_infos.iter().filter_map(|named| named.auth_info.as_ref()) {
            for secret in [&auth.token, &auth.password, &auth.client_key_data].into_iter().flatten() {
                self.redactor.learn(secret.expose_secret());
            }
        }
        let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await;
        let mut config = config.map_err(|error| chain(&error))?;
        config.connect_timeout = Some(CONNECT);
        config.read_timeout = Some(SILENCE);
        config.write_timeout = Some(SILENCE);
        config.reset_reader_on_write = true;
        // kube's own retry sends a POST or an eviction again, and waits for up to a thousand seconds.
        config.default_retry = false;
        Ok(config)
    }

    /// The server that answered last, else the first whose /readyz is ok: init, then the others in file order.
    async fn choose(&self) -> Result<HostName, AccessError> {
        if let Some(last) = self.locked().last.clone() {
            return Ok(last);
        }
        self.choosing.ask(&(), Box::pin(self.ready())).await
    }

    async fn ready(&self) -> Result<HostName, AccessError> {
        // Somebody may have found one while this waited for its turn.
        if let Some(last) = self.locked().last.clone() {
            return Ok(last);
        }
        let readyz = &KubeRequest { verb: KubeVerb::Get, path: "/readyz".to_owned(), body: Value::Null };
        // All are asked at once, and the order decides: a dead init server costs one time limit and not one each.
        let mut answers = futures::stream::iter(self.servers())
            .map(|server| async move {
                let answer = self.send(Some(&server), readyz, READY).await;
                (server, answer)
            })
            .buffered(PROBED_AT_ONCE);
        let mut why = Vec::new();
        while let Some((server, answer)) = answers.next().await {
            match answer {
                Ok(KubeResponse { status: 200, .. }) => {
                    self.locked().last = Some(server.clone());
                    return Ok(server.clone());
                }
                Ok(response) => why.push(format!("{server}: /readyz answers {}", response.status)),
                Err(error) => why.push(error.to_string()),
            }
        }
        Err(AccessError::Unreachable { whom: "any server's Kubernetes API".to_owned(), why: why.join("; ") })
    }

    fn servers(&self) -> Vec<HostName> {
        let init = self.cluster.init_server().map(|host| host.name.clone());
        let others = self.cluster.servers().map(|host| host.name.clone()).filter(|name| Some(name) != init.as_ref());
        init.iter().cloned().chain(others).filter(|name| !self.lost.contains(name)).collect()
    }

    fn whom(&self, place: Option<&HostName>) -> String {
        match (place, &self.cluster.kube) {
            (Some(server), _) => format!("Kubernetes API of {server}"),
            (None, Kube::Kubeconfig(file)) => format!("Kubernetes API of kubeconfig `{}`", file.display()),
            (None, Kube::Ssh) => "Kubernetes API".to_owned(),
        }
    }

    fn redacted(&self, error: AccessError) -> AccessError {
        crate::host::redacted(&self.redactor, error)
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

#[async_trait]
impl KubeApi for KubeClient {
    async fn call(&self, server: Option<&HostName>, request: &KubeRequest) -> Result<KubeResponse, AccessError> {
        match request.verb {
            KubeVerb::Get => {
                let read = (server.cloned(), request.path.clone());
                self.reads.ask(&read, Box::pin(self.call_alone(server, request))).await
            }
            _ => self.call_alone(server, request).await,
        }
    }
}

impl KubeClient {
    async fn call_alone(&self, server: Option<&HostName>, request: &KubeRequest) -> Result<KubeResponse, AccessError> {
        if let Some(server) = server {
            return self.send(Some(server), request, WHOLE).await;
        }
        if matches!(self.cluster.kube, Kube::Kubeconfig(_)) {
            return self.send(None, request, WHOLE).await;
        }
        let chosen = self.choose().await?;
        let answer = self.send(Some(&chosen), request, WHOLE).await;
        // A server without its datastore still answers, with 5xx: the next call looks for a better one.
        if answer.as_ref().map_or(true, |response| response.status >= 500) {
            self.locked().last.take_if(|last| *last == chosen);
        }
        answer
    }
}

async fn exchange(client: Client, whom: &str, request: &KubeRequest) -> Result<KubeResponse, AccessError> {
    let sent = client.send(built(whom, request)?).await;
    let response = sent.map_err(|error| failed(whom, request, &error))?;
    let status = response.status().as_u16();
    let body = Limited::new(response.into_body(), BODY_BYTES).collect().await;
    let body = body.map_err(|error| broken(whom, request, format!("status {status}, then {error}")))?.to_bytes();
    let text = || Value::String(String::from_utf8_lossy(&body).into_owned());
    Ok(KubeResponse { status, body: serde_json::from_slice(&body).unwrap_or_else(|_| text()) })
}

fn built(whom: &str, request: &KubeRequest) -> Result<http::Request<::kube::client::Body>, AccessError> {
    let (method, kind) = match request.verb {
        KubeVerb::Get => (http::Method::GET, "application/json"),
        KubeVerb::Create => (http::Method::POST, "application/json"),
        KubeVerb::MergePatch => (http::Method::PATCH, "application/merge-patch+json"),
        KubeVerb::Replace => (http::Method::PUT, "application/json"),
        KubeVerb::Delete => (http::Method::DELETE, "application/json"),
    };
    let body = if request.body.is_null() { Vec::new() } else { request.body.to_string().into_bytes() };
    let mut builder = http::Request::builder().method(method).uri(&request.path).header("accept", "application/json");
    if !body.is_empty() {
        builder = builder.header("content-type", kind);
    }
    builder.body(body.into()).map_err(|error| AccessError::Nonsense {
        whom: whom.to_owned(),
        why: format!("`{}` is not a path: {error}", request.path),
    })
}

fn failed(whom: &str, request: &KubeRequest, error: &::kube::Error) -> AccessError {
    // What the tunnel says of itself: a host that refuses is not one that does not answer.
    if let Some(refused) = causes(error).find_map(|cause| cause.downcast_ref::<AccessError>()).filter(refuses) {
        return refused.clone();
    }
    let unsent = |cause: &legacy::Error| cause.is_connect();
    if causes(error).filter_map(|cause| cause.downcast_ref::<legacy::Error>()).any(unsent) {
        return AccessError::Unreachable { whom: whom.to_owned(), why: chain(error) };
    }
    broken(whom, request, chain(error))
}

fn causes<'a>(error: &'a ::kube::Error) -> impl Iterator<Item = &'a (dyn std::error::Error + 'static)> {
    std::iter::successors(Some(error as &(dyn std::error::Error + 'static)), |cause| cause.source())
}

fn refuses(error: &&AccessError) -> bool {
    matches!(error, AccessError::Refused { .. })
}

/// A read has no outcome that could be lost; anything else may have happened.
fn broken(whom: &str, request: &KubeRequest, why: String) -> AccessError {
    let whom = whom.to_owned();
    match request.verb {
        KubeVerb::Get => AccessError::Unreachable { whom, why },
        _ => AccessError::Unknown { whom, why },
    }
}
