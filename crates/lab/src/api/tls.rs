//! TLS from files, and client certificates that are looked at after the handshake.

use std::io;
use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, RootCertStore, SignatureScheme};

/// The one provider of cryptography.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// A certificate with what is behind it in its file, and its key.
pub fn pair(certificate: &Path, key: &Path) -> io::Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)> {
    let key_read = PrivateKeyDer::from_pem_file(key).map_err(|error| of_file(key, &error))?;
    Ok((certificates(certificate)?, key_read))
}

/// Who an authority's certificates are from.
pub fn roots(authority: &Path) -> io::Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(authority)? {
        roots.add(certificate).map_err(io::Error::other)?;
    }
    Ok(roots)
}

/// Tells whether a client's certificate is of this authority.
pub fn clients(authority: &Path) -> io::Result<Arc<dyn ClientCertVerifier>> {
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots(authority)?), provider())
        .allow_unauthenticated()
        .build()
        .map_err(io::Error::other)
}

/// What a client that asks with a certificate trusts and presents.
pub fn client(authority: &Path, certificate: &Path, key: &Path) -> io::Result<rustls::ClientConfig> {
    let (chain, key) = pair(certificate, key)?;
    rustls::ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_root_certificates(roots(authority)?)
        .with_client_auth_cert(chain, key)
        .map_err(io::Error::other)
}

/// Takes any client certificate whose key the client has: who is not of the authority is told so by HTTP (401) and not by
/// a broken handshake, as kube-apiserver does.
#[derive(Debug)]
pub struct Presented(pub Arc<dyn ClientCertVerifier>);

impl ClientCertVerifier for Presented {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _own: &CertificateDer<'_>,
        _between: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }

    fn client_auth_mandatory(&self) -> bool {
        false
    }
}

fn certificates(path: &Path) -> io::Result<Vec<CertificateDer<'static>>> {
    let read = CertificateDer::pem_file_iter(path).map_err(|error| of_file(path, &error))?;
    let found: Result<Vec<_>, _> = read.collect();
    found.map_err(|error| of_file(path, &error))
}

fn of_file(path: &Path, error: &rustls::pki_types::pem::Error) -> io::Error {
    io::Error::other(format!("{}: {error}", path.display()))
}
