//! The API server's socket: TLS, client certificates, HTTP.

use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, Limited, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::{TokioIo, TokioTimer};
use rke2flow_twin::kube::request::{KubeHttp, KubeReply};
use rustls::pki_types::UnixTime;
use rustls::server::danger::ClientCertVerifier;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;

use super::handle::{Api, Reply};
use super::stream::Events;
use super::tls::{self, Presented};
use super::upkeep;
use crate::standin::http::Client;
use crate::standin::supervisor::{self, NODE_NAME, NODE_PASSWORD};

/// Connections at a time; further ones wait in the kernel's backlog.
const CONNECTIONS: usize = 512;
/// What kube-apiserver accepts.
const BODY_BYTES: usize = 3 << 20;
/// A client that has not said what it wants after this is dropped.
const HEAD: Duration = Duration::from_secs(30);
/// How long a request may take (kube-apiserver's is a minute); a watch has its own limit.
const REQUEST: Duration = Duration::from_secs(60);
/// How long the supervisor may take: a snapshot with its upload.
const SUPERVISOR: Duration = Duration::from_secs(420);
/// What of a request's head the supervisor goes by.
const FORWARDED: [&str; 3] = ["authorization", NODE_NAME, NODE_PASSWORD];
/// After a connection could not be accepted.
const PAUSE: Duration = Duration::from_millis(50);

type Answer = Response<UnsyncBoxBody<Bytes, Infallible>>;

/// A bound API server.
pub struct Server {
    listener: TcpListener,
    acceptor: TlsAcceptor,
    clients: Arc<dyn ClientCertVerifier>,
    api: Api,
}

impl Server {
    /// Listens on every address of the host. Port 0 takes a free one.
    pub async fn bind(api: Api) -> io::Result<Self> {
        let tls = &api.config.tls;
        let clients = tls::clients(&tls.join("client-ca.crt"))?;
        let acceptor = TlsAcceptor::from(Arc::new(config(tls, clients.clone())?));
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, api.config.port)).await?;
        Ok(Self { listener, acceptor, clients, api })
    }

    /// Where it listens.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves, and sees to what an API server sees to, until it is dropped.
    pub async fn run(self) -> Infallible {
        let objects = self.api.objects.clone();
        tokio::select! {
            never = self.accept() => never,
            never = upkeep::namespaces(objects.clone()) => never,
            never = upkeep::compaction(objects) => never,
        }
    }

    async fn accept(self) -> Infallible {
        let places = Arc::new(Semaphore::new(CONNECTIONS));
        loop {
            let place = places.clone().acquire_owned().await.expect("the semaphore is never closed");
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    let talk = talk(self.acceptor.clone(), self.clients.clone(), self.api.clone(), stream);
                    tokio::spawn(async move {
                        if let Err(error) = talk.await {
                            tracing::debug!(%error, "a connection broke");
                        }
                        drop(place);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }
}

fn config(tls: &Path, clients: Arc<dyn ClientCertVerifier>) -> io::Result<rustls::ServerConfig> {
    let (chain, key) = tls::pair(&tls.join("serving-kube-apiserver.crt"), &tls.join("serving-kube-apiserver.key"))?;
    let mut config = rustls::ServerConfig::builder_with_provider(tls::provider())
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_client_cert_verifier(Arc::new(Presented(clients)))
        .with_single_cert(chain, key)
        .map_err(io::Error::other)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

async fn talk(
    acceptor: TlsAcceptor,
    clients: Arc<dyn ClientCertVerifier>,
    api: Api,
    stream: TcpStream,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let stream = tokio::time::timeout(HEAD, acceptor.accept(stream)).await.map_err(io::Error::other)??;
    let known = stream.get_ref().1.peer_certificates().is_some_and(|chain| {
        chain
            .split_first()
            .is_some_and(|(own, between)| clients.verify_client_cert(own, between, UnixTime::now()).is_ok())
    });
    let service = hyper::service::service_fn(move |request| {
        let api = api.clone();
        async move { Ok::<_, Infallible>(handle(api, known, request).await) }
    });
    hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .half_close(true)
        .serve_connection(TokioIo::new(stream), service)
        .await
        .map_err(io::Error::other)
}

async fn handle(api: Api, known: bool, request: Request<Incoming>) -> Answer {
    if let Some(port) = api.config.supervisor.filter(|_| supervisor::serves(request.uri().path())) {
        return forwarded(port, request).await;
    }
    // RKE2 starts it with --anonymous-auth=false: not even /readyz is told to strangers.
    if !known {
        return whole(&KubeReply::refused(401, "Unauthorized", "Unauthorized"));
    }
    let (head, body) = request.into_parts();
    let Ok(body) = Limited::new(body, BODY_BYTES).collect().await else {
        return whole(&KubeReply::refused(413, "RequestEntityTooLarge", "limit is 3145728"));
    };
    let content_type = head.headers.get(http::header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let request = KubeHttp {
        method: head.method.to_string(),
        path: head.uri.path().to_owned(),
        query: head.uri.query().unwrap_or_default().to_owned(),
        content_type: content_type.unwrap_or_default().to_owned(),
        body: body.to_bytes().to_vec(),
        user: String::new(),
    };
    match tokio::time::timeout(REQUEST, api.answer(&request)).await {
        Ok(Reply::Whole(reply)) => whole(&reply),
        Ok(Reply::Watch(events)) => watch(events),
        Err(_) => whole(&KubeReply::refused(504, "Timeout", "request did not complete within the allotted timeout")),
    }
}

/// The supervisor of K3s answers on the API's port, for whoever has its password.
async fn forwarded(port: u16, request: Request<Incoming>) -> Answer {
    let (head, body) = request.into_parts();
    let Ok(body) = Limited::new(body, BODY_BYTES).collect().await else {
        return whole(&KubeReply::refused(413, "RequestEntityTooLarge", "limit is 3145728"));
    };
    let mut client = Client::insecure();
    for name in FORWARDED {
        if let Some(value) = head.headers.get(name).and_then(|value| value.to_str().ok()) {
            client = client.with_header(name, value);
        }
    }
    let url = format!("https://127.0.0.1:{port}{}", head.uri.path());
    // A snapshot takes longer than another request.
    match client.ask(head.method, &url, body.to_bytes().to_vec(), SUPERVISOR).await {
        Ok(told) => answer(told.status.as_u16(), "application/json", Full::new(told.body).boxed_unsync()),
        Err(error) => whole(&KubeReply::refused(503, "ServiceUnavailable", &error.to_string())),
    }
}

fn whole(reply: &KubeReply) -> Answer {
    answer(reply.status, reply.content_type(), Full::new(Bytes::from(reply.bytes())).boxed_unsync())
}

fn watch(events: Events) -> Answer {
    let frames = futures::stream::unfold(events, |mut events| async move {
        let bytes = events.next().await?;
        Some((Ok(Frame::data(Bytes::from(bytes))), events))
    });
    answer(200, "application/json", StreamBody::new(frames).boxed_unsync())
}

fn answer(status: u16, content_type: &'static str, body: UnsyncBoxBody<Bytes, Infallible>) -> Answer {
    let mut answer = Response::new(body);
    *answer.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    answer.headers_mut().insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static(content_type));
    answer
}
