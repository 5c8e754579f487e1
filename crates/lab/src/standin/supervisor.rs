//! The supervisor on port 9345, of K3s behind the API's port: what servers and agents join through, and what `rke2 etcd-snapshot` talks to.

use std::convert::Infallible;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::json;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::layout::API_PORT;
use super::node::{Ending, Server};
use super::{bootstrap, flavor, log, password, snapshot};
use crate::api::authority::Authority;

/// Where the cluster keeps the addresses of its API servers (K3S `pkg/etcd/etcd.go` AddressKey).
pub fn addresses_key(server: &Server) -> String {
    format!("{}/apiaddresses", server.distribution().name)
}

/// Whether a path is the supervisor's, not the API server's.
pub fn serves(path: &str) -> bool {
    ["/ping", "/cacerts"].contains(&path) || ["/db/", "/v1-rke2/"].iter().any(|prefix| path.starts_with(prefix))
}

/// Header with the name of a node that asks for its certificate.
pub const NODE_NAME: &str = "rke2-node-name";
/// Header with its password.
pub const NODE_PASSWORD: &str = "rke2-node-password";

type Answer = Response<Full<Bytes>>;

/// Listens, and serves until the process ends.
pub async fn start(server: Arc<Server>) -> Result<(), Ending> {
    let acceptor = TlsAcceptor::from(Arc::new(identity(&server)?));
    let port = flavor::supervisor_port(server.distribution());
    let listener = TcpListener::bind(("0.0.0.0", port)).await;
    let listener = listener.map_err(|error| Ending::error(&format!("listen tcp :{port}"), error))?;
    tokio::spawn(async move {
        loop {
            let Ok((stream, from)) = listener.accept().await else { continue };
            let (acceptor, server) = (acceptor.clone(), server.clone());
            tokio::spawn(async move {
                let Ok(stream) = acceptor.accept(stream).await else { return };
                let service = service_fn(move |request| {
                    let server = server.clone();
                    async move { Ok::<_, Infallible>(answer(&server, request, from.ip()).await) }
                });
                // Whoever breaks off has had its answer, or asks again.
                let _ =
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });
    Ok(())
}

fn identity(server: &Server) -> io::Result<rustls::ServerConfig> {
    let tls = server.layout.tls();
    let chain: Result<Vec<_>, _> =
        CertificateDer::pem_file_iter(tls.join("serving-kube-apiserver.crt")).map_err(io::Error::other)?.collect();
    let key = PrivateKeyDer::from_pem_file(tls.join("serving-kube-apiserver.key")).map_err(io::Error::other)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(io::Error::other)?.with_no_client_auth();
    builder.with_single_cert(chain.map_err(io::Error::other)?, key).map_err(io::Error::other)
}

async fn answer(server: &Arc<Server>, request: Request<Incoming>, from: IpAddr) -> Answer {
    let user = user(server, &request);
    let is_server = user.as_deref() == Some("server");
    let is_known = user.is_some();
    match (request.method().clone(), request.uri().path()) {
        (Method::GET, "/ping") => plain(StatusCode::OK, "pong"),
        (Method::GET, "/cacerts") => match std::fs::read_to_string(server.layout.tls().join("server-ca.crt")) {
            Ok(pem) => plain(StatusCode::OK, pem),
            Err(error) => failed(StatusCode::INTERNAL_SERVER_ERROR, &error),
        },
        (Method::GET, "/db/info") if is_server || from.is_loopback() || from == server.address => members(server).await,
        (Method::POST, "/db/snapshot") if is_server => match request.into_body().collect().await {
            Ok(body) => snapshot::handle(server, &body.to_bytes()).await,
            Err(error) => failed(StatusCode::BAD_REQUEST, &error),
        },
        (Method::GET, "/v1-rke2/readyz") if is_known => {
            let is_ready = server.has_api.load(Ordering::Relaxed);
            plain(if is_ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, "ok")
        }
        (Method::GET, "/v1-rke2/server-bootstrap") if is_server => bootstrap_data(server, from).await,
        (Method::GET, "/v1-rke2/apiservers") if is_known => addresses(server).await,
        (Method::GET, "/v1-rke2/client-kubelet.crt") if is_known => certificate(server, &request).await,
        (_, path) if serves(path) => plain(StatusCode::UNAUTHORIZED, "Unauthorized"),
        _ => plain(StatusCode::NOT_FOUND, "404 page not found"),
    }
}

/// `server` and `node` share one password unless an agent token is configured, which the lab does not have.
fn user(server: &Server, request: &Request<Incoming>) -> Option<String> {
    let value = request.headers().get(header::AUTHORIZATION)?.to_str().ok()?.strip_prefix("Basic ")?;
    let text = String::from_utf8(BASE64.decode(value).ok()?).ok()?;
    let (user, password) = text.split_once(':')?;
    (password == server.token.password && matches!(user, "server" | "node")).then(|| user.to_owned())
}

async fn members(server: &Server) -> Answer {
    match server.etcd.members().await {
        Ok(members) => json_answer(&json!({ "members": members })),
        Err(error) => failed(StatusCode::INTERNAL_SERVER_ERROR, &format!("failed to get etcd MemberList: {error}")),
    }
}

async fn bootstrap_data(server: &Server, from: IpAddr) -> Answer {
    let files = match bootstrap::load(&server.etcd, &server.token).await {
        Ok(Some(files)) => {
            log::info(format!("Serving HTTP bootstrap from datastore for {from}"));
            files
        }
        other => {
            let why = other.err().unwrap_or_else(|| "no bootstrap data".to_owned());
            log::warn(format!(
                "Failed to retrieve HTTP bootstrap data from datastore; falling back to disk for {from}: {why}"
            ));
            match bootstrap::read(&server.layout) {
                Ok(files) => files,
                Err(error) => return failed(StatusCode::INTERNAL_SERVER_ERROR, &error),
            }
        }
    };
    json_answer(&json!(files))
}

/// The API servers that agents may use, as `address:port`.
async fn addresses(server: &Server) -> Answer {
    let kept = server.etcd.get(&addresses_key(server)).await.ok().flatten();
    let kept = kept.and_then(|entry| serde_json::from_slice::<Vec<String>>(&entry.value).ok()).unwrap_or_default();
    let own = vec![format!("{}:{API_PORT}", server.address)];
    json_answer(&json!(if kept.is_empty() { own } else { kept }))
}

/// A node's certificate, for the password that it has had from the beginning (K3S `pkg/nodepassword`).
async fn certificate(server: &Server, request: &Request<Incoming>) -> Answer {
    let header = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let (node, secret) = (header(NODE_NAME), header(NODE_PASSWORD));
    if node.is_empty() || secret.is_empty() {
        return plain(StatusCode::BAD_REQUEST, "node name or password not set");
    }
    if !server.has_api.load(Ordering::Relaxed) {
        return failed(StatusCode::SERVICE_UNAVAILABLE, &"runtime core not ready");
    }
    if let Err(error) = password::ensure(server, node, secret).await {
        let status = if error.is_mismatch() { StatusCode::FORBIDDEN } else { StatusCode::INTERNAL_SERVER_ERROR };
        return failed(status, &error);
    }
    let authority = match Authority::read(&server.layout.tls()) {
        Ok(Some(authority)) => authority,
        Ok(None) => return failed(StatusCode::INTERNAL_SERVER_ERROR, &"there is no authority"),
        Err(error) => return failed(StatusCode::INTERNAL_SERVER_ERROR, &error),
    };
    match authority.kubelet(node) {
        Ok(pair) => json_answer(&json!(pair)),
        Err(error) => failed(StatusCode::INTERNAL_SERVER_ERROR, &error),
    }
}

/// A JSON document.
pub fn json_answer(value: &serde_json::Value) -> Answer {
    let mut answer = plain(StatusCode::OK, value.to_string());
    answer.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    answer
}

/// A failure as Kubernetes tells it (K3S `pkg/util/apierrors.go` SendError).
pub fn failed(status: StatusCode, error: &dyn std::fmt::Display) -> Answer {
    let message = error.to_string();
    log::error(format!("Sending {status} response: {message}"));
    let body = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message, "code": status.as_u16()});
    let mut answer = json_answer(&body);
    *answer.status_mut() = status;
    answer
}

fn plain(status: StatusCode, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    answer
}
