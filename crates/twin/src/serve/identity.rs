//! Who is who: SSH keys, the certificate authority, certificates, and the kubeconfig that holds them.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use russh::keys::PrivateKey;
use russh::keys::ssh_key::private::Ed25519Keypair;
use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::server::WebPkiClientVerifier;

use super::ServeError;

/// Common name of the admin's client certificate, as in RKE2's own rke2.yaml.
pub const ADMIN: &str = "system:admin";

const SERVER_NAMES: [&str; 4] = ["127.0.0.1", "localhost", "kubernetes", "kubernetes.default.svc"];

/// The certificates of one cluster. Its authority survives a reset, as RKE2's does: it comes back from the datastore.
pub struct Identity {
    authority_pem: String,
    server: Arc<rustls::ServerConfig>,
    admin_certificate_pem: String,
    admin_key_pem: String,
}

impl Identity {
    /// Makes an authority, a server certificate for loopback, and the admin's client certificate.
    pub fn new(cluster: &str) -> Result<Self, ServeError> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        params.distinguished_name.push(DnType::CommonName, format!("{cluster} server-ca"));
        let key = KeyPair::generate()?;
        let authority = params.self_signed(&key)?;
        let issuer = Issuer::new(params, key);

        let server_key = KeyPair::generate()?;
        let mut params = CertificateParams::new(SERVER_NAMES.map(str::to_owned).to_vec())?;
        params.distinguished_name.push(DnType::CommonName, "kube-apiserver");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let server = params.signed_by(&server_key, &issuer)?;

        let admin_key = KeyPair::generate()?;
        let mut params = CertificateParams::new(Vec::new())?;
        params.distinguished_name.push(DnType::CommonName, ADMIN);
        params.distinguished_name.push(DnType::OrganizationName, "system:masters");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let admin = params.signed_by(&admin_key, &issuer)?;

        let mut roots = RootCertStore::empty();
        roots.add(authority.der().clone())?;
        // Anonymous clients may ask /readyz and /version, as on a real API server; they get 401 for the rest.
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider())
            .allow_unauthenticated()
            .build()
            .map_err(|error| ServeError::Tls(error.to_string()))?;
        let mut config = rustls::ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()?
            .with_client_cert_verifier(verifier)
            .with_single_cert(
                vec![server.der().clone(), authority.der().clone()],
                PrivatePkcs8KeyDer::from(server_key.serialize_der()).into(),
            )?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self {
            authority_pem: authority.pem(),
            server: Arc::new(config),
            admin_certificate_pem: admin.pem(),
            admin_key_pem: admin_key.serialize_pem(),
        })
    }

    /// What a TLS server of the cluster presents and accepts.
    pub fn server_config(&self) -> Arc<rustls::ServerConfig> {
        self.server.clone()
    }

    /// The authority's certificate.
    pub fn authority_pem(&self) -> &str {
        &self.authority_pem
    }

    /// An admin kubeconfig for an API server at `server`, such as `https://127.0.0.1:6443`.
    pub fn kubeconfig(&self, server: &str) -> String {
        let [authority, certificate, key] =
            [&self.authority_pem, &self.admin_certificate_pem, &self.admin_key_pem].map(|pem| BASE64.encode(pem));
        format!(
            "apiVersion: v1\nkind: Config\npreferences: {{}}\ncurrent-context: default\nclusters:\n- name: default\n  \
             cluster:\n    certificate-authority-data: {authority}\n    server: {server}\ncontexts:\n- name: default\n  \
             context:\n    cluster: default\n    user: default\nusers:\n- name: default\n  user:\n    \
             client-certificate-data: {certificate}\n    client-key-data: {key}\n"
        )
    }
}

/// A fresh ed25519 key.
pub fn ssh_key(comment: &str) -> Result<PrivateKey, ServeError> {
    let mut key = PrivateKey::from(Ed25519Keypair::from_seed(&random::<32>()?));
    key.set_comment(comment);
    Ok(key)
}

/// A random word of 2 × `BYTES` hexadecimal digits.
pub fn secret_word<const BYTES: usize>() -> Result<String, ServeError> {
    Ok(random::<BYTES>()?.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn random<const BYTES: usize>() -> Result<[u8; BYTES], ServeError> {
    let mut bytes = [0; BYTES];
    provider().secure_random.fill(&mut bytes).map_err(|_| ServeError::Tls("no random bytes".to_owned()))?;
    Ok(bytes)
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}
