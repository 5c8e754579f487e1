//! Hosts over SSH: one connection per host, opened once, reused, and opened again after a loss.

mod agent;
mod auth;
mod connection;
mod endpoint;
mod exec;
mod host_key;
mod keys;
mod known_hosts;
mod link;
mod openssh_config;
mod settings;
mod socket;
mod tokens;

pub use exec::BEGINNING;
pub use host_key::{UNKNOWN_KEY, fingerprint};
pub use keys::Passphrases;
pub use known_hosts::{KnownHostsError, TrustedKey, write_known_hosts};
pub use openssh_config::ClientConfig;
pub use russh::keys::PublicKey;
pub use settings::SshSettings;

use std::collections::{BTreeMap, HashMap};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use rke2flow_engine::cluster::Cluster;
use rke2flow_engine::id::HostName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{OnceCell, Semaphore};
use tokio::time::Instant;

use self::connection::Connection;
use self::endpoint::Endpoint;
use self::keys::KeyRing;
use self::link::{Link, Opening};
use crate::answer::Survey;
use crate::command::Envelope;
use crate::host::known;
use crate::ports::{AccessError, Output, Shell};

/// Renders an envelope to the script that is sent.
pub type Render = fn(&Envelope) -> String;

/// Hosts of one cluster over SSH.
pub struct SshShell {
    cluster: Arc<Cluster>,
    settings: SshSettings,
    render: Render,
    /// A host's way in is looked up when it is first needed.
    links: HashMap<HostName, OnceCell<Link>>,
    ring: KeyRing,
    /// Logins under way: sshd drops connections when too many are not logged in yet (MaxStartups, counted per host,
    /// so it is a jump host that this protects).
    opening: Semaphore,
}

/// What a first look at a host over SSH found.
#[derive(Debug, Clone, PartialEq)]
pub struct HostReport {
    /// The host key, `ssh-ed25519 SHA256:…`.
    pub host_key: String,
    /// What of the way there comes from OpenSSH's configuration, and from which lines; empty when nothing does.
    pub origin: String,
    /// How long connecting, logging in and looking took.
    pub took: Duration,
    /// What the host said of itself: becoming root works.
    pub survey: Survey,
}

/// A host key that was presented to somebody who did not log in.
#[derive(Debug, Clone, PartialEq)]
pub struct ScannedKey {
    /// Where: address and port, as known_hosts has them.
    pub key: TrustedKey,
    /// `ssh-ed25519 SHA256:…`
    pub fingerprint: String,
}

impl SshShell {
    /// The hosts of this cluster file. Nothing is connected yet.
    pub fn new(cluster: Arc<Cluster>, settings: SshSettings, render: Render) -> Self {
        let links = cluster.hosts.iter().map(|host| (host.name.clone(), OnceCell::new())).collect();
        let opening = Semaphore::new(settings.logins_at_once);
        // What a person configured for real hosts must not lead a twin's connections elsewhere.
        let settings = match cluster.rehearsal {
            Some(_) => SshSettings { config: ClientConfig::None, ..settings },
            None => settings,
        };
        Self { cluster, settings, render, links, ring: KeyRing::default(), opening }
    }

    /// The same shell with somebody who knows the passphrases of keys.
    pub fn asking(self, passphrases: Arc<dyn Passphrases>) -> Self {
        Self { ring: KeyRing::new(Some(passphrases)), ..self }
    }

    /// Connects to all these hosts at once, becomes root on each and looks; every refusal is in the answer.
    pub async fn check_all(&self, hosts: &[HostName]) -> Vec<(HostName, Result<HostReport, AccessError>)> {
        let checks = hosts.iter().map(|host| async { (host.clone(), self.check(host).await) });
        futures::future::join_all(checks).await
    }

    /// The host key that a host presents now, without logging in. Decides nothing.
    pub async fn scan_host_key(&self, host: &HostName) -> Result<ScannedKey, AccessError> {
        self.scan(&self.link(host).await?.endpoint).await
    }

    /// The host keys of hosts that are gone through and whose key nobody has accepted yet, the nearest on each way, by
    /// place: what lies beyond can be scanned when these are accepted, and a new shell is made.
    pub async fn scan_unknown_jumps(
        &self,
        hosts: &[HostName],
    ) -> BTreeMap<(String, u16), Result<ScannedKey, AccessError>> {
        let mut scanned = BTreeMap::new();
        for host in hosts {
            // A host whose way cannot be told says so when it is scanned itself.
            let Ok(link) = self.link(host).await else { continue };
            let Some(jump) = connection::unknown_jump(&link.endpoint) else { continue };
            if !scanned.contains_key(&jump.known_as) {
                scanned.insert(jump.known_as.clone(), self.scan(jump).await);
            }
        }
        scanned
    }

    async fn scan(&self, endpoint: &Endpoint) -> Result<ScannedKey, AccessError> {
        let _turn = self.opening.acquire().await.expect("the semaphore is never closed");
        let key = connection::scan(endpoint, &self.settings, &self.ring).await?;
        let fingerprint = host_key::fingerprint(&key);
        let (address, port) = endpoint.known_as.clone();
        Ok(ScannedKey { key: TrustedKey { address, port, key }, fingerprint })
    }

    /// A TCP stream to `address:port` as the host sees it, on an SSH connection of its own: a channel that nobody
    /// drains blocks every other one on its connection (russh#730).
    pub async fn open_tunnel(&self, host: &HostName, address: &str, port: u16) -> Result<Tunnel, AccessError> {
        let endpoint = &self.link(host).await?.endpoint;
        let connection = self.opening().open(endpoint).await?;
        let channel = connection.direct_tcpip(address, port).await;
        let channel =
            channel.map_err(|broken| broken.through(endpoint, &format!("{address}:{port}"), INSTEAD_OF_A_TUNNEL))?;
        Ok(Tunnel { stream: channel.into_stream(), _connection: connection })
    }

    async fn check(&self, host: &HostName) -> Result<HostReport, AccessError> {
        let began = Instant::now();
        let survey = crate::host::survey(self, &self.cluster, host).await?;
        let link = self.link(host).await?;
        let (host_key, origin) = (link.host_key(&self.opening()).await?, link.endpoint.origin.clone());
        Ok(HostReport { host_key, origin, took: began.elapsed(), survey })
    }

    async fn link(&self, host: &HostName) -> Result<&Link, AccessError> {
        let entry = known(&self.cluster, host)?;
        let link = self.links.get(host).expect("every host of the cluster file has a link");
        let making = async {
            let ssh = self.cluster.ssh_of(entry);
            let endpoint = Endpoint::of(host.as_str(), &entry.address, ssh, &self.settings).await?;
            Ok(Link::new(endpoint, &self.settings))
        };
        link.get_or_try_init(|| making).await
    }

    fn opening(&self) -> Opening<'_> {
        Opening { settings: &self.settings, ring: &self.ring, turns: &self.opening }
    }
}

/// How the API is reached without a tunnel.
const INSTEAD_OF_A_TUNNEL: &str =
    "or let the API be reached without SSH: `kube: Kubeconfig(\"kubeconfig.yaml\")` in the cluster file";

#[async_trait]
impl Shell for SshShell {
    async fn run(&self, host: &HostName, envelope: &Envelope) -> Result<Output, AccessError> {
        let script = (self.render)(envelope);
        Ok(self.link(host).await?.execute(&script, &self.opening()).await?.output)
    }
}

/// A TCP stream through a host.
pub struct Tunnel {
    stream: russh::ChannelStream<russh::client::Msg>,
    _connection: Connection,
}

impl AsyncRead for Tunnel {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Tunnel {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
