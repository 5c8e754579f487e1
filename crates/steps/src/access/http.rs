//! Plain HTTP(S) from the operator's machine: one GET, its status, the beginning of its body. Redirects are not followed.

use std::path::Path;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper_rustls::{ConfigBuilderExt, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

use crate::ports::{AccessError, Http};

/// From the first packet to the last byte of the body that is kept.
const LIMIT: Duration = Duration::from_secs(10);
/// How much of a body is kept, in bytes.
const BODY_BYTES: usize = 4096;

/// An HTTP client that verifies certificates against the system's roots, or against one file.
pub struct HttpClient {
    client: Client<HttpsConnector<HttpConnector>, Empty<Bytes>>,
    /// Why there are no roots to verify against; `http://` works all the same.
    without_roots: Option<String>,
}

impl HttpClient {
    /// With the certificates of this PEM file, or the system's.
    pub fn new(ca: Option<&Path>) -> Result<Self, AccessError> {
        let (config, without_roots) = match ca {
            Some(file) => (with_roots_of(file)?, None),
            None => match ClientConfig::builder().with_native_roots() {
                Ok(builder) => (builder.with_no_client_auth(), None),
                Err(error) => {
                    let empty = ClientConfig::builder().with_root_certificates(RootCertStore::empty());
                    (empty.with_no_client_auth(), Some(format!("no certificates of the system: {error}")))
                }
            },
        };
        let mut connector = HttpConnector::new();
        connector.enforce_http(false);
        connector.set_connect_timeout(Some(LIMIT));
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(config)
            .https_or_http()
            .enable_http1()
            .wrap_connector(connector);
        // No pool: a health check must see whether a new connection comes up.
        let client = Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(connector);
        Ok(Self { client, without_roots })
    }

    async fn fetch(&self, url: &str) -> Result<(u16, String), AccessError> {
        let whom = without_password(url);
        let uri: http::Uri = url
            .parse()
            .map_err(|error| AccessError::Refused { whom: whom.clone(), why: format!("it is not a URL: {error}") })?;
        let response = self.client.get(uri).await.map_err(|error| self.unreachable(&whom, &error))?;
        let status = response.status().as_u16();
        let body = beginning(response.into_body())
            .await
            .map_err(|error| AccessError::Unreachable { whom, why: format!("status {status}, then {error}") })?;
        Ok((status, String::from_utf8_lossy(&body).into_owned()))
    }

    fn unreachable(&self, whom: &str, error: &hyper_util::client::legacy::Error) -> AccessError {
        let mut why = chain(error);
        if let Some(missing) = &self.without_roots {
            why = format!("{why} ({missing})");
        }
        AccessError::Unreachable { whom: whom.to_owned(), why }
    }
}

#[async_trait]
impl Http for HttpClient {
    async fn get(&self, url: &str) -> Result<(u16, String), AccessError> {
        let late = || AccessError::Unreachable {
            whom: without_password(url),
            why: format!("no answer within {} s", LIMIT.as_secs()),
        };
        tokio::time::timeout(LIMIT, self.fetch(url)).await.unwrap_or_else(|_| Err(late()))
    }
}

/// An error and its causes, each once.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        if !words.contains(&text) {
            words = format!("{words}: {text}");
        }
        cause = error.source();
    }
    words
}

/// The certificates of a PEM file.
pub(super) fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, AccessError> {
    let refused = |why: String| AccessError::Refused { whom: format!("certificate file `{}`", file.display()), why };
    let pem = std::fs::read(file).map_err(|error| refused(error.to_string()))?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match certificates {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        Ok(_) => Err(refused("there is no PEM certificate in it".to_owned())),
        Err(error) => Err(refused(error.to_string())),
    }
}

fn with_roots_of(file: &Path) -> Result<ClientConfig, AccessError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(file)? {
        roots.add(certificate).map_err(|error| AccessError::Refused {
            whom: format!("certificate file `{}`", file.display()),
            why: error.to_string(),
        })?;
    }
    Ok(ClientConfig::builder().with_root_certificates(roots).with_no_client_auth())
}

async fn beginning(mut body: Incoming) -> Result<Vec<u8>, hyper::Error> {
    let mut kept = Vec::new();
    while kept.len() < BODY_BYTES {
        let Some(frame) = body.frame().await else { break };
        if let Some(data) = frame?.data_ref() {
            kept.extend_from_slice(&data[..data.len().min(BODY_BYTES - kept.len())]);
        }
    }
    Ok(kept)
}

/// A URL may carry `user:password@`.
fn without_password(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    format!("{scheme}://{host}{path}")
}
