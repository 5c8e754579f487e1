//! Certificates as RKE2 lays them out: one authority for servers, one for clients, and what they sign.

use std::fs;
use std::io::{self, Write};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use serde::{Deserialize, Serialize};

/// Names that every API server answers to, beside its node's name and address.
const API_NAMES: [&str; 6] =
    ["127.0.0.1", "localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc", "10.43.0.1"];

const SERVER_CA: &str = "rke2-server-ca";
const CLIENT_CA: &str = "rke2-client-ca";

/// Both authorities of a cluster with their keys: what a server gives to one that joins, and what RKE2 keeps encrypted in
/// the datastore (K3S `pkg/cluster/bootstrap.go`).
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Authority {
    /// Signs what servers present.
    server: Pair,
    /// Signs what clients present.
    client: Pair,
}

/// A certificate and its key, as PEM.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pair {
    /// The certificate; of a server with its authority's behind it.
    pub certificate: String,
    /// The key.
    pub key: String,
}

impl Authority {
    /// A new cluster's.
    pub fn create() -> io::Result<Self> {
        Ok(Self { server: self_signed(SERVER_CA)?, client: self_signed(CLIENT_CA)? })
    }

    /// The one in `server/tls`; `None` when a file of it is missing.
    pub fn read(tls: &Path) -> io::Result<Option<Self>> {
        let pair = |name: &str| -> io::Result<Option<Pair>> {
            let certificate = read(&tls.join(format!("{name}.crt")))?;
            let key = read(&tls.join(format!("{name}.key")))?;
            Ok(certificate.zip(key).map(|(certificate, key)| Pair { certificate, key }))
        };
        Ok(pair("server-ca")?.zip(pair("client-ca")?).map(|(server, client)| Self { server, client }))
    }

    /// Writes both authorities into `server/tls`, and what a server's own processes present: `serving-kube-apiserver`,
    /// `client-kube-apiserver`, `client-controller`, `client-admin`. What is there already is replaced.
    pub fn install(&self, tls: &Path, node: &str, address: IpAddr) -> io::Result<()> {
        fs::create_dir_all(tls)?;
        for (name, pair) in [
            ("server-ca", self.server.clone()),
            ("client-ca", self.client.clone()),
            ("serving-kube-apiserver", self.serving(node, address)?),
            ("client-kube-apiserver", self.client("kube-apiserver", "system:masters")?),
            ("client-controller", self.client("system:kube-controller-manager", "")?),
            ("client-admin", self.admin()?),
        ] {
            pair.write(tls, name)?;
        }
        Ok(())
    }

    /// What a server's API and supervisor present.
    pub fn serving(&self, node: &str, address: IpAddr) -> io::Result<Pair> {
        let mut names: Vec<String> = API_NAMES.map(str::to_owned).to_vec();
        names.extend([node.to_owned(), address.to_string()]);
        let mut params = CertificateParams::new(names).map_err(invalid)?;
        params.distinguished_name.push(DnType::CommonName, "kube-apiserver");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let mut pair = signed(params, SERVER_CA, &self.server)?;
        pair.certificate.push_str(&self.server.certificate);
        Ok(pair)
    }

    /// What a node's kubelet presents.
    pub fn kubelet(&self, node: &str) -> io::Result<Pair> {
        self.client(&format!("system:node:{node}"), "system:nodes")
    }

    /// The certificate by which clients know servers: `server-ca.crt` on every node.
    pub fn server_certificate(&self) -> &str {
        &self.server.certificate
    }

    /// An admin's kubeconfig for an API server at `server`, such as `https://127.0.0.1:6443`.
    pub fn kubeconfig(&self, server: &str) -> io::Result<String> {
        let admin = self.admin()?;
        let [authority, certificate, key] =
            [&self.server.certificate, &admin.certificate, &admin.key].map(|pem| BASE64.encode(pem));
        Ok(format!(
            "apiVersion: v1\nclusters:\n- cluster:\n    certificate-authority-data: {authority}\n    server: {server}\n  \
             name: default\ncontexts:\n- context:\n    cluster: default\n    user: default\n  name: default\n\
             current-context: default\nkind: Config\npreferences: {{}}\nusers:\n- name: default\n  user:\n    \
             client-certificate-data: {certificate}\n    client-key-data: {key}\n"
        ))
    }

    fn admin(&self) -> io::Result<Pair> {
        self.client("system:admin", "system:masters")
    }

    fn client(&self, name: &str, group: &str) -> io::Result<Pair> {
        let mut params = CertificateParams::new(Vec::new()).map_err(invalid)?;
        params.distinguished_name.push(DnType::CommonName, name);
        if !group.is_empty() {
            params.distinguished_name.push(DnType::OrganizationName, group);
        }
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        signed(params, CLIENT_CA, &self.client)
    }
}

impl Pair {
    /// Writes `<name>.crt` and, for nobody else to read, `<name>.key`.
    pub fn write(&self, directory: &Path, name: &str) -> io::Result<()> {
        for (ending, text, mode) in [("crt", &self.certificate, 0o644), ("key", &self.key, 0o600)] {
            let path = directory.join(format!("{name}.{ending}"));
            let fresh = directory.join(format!(".{name}.{ending}.new"));
            let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&fresh)?;
            file.write_all(text.as_bytes())?;
            fs::rename(&fresh, &path)?;
        }
        Ok(())
    }
}

fn read(path: &Path) -> io::Result<Option<String>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn authority(name: &str) -> io::Result<CertificateParams> {
    let mut params = CertificateParams::new(Vec::new()).map_err(invalid)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    params.distinguished_name.push(DnType::CommonName, name);
    Ok(params)
}

fn self_signed(name: &str) -> io::Result<Pair> {
    let key = KeyPair::generate().map_err(invalid)?;
    let certificate = authority(name)?.self_signed(&key).map_err(invalid)?;
    Ok(Pair { certificate: certificate.pem(), key: key.serialize_pem() })
}

fn signed(params: CertificateParams, name: &str, by: &Pair) -> io::Result<Pair> {
    // The issuer is rebuilt from its name and key: both are all that a signature takes from it.
    let issuer = Issuer::new(authority(name)?, KeyPair::from_pem(&by.key).map_err(invalid)?);
    let key = KeyPair::generate().map_err(invalid)?;
    let certificate = params.signed_by(&key, &issuer).map_err(invalid)?;
    Ok(Pair { certificate: certificate.pem(), key: key.serialize_pem() })
}

fn invalid(error: rcgen::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}
