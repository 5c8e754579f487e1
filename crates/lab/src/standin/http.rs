//! One HTTP request at a time, over TCP or TLS: what the stand-in's processes ask each other with.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The address is none.
    #[error("`{0}` is no address to ask")]
    Address(String),
    /// A certificate or key cannot be used.
    #[error("{0}")]
    Identity(String),
    /// Nobody answers there, or breaks off.
    #[error("{what}: {why}")]
    Unreachable {
        /// The method and the address.
        what: String,
        /// What the system says.
        why: String,
    },
    /// The deadline has passed.
    #[error("{0}: context deadline exceeded")]
    Late(String),
}

/// An answer, whatever its status.
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Its body.
    pub body: Bytes,
}

impl Answer {
    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).trim().to_owned()
    }
}

/// Whom the client trusts, and who it is.
#[derive(Clone)]
pub struct Client {
    tls: Arc<ClientConfig>,
    headers: HeaderMap,
}

impl Client {
    /// Trusts any certificate: for `/cacerts`, before the authority is known.
    pub fn insecure() -> Self {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions();
        let builder = builder.expect("ring knows the default versions").dangerous();
        let builder = builder.with_custom_certificate_verifier(Arc::new(Anyone(provider)));
        Self { tls: Arc::new(builder.with_no_client_auth()), headers: HeaderMap::new() }
    }

    /// Trusts what the authorities of `pem` have signed.
    pub fn trusting(pem: &str) -> Result<Self, HttpError> {
        Self::with_roots(pem)
            .map(|builder| Self { tls: Arc::new(builder.with_no_client_auth()), headers: HeaderMap::new() })
    }

    /// Trusts the authority in a file and presents the certificate of two others.
    pub fn from_files(authority: &Path, certificate: &Path, key: &Path) -> Result<Self, HttpError> {
        let read = |path: &Path| {
            std::fs::read_to_string(path).map_err(|error| HttpError::Identity(format!("{}: {error}", path.display())))
        };
        let invalid =
            |error: &dyn std::fmt::Display| HttpError::Identity(format!("{}: {error}", certificate.display()));
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(read(certificate)?.as_bytes()).collect();
        let chain = chain.map_err(|error| invalid(&error))?;
        let key = PrivateKeyDer::from_pem_slice(read(key)?.as_bytes()).map_err(|error| invalid(&error))?;
        let tls = Self::with_roots(&read(authority)?)?.with_client_auth_cert(chain, key);
        Ok(Self { tls: Arc::new(tls.map_err(|error| invalid(&error))?), headers: HeaderMap::new() })
    }

    /// The same client, with a user and a password in every request.
    #[must_use]
    pub fn with_password(mut self, user: &str, password: &str) -> Self {
        let value = format!("Basic {}", BASE64.encode(format!("{user}:{password}")));
        self.headers.insert(header::AUTHORIZATION, value.parse().expect("base64 is printable"));
        self
    }

    /// The same client, with one more header in every request.
    #[must_use]
    pub fn with_header(mut self, name: &'static str, value: &str) -> Self {
        if let Ok(value) = value.parse() {
            self.headers.insert(name, value);
        }
        self
    }

    /// Asks, and waits at most `deadline` for the whole answer.
    pub async fn ask(&self, method: Method, url: &str, body: Vec<u8>, deadline: Duration) -> Result<Answer, HttpError> {
        let what = format!("{method} \"{url}\"");
        match tokio::time::timeout(deadline, self.ask_for_ever(method, url, body)).await {
            Ok(answer) => answer,
            Err(_) => Err(HttpError::Late(what)),
        }
    }

    /// Asks for a document.
    pub async fn get(&self, url: &str, deadline: Duration) -> Result<Answer, HttpError> {
        self.ask(Method::GET, url, Vec::new(), deadline).await
    }

    fn with_roots(
        pem: &str,
    ) -> Result<rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert>, HttpError> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
            let certificate = certificate.map_err(|error| HttpError::Identity(error.to_string()))?;
            roots.add(certificate).map_err(|error| HttpError::Identity(error.to_string()))?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        Ok(builder.expect("ring knows the default versions").with_root_certificates(roots))
    }

    async fn ask_for_ever(&self, method: Method, url: &str, body: Vec<u8>) -> Result<Answer, HttpError> {
        let uri: Uri = url.parse().map_err(|_| HttpError::Address(url.to_owned()))?;
        let (Some(host), Some(scheme)) = (uri.host(), uri.scheme_str()) else {
            return Err(HttpError::Address(url.to_owned()));
        };
        let port = uri.port_u16().unwrap_or(if scheme == "https" { 443 } else { 80 });
        let what = format!("{method} \"{url}\"");
        let broken = |error: &dyn std::error::Error| HttpError::Unreachable { what: what.clone(), why: chain(error) };
        let stream = TcpStream::connect((host.trim_matches(['[', ']']), port)).await.map_err(|error| broken(&error))?;
        let mut request = Request::builder().method(method).uri(uri.path_and_query().map_or("/", |path| path.as_str()));
        request = request.header(header::HOST, format!("{host}:{port}"));
        if let Some(headers) = request.headers_mut() {
            let json = if url.contains("/apis/") || url.contains("/api/") { None } else { Some("application/json") };
            json.map(|json| headers.insert(header::CONTENT_TYPE, http::HeaderValue::from_static(json)));
            headers.extend(self.headers.clone());
        }
        let request = request.body(Full::new(Bytes::from(body))).map_err(|error| broken(&error))?;
        if scheme == "https" {
            let name = ServerName::try_from(host.to_owned()).map_err(|error| broken(&error))?;
            let stream =
                TlsConnector::from(self.tls.clone()).connect(name, stream).await.map_err(|error| broken(&error))?;
            exchange(stream, request).await.map_err(|error| broken(&error))
        } else {
            exchange(stream, request).await.map_err(|error| broken(&error))
        }
    }
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: Request<Full<Bytes>>,
) -> Result<Answer, hyper::Error> {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let driver = tokio::spawn(connection);
    let answer = sender.send_request(request).await?;
    let status = answer.status();
    let body = answer.into_body().collect().await?.to_bytes();
    driver.abort();
    Ok(Answer { status, body })
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

/// Trusts whoever signs correctly with the key that it presents.
#[derive(Debug)]
struct Anyone(Arc<rustls::crypto::CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
