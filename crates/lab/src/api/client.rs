//! A client of the API for the processes of a node: it asks one server after the other, and stays with who answers.

use std::io;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client as Http;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};

use super::tls;

/// One request, everything included.
const DEADLINE: Duration = Duration::from_secs(10);
const CONNECT: Duration = Duration::from_secs(3);
const ANSWER_BYTES: usize = 64 << 20;
/// A connection that was not used for so long is not trusted to be alive.
const IDLE: Duration = Duration::from_secs(15);

/// Why a request did not do it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ApiError {
    /// No server answers, or none with its datastore: whether a write happened is not known.
    #[error("no API server answers: {0}")]
    Silent(String),
    /// The server says no.
    #[error("the API answers {status}: {message}")]
    Refused {
        /// HTTP status.
        status: u16,
        /// Its words.
        message: String,
    },
}

impl ApiError {
    /// Whether somebody else has written the object, or made it.
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::Refused { status: 409, .. })
    }
}

/// A client with a certificate.
pub struct Client {
    http: Http<HttpsConnector<HttpConnector>, Full<Bytes>>,
    servers: Mutex<Vec<String>>,
}

impl Client {
    /// A client of servers, `address:port`, best first; certificates are files.
    pub fn new(servers: Vec<String>, authority: &Path, certificate: &Path, key: &Path) -> io::Result<Self> {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_connect_timeout(Some(CONNECT));
        tcp.set_nodelay(true);
        let https = hyper_rustls::HttpsConnectorBuilder::new()
            .with_tls_config(tls::client(authority, certificate, key)?)
            .https_only()
            .enable_http1()
            .wrap_connector(tcp);
        let http = Http::builder(TokioExecutor::new()).pool_idle_timeout(IDLE).build(https);
        Ok(Self { http, servers: Mutex::new(servers) })
    }

    /// Other servers from now on. The one in use stays first as long as it is among them.
    pub fn set_servers(&self, servers: Vec<String>) {
        let mut known = self.servers.lock().unwrap_or_else(PoisonError::into_inner);
        let first = known.first().filter(|first| servers.contains(first)).cloned();
        let others = servers.into_iter().filter(|server| Some(server) != first.as_ref());
        *known = first.iter().cloned().chain(others).collect();
    }

    /// One object; `None`: there is none.
    pub async fn get(&self, path: &str) -> Result<Option<Value>, ApiError> {
        absent(self.ask(Method::GET, path, "", Value::Null).await)
    }

    /// The objects of a collection.
    pub async fn list(&self, path: &str) -> Result<Vec<Value>, ApiError> {
        let mut found = self.ask(Method::GET, path, "", Value::Null).await?;
        Ok(found["items"].as_array_mut().map(std::mem::take).unwrap_or_default())
    }

    /// Makes an object.
    pub async fn create(&self, collection: &str, object: &Value) -> Result<Value, ApiError> {
        self.ask(Method::POST, collection, "application/json", object.clone()).await
    }

    /// Writes an object that is there; its resourceVersion is the precondition.
    pub async fn replace(&self, path: &str, object: &Value) -> Result<Value, ApiError> {
        self.ask(Method::PUT, path, "application/json", object.clone()).await
    }

    /// Merges into an object that is there.
    pub async fn patch(&self, path: &str, patch: &Value) -> Result<Value, ApiError> {
        self.ask(Method::PATCH, path, "application/merge-patch+json", patch.clone()).await
    }

    /// Removes this very object; `false`: it, or that one of its name, was not there. Without grace a pod is gone at once.
    pub async fn delete(&self, path: &str, object: &Value, grace_seconds: Option<i64>) -> Result<bool, ApiError> {
        let options = json!({
            "apiVersion": "v1", "kind": "DeleteOptions", "preconditions": {"uid": object["metadata"]["uid"]},
            "gracePeriodSeconds": grace_seconds,
        });
        match absent(self.ask(Method::DELETE, path, "application/json", options).await) {
            Ok(found) => Ok(found.is_some()),
            Err(error) if error.is_conflict() => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn ask(&self, method: Method, path: &str, content: &str, body: Value) -> Result<Value, ApiError> {
        let servers = self.servers.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut why = Vec::new();
        for server in servers {
            match self.send(&server, &method, path, content, &body).await {
                Ok((status @ 200..300, found)) => {
                    self.prefer(&server);
                    return serde_json::from_slice(&found).map_err(|error| ApiError::Refused {
                        status,
                        message: format!("and that is not JSON: {error}"),
                    });
                }
                // It answers, but without its datastore: another one may have it.
                Ok((status @ 500.., found)) => why.push(format!("{server}: {status} {}", words(&found))),
                Ok((status, found)) => {
                    self.prefer(&server);
                    return Err(ApiError::Refused { status, message: words(&found) });
                }
                // A write that may have happened is not sent to the next.
                Err(broken) if broken.sent && method != Method::GET => {
                    return Err(ApiError::Silent(format!("{server}: {}", broken.why)));
                }
                Err(broken) => why.push(format!("{server}: {}", broken.why)),
            }
        }
        Err(ApiError::Silent(why.join("; ")))
    }

    async fn send(
        &self,
        server: &str,
        method: &Method,
        path: &str,
        content: &str,
        body: &Value,
    ) -> Result<(u16, Bytes), Broken> {
        let bytes = if body.is_null() { Bytes::new() } else { Bytes::from(body.to_string()) };
        let mut request = Request::builder().method(method).uri(format!("https://{server}{path}"));
        if !content.is_empty() {
            request = request.header(http::header::CONTENT_TYPE, content);
        }
        let request = request.body(Full::new(bytes)).map_err(|error| Broken { sent: false, why: error.to_string() })?;
        let exchange = async {
            let answer = self.http.request(request).await;
            let answer = answer.map_err(|error| Broken { sent: !error.is_connect(), why: chain(&error) })?;
            let status = answer.status().as_u16();
            let body = Limited::new(answer.into_body(), ANSWER_BYTES).collect().await;
            body.map(|body| (status, body.to_bytes())).map_err(|error| Broken { sent: true, why: error.to_string() })
        };
        let late = || Err(Broken { sent: true, why: format!("no answer within {DEADLINE:?}") });
        tokio::time::timeout(DEADLINE, exchange).await.unwrap_or_else(|_| late())
    }

    fn prefer(&self, server: &str) {
        let mut known = self.servers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = known.iter().position(|found| found == server).filter(|at| *at > 0) {
            let found = known.remove(at);
            known.insert(0, found);
        }
    }
}

/// A request without an answer.
struct Broken {
    sent: bool,
    why: String,
}

fn absent(answer: Result<Value, ApiError>) -> Result<Option<Value>, ApiError> {
    match answer {
        Ok(found) => Ok(Some(found)),
        Err(ApiError::Refused { status: 404, .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

fn words(body: &[u8]) -> String {
    match serde_json::from_slice::<Value>(body) {
        Ok(status) if status["message"].is_string() => status["message"].as_str().unwrap_or_default().to_owned(),
        _ => String::from_utf8_lossy(body).chars().take(200).collect(),
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut said = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        said = format!("{said}: {inner}");
        cause = inner.source();
    }
    said
}
