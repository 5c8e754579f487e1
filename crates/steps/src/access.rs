//! The real world: hosts over SSH, the Kubernetes API, S3, HTTP. Only here are russh, kube, aws-sdk-s3 and hyper named.

pub mod http;
pub mod kube;
pub mod s3;
pub mod ssh;
mod together;

use std::sync::Arc;

use rke2flow_engine::cluster::Cluster;
use rke2flow_engine::id::HostName;

use self::http::HttpClient;
use self::kube::KubeClient;
use self::s3::S3Bucket;
use self::ssh::{Passphrases, SshSettings, SshShell};
use crate::paths::HostPaths;
use crate::ports::{Access, AccessError, Bucket};
use crate::secret::{MissingSecrets, Secrets};

/// Why a cluster file's world cannot even be tried.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// Secrets that cannot be read; all of them.
    #[error(transparent)]
    Secrets(#[from] MissingSecrets),
    /// A certificate file, an endpoint or the like that cannot be used.
    #[error(transparent)]
    Access(#[from] AccessError),
}

/// What [`connect`] built: the ports that actions use, and the shell itself for `trust`, `doctor` and checks before a run.
#[derive(Clone)]
pub struct Connected {
    /// Everything that actions reach.
    pub access: Access,
    /// The same shell as in `access`, with what only SSH has.
    pub shell: Arc<SshShell>,
}

/// Builds everything real for a cluster file. Secrets are resolved once, here; connections open when they are first used.
/// The Kubernetes API is never asked through a `lost` host: one that comes back has an old control plane.
pub async fn connect(cluster: Arc<Cluster>, lost: &[HostName]) -> Result<Connected, ConnectError> {
    let shell = SshShell::new(cluster.clone(), SshSettings::default(), crate::render::script);
    connect_by(cluster, lost, shell).await
}

/// The same with somebody who knows the passphrases of keys.
pub async fn connect_asking(
    cluster: Arc<Cluster>,
    lost: &[HostName],
    passphrases: Arc<dyn Passphrases>,
) -> Result<Connected, ConnectError> {
    let shell = SshShell::new(cluster.clone(), SshSettings::default(), crate::render::script);
    connect_by(cluster, lost, shell.asking(passphrases)).await
}

async fn connect_by(cluster: Arc<Cluster>, lost: &[HostName], shell: SshShell) -> Result<Connected, ConnectError> {
    let shell = Arc::new(shell);
    let secrets = Secrets::resolve(&cluster).await?;
    let redactor = secrets.redactor();
    let kube = Arc::new(KubeClient::new(cluster.clone(), shell.clone(), redactor.clone()).without(lost));
    let bucket = match &cluster.s3 {
        Some(s3) => Some(Arc::new(S3Bucket::new(s3, &secrets)?) as Arc<dyn Bucket>),
        None => None,
    };
    let http = Arc::new(HttpClient::new(cluster.health_ca.as_deref())?);
    let paths = HostPaths::of(&cluster);
    let lost = lost.to_vec();
    let token = cluster.token.as_ref().and_then(|token| secrets.value(token)).cloned();
    let access = Access {
        cluster,
        paths,
        lost,
        token,
        shell: shell.clone(),
        kube,
        bucket,
        http,
        history: Arc::default(),
        redactor,
    };
    Ok(Connected { access, shell })
}
