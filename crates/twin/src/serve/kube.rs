//! The Kubernetes API over TLS: one API server per host, behind its loopback and behind a port of its own.

use std::sync::Arc;

use http::{Request, StatusCode};
use hyper::body::Incoming;
use rke2flow_engine::id::HostName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;

use super::backend::Backend;
use super::identity::ADMIN;
use super::net::{Answer, Tasks, answer, read_body, serve_http, until_down};
use crate::kube::request::KubeHttp;

/// The API server's port on every server.
pub const API_PORT: u16 = 6443;

/// What a real API server accepts (kube-apiserver's request limit).
const BODY_BYTES: usize = 3 << 20;

/// What anonymous clients may read (`system:public-info-viewer`).
const PUBLIC: [&str; 4] = ["/healthz", "/livez", "/readyz", "/version"];

/// One host's API server.
#[derive(Clone)]
pub struct ApiServer {
    /// The host.
    pub host: HostName,
    /// What answers.
    pub backend: Arc<dyn Backend>,
    /// Certificates.
    pub tls: Arc<rustls::ServerConfig>,
    /// What runs.
    pub tasks: Tasks,
}

impl ApiServer {
    /// Serves one connection until either side, or the API server, goes down.
    pub async fn serve<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(self, stream: S) {
        let (backend, host) = (self.backend.clone(), self.host.clone());
        tokio::select! {
            () = self.talk(stream) => {}
            () = until_down(backend.as_ref(), &host, Some(API_PORT)) => {}
        }
    }

    async fn talk<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(self, stream: S) {
        let stream = match TlsAcceptor::from(self.tls).accept(stream).await {
            Ok(stream) => stream,
            Err(error) => return tracing::debug!(host = %self.host, %error, "a TLS handshake failed"),
        };
        // The authority signs no other client certificate than the admin's.
        let user = if stream.get_ref().1.peer_certificates().is_some() { ADMIN } else { "" };
        let (host, backend) = (self.host, self.backend);
        let handler = move |request| {
            // A connection outlives its API server by a moment, and must not answer in it.
            let alive = backend.listening(&host, API_PORT);
            let answered = handle(host.clone(), backend.clone(), user, request);
            async move { if alive { Some(answered.await) } else { None } }
        };
        serve_http(&self.tasks, stream, handler).await;
    }
}

async fn handle(host: HostName, backend: Arc<dyn Backend>, user: &'static str, request: Request<Incoming>) -> Answer {
    let (head, body) = request.into_parts();
    let path = head.uri.path();
    let public = PUBLIC.iter().any(|open| path == *open || path.starts_with(&format!("{open}/")));
    if user.is_empty() && !public {
        return refusal(StatusCode::UNAUTHORIZED, "Unauthorized", "Unauthorized");
    }
    let body = match read_body(body, BODY_BYTES).await {
        Ok(body) => body.to_vec(),
        Err(status) => return refusal(status, "RequestEntityTooLarge", "limit is 3145728"),
    };
    let content_type = head.headers.get(http::header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let request = KubeHttp {
        method: head.method.to_string(),
        path: path.to_owned(),
        query: head.uri.query().unwrap_or_default().to_owned(),
        content_type: content_type.unwrap_or_default().to_owned(),
        body,
        user: user.to_owned(),
    };
    let reply = backend.kube(&host, request).await;
    let status = StatusCode::from_u16(reply.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    answer(status, reply.content_type(), reply.bytes())
}

fn refusal(status: StatusCode, reason: &str, message: &str) -> Answer {
    let body = serde_json::json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "reason": reason, "code": status.as_u16(),
    });
    answer(status, "application/json", body.to_string())
}
