//! A small HTTP or HTTPS server on the loopback that answers by a closure.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;

/// What a client sent.
#[derive(Debug, Clone)]
pub struct Asked {
    pub method: String,
    pub path: String,
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
}

/// Status, headers, body.
pub type Answer = (u16, Vec<(&'static str, String)>, Vec<u8>);

/// Answers one request.
pub type Answering = Arc<dyn Fn(Asked) -> Answer + Send + Sync>;

/// An authority made for one test, with a server's certificate for 127.0.0.1.
pub struct Authority {
    pub ca_pem: String,
    pub certificate: rcgen::Certificate,
    pub key: rcgen::KeyPair,
}

impl Authority {
    pub fn new() -> Self {
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate =
            rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap().self_signed(&key).unwrap();
        Self { ca_pem: certificate.pem(), certificate, key }
    }

    pub fn write(&self, file: &Path) {
        std::fs::write(file, &self.ca_pem).unwrap();
    }

    pub fn acceptor(&self) -> tokio_rustls::TlsAcceptor {
        let key = rustls::pki_types::PrivateKeyDer::try_from(self.key.serialize_der()).unwrap();
        let config = rustls::ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![self.certificate.der().clone()], key)
            .unwrap();
        tokio_rustls::TlsAcceptor::from(Arc::new(config))
    }
}

/// Serves until the test ends; with TLS when there is an authority. Gives the port.
pub async fn serve(authority: Option<&Authority>, answering: Answering) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let acceptor = authority.map(Authority::acceptor);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, answering) = (acceptor.clone(), answering.clone());
            tokio::spawn(async move {
                match acceptor {
                    None => converse(stream, answering).await,
                    Some(acceptor) => {
                        if let Ok(stream) = acceptor.accept(stream).await {
                            converse(stream, answering).await;
                        }
                    }
                }
            });
        }
    });
    port
}

async fn converse(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, answering: Answering) {
    let service = service_fn(move |request| {
        let answering = answering.clone();
        async move { Ok::<_, Infallible>(answer(request, answering).await) }
    });
    // A client that goes away in the middle is part of some tests.
    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await.ok();
}

async fn answer(request: Request<Incoming>, answering: Answering) -> Response<Full<Bytes>> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes().to_vec();
    let header = |(name, value): (&hyper::header::HeaderName, &hyper::header::HeaderValue)| {
        (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned())
    };
    let asked = Asked {
        method: head.method.to_string(),
        path: head.uri.path_and_query().map(ToString::to_string).unwrap_or_default(),
        headers: head.headers.iter().map(header).collect(),
        body,
    };
    let (status, headers, body) = answering(asked);
    let response = Response::builder().status(status);
    let response = headers.into_iter().fold(response, |response, (name, value)| response.header(name, value));
    response.body(Full::new(body.into())).unwrap()
}
