//! Where a tunnel to a host's own loopback ends: its API server, its supervisor, etcd's metrics.

use std::sync::Arc;

use http::{Method, Request, StatusCode};
use hyper::body::Incoming;
use rke2flow_engine::id::HostName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;

use super::backend::Backend;
use super::kube::{API_PORT, ApiServer};
use super::net::{Answer, Tasks, answer, serve_http, until_down};

/// Ports that speak TLS: the supervisor and etcd's client port. 2381, etcd's metrics and health, is plain HTTP.
const TLS_PORTS: [u16; 2] = [9345, 2379];

/// Everything that listens on one host's loopback.
#[derive(Clone)]
pub struct Forward {
    /// The host.
    pub host: HostName,
    /// What answers.
    pub backend: Arc<dyn Backend>,
    /// Certificates.
    pub tls: Arc<rustls::ServerConfig>,
    /// What runs.
    pub tasks: Tasks,
}

impl Forward {
    /// A tunnel to `address:port` as seen from the host; `None`: connection refused.
    pub fn open(&self, address: &str, port: u32) -> Option<Tunnel> {
        let port = u16::try_from(port).ok()?;
        let loopback = matches!(address, "127.0.0.1" | "localhost" | "::1");
        (loopback && self.backend.listening(&self.host, port)).then(|| Tunnel { end: self.clone(), port })
    }
}

/// An open tunnel.
pub struct Tunnel {
    end: Forward,
    port: u16,
}

impl Tunnel {
    /// Serves it until either side goes down.
    pub async fn serve<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(self, stream: S) {
        let Forward { host, backend, tls, tasks } = self.end;
        if self.port == API_PORT {
            return ApiServer { host, backend, tls, tasks }.serve(stream).await;
        }
        let port = self.port;
        let (down_backend, down_host) = (backend.clone(), host.clone());
        let handler = move |request| get(backend.clone(), host.clone(), port, request);
        let talk = async move {
            if !TLS_PORTS.contains(&port) {
                return serve_http(&tasks, stream, handler).await;
            }
            match TlsAcceptor::from(tls).accept(stream).await {
                Ok(stream) => serve_http(&tasks, stream, handler).await,
                Err(error) => tracing::debug!(port, %error, "a TLS handshake failed"),
            }
        };
        tokio::select! { () = talk => {}, () = until_down(down_backend.as_ref(), &down_host, Some(port)) => {} }
    }
}

async fn get(backend: Arc<dyn Backend>, host: HostName, port: u16, request: Request<Incoming>) -> Option<Answer> {
    if !backend.listening(&host, port) {
        return None;
    }
    if request.method() != Method::GET {
        return Some(answer(StatusCode::METHOD_NOT_ALLOWED, "text/plain", "only GET is answered here\n"));
    }
    let (status, body) = backend.http(&host, port, request.uri().path()).await?;
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    Some(answer(status, if body.starts_with('{') { "application/json" } else { "text/plain" }, body))
}
