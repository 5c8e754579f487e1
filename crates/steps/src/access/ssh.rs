//! Hosts over SSH: one connection per host, opened once, reused, and opened again after a loss.

mod auth;
mod connection;
mod exec;
mod host_key;
mod known_hosts;
mod settings;
mod socket;

pub use host_key::fingerprint;
pub use known_hosts::{KnownHostsError, TrustedKey, write_known_hosts};
pub use russh::keys::PublicKey;
pub use settings::SshSettings;

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use rke2flow_engine::cluster::Cluster;
use rke2flow_engine::id::HostName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{Mutex, Semaphore};
use tokio::time::Instant;

use self::connection::{Connection, Endpoint};
use self::exec::{Broken, Ended};
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
    links: HashMap<HostName, Link>,
    /// Logins under way: sshd drops connections when too many are not logged in yet (MaxStartups, counted per host,
    /// so it is a jump host that this protects).
    opening: Semaphore,
}

/// The one connection of a host; the lock is held while it opens, so that it opens once.
#[derive(Default)]
struct Link {
    current: Mutex<Option<Arc<Connection>>>,
}

/// What a first look at a host over SSH found.
#[derive(Debug, Clone, PartialEq)]
pub struct HostReport {
    /// The host key, `ssh-ed25519 SHA256:…`.
    pub host_key: String,
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
        let links = cluster.hosts.iter().map(|host| (host.name.clone(), Link::default())).collect();
        let opening = Semaphore::new(settings.logins_at_once);
        Self { cluster, settings, render, links, opening }
    }

    /// Connects to all these hosts at once, becomes root on each and looks; every refusal is in the answer.
    pub async fn check_all(&self, hosts: &[HostName]) -> Vec<(HostName, Result<HostReport, AccessError>)> {
        let checks = hosts.iter().map(|host| async { (host.clone(), self.check(host).await) });
        futures::future::join_all(checks).await
    }

    /// The host key that a host presents now, without logging in. Decides nothing.
    pub async fn scan_host_key(&self, host: &HostName) -> Result<ScannedKey, AccessError> {
        let endpoint = self.endpoint(host)?;
        let _turn = self.turn().await;
        let key = connection::scan(&endpoint, &self.settings).await?;
        let fingerprint = host_key::fingerprint(&key);
        Ok(ScannedKey { key: TrustedKey { address: endpoint.address, port: endpoint.port, key }, fingerprint })
    }

    /// A TCP stream to `address:port` as the host sees it, on an SSH connection of its own: a channel that nobody
    /// drains blocks every other one on its connection (russh#730).
    pub async fn open_tunnel(&self, host: &HostName, address: &str, port: u16) -> Result<Tunnel, AccessError> {
        let connection = Arc::new(self.open(host).await?);
        let whom = format!("{address}:{port} of {host}");
        let channel = connection.direct_tcpip(address, port).await.map_err(|broken| broken.unreachable(&whom))?;
        Ok(Tunnel { stream: channel.into_stream(), _connection: connection })
    }

    async fn check(&self, host: &HostName) -> Result<HostReport, AccessError> {
        let began = Instant::now();
        let survey = crate::host::survey(self, &self.cluster, host).await?;
        let host_key = self.connected(host).await?.host_key.clone();
        Ok(HostReport { host_key, took: began.elapsed(), survey })
    }

    /// Sends a script on the host's connection; opens it again when it was lost before anything was sent.
    async fn execute(&self, host: &HostName, script: &str) -> Result<Output, AccessError> {
        let mut reopened = false;
        loop {
            let connection = self.connected(host).await?;
            match exec::run(&connection, script, &self.settings).await {
                Ok(Ended { output }) => return Ok(output),
                Err(Broken::Before(why)) if !reopened => {
                    tracing::debug!(%host, why, "opening the connection again");
                    self.forget(host, &connection).await;
                    reopened = true;
                }
                Err(broken) => {
                    if broken.lost() {
                        self.forget(host, &connection).await;
                    }
                    return Err(broken.during(host.as_str()));
                }
            }
        }
    }

    async fn connected(&self, host: &HostName) -> Result<Arc<Connection>, AccessError> {
        known(&self.cluster, host)?;
        let link = self.links.get(host).expect("every host of the cluster file has a link");
        let mut current = link.current.lock().await;
        if let Some(connection) = current.as_ref().filter(|connection| !connection.is_closed()) {
            return Ok(connection.clone());
        }
        let connection = Arc::new(self.open(host).await?);
        *current = Some(connection.clone());
        Ok(connection)
    }

    async fn forget(&self, host: &HostName, broken: &Arc<Connection>) {
        let Some(link) = self.links.get(host) else { return };
        let mut current = link.current.lock().await;
        if current.as_ref().is_some_and(|connection| Arc::ptr_eq(connection, broken)) {
            *current = None;
        }
    }

    async fn open(&self, host: &HostName) -> Result<Connection, AccessError> {
        let endpoint = self.endpoint(host)?;
        let _turn = self.turn().await;
        connection::open(&endpoint, &self.settings).await
    }

    async fn turn(&self) -> tokio::sync::SemaphorePermit<'_> {
        self.opening.acquire().await.expect("the semaphore is never closed")
    }

    fn endpoint(&self, host: &HostName) -> Result<Endpoint, AccessError> {
        let entry = known(&self.cluster, host)?;
        Endpoint::of(host.as_str(), &entry.address, self.cluster.ssh_of(entry))
    }
}

#[async_trait]
impl Shell for SshShell {
    async fn run(&self, host: &HostName, envelope: &Envelope) -> Result<Output, AccessError> {
        let script = (self.render)(envelope);
        self.execute(host, &script).await
    }
}

/// A TCP stream through a host.
pub struct Tunnel {
    stream: russh::ChannelStream<russh::client::Msg>,
    _connection: Arc<Connection>,
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
