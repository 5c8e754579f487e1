//! One SSH connection: opened, host key checked, logged in, guarded against a peer that went silent.

use std::sync::Arc;
use std::time::Duration;

use rke2flow_engine::cluster::Ssh;
use russh::client::{self, Handle, Msg};
use russh::keys::PublicKey;
use russh::keys::PublicKeyOrCertificate;
use russh::{Channel, Preferred};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

use super::auth::Credentials;
use super::exec::Broken;
use super::host_key::Trust;
use super::settings::SshSettings;
use super::socket::Socket;
use crate::ports::AccessError;

/// Port of SSH when nothing else is said.
const DEFAULT_PORT: u16 = 22;

/// Where a host is and how it is entered.
pub(super) struct Endpoint {
    pub name: String,
    pub address: String,
    pub port: u16,
    pub user: String,
    pub ssh: Ssh,
    pub jump: Option<Box<Endpoint>>,
}

impl Endpoint {
    pub(super) fn of(name: &str, address: &str, ssh: Ssh) -> Result<Self, AccessError> {
        let jump = match &ssh.jump {
            Some(text) => Some(Box::new(Self::jump(name, text, &ssh)?)),
            None => None,
        };
        let user = ssh.user.clone().unwrap_or_else(|| "root".to_owned());
        let port = ssh.port.unwrap_or(DEFAULT_PORT);
        Ok(Self { name: name.to_owned(), address: address.to_owned(), port, user, ssh, jump })
    }

    /// `user@host:port`; the pin is the target's own and says nothing about the jump host.
    fn jump(name: &str, text: &str, ssh: &Ssh) -> Result<Self, AccessError> {
        let refused = |why: &str| AccessError::Refused {
            whom: name.to_owned(),
            why: format!("`jump: \"{text}\"` is not `user@host:port`: {why}"),
        };
        let (user, place) = text.split_once('@').unwrap_or(("root", text));
        let (address, port) = match place.rsplit_once(':') {
            Some((address, port)) if !address.contains(':') || address.ends_with(']') => {
                (address, port.parse().map_err(|_| refused("the port is not a number"))?)
            }
            _ => (place, DEFAULT_PORT),
        };
        let address = address.trim_start_matches('[').trim_end_matches(']');
        if user.is_empty() || address.is_empty() {
            return Err(refused("a part is empty"));
        }
        let ssh = Ssh { host_key: None, jump: None, port: Some(port), user: Some(user.to_owned()), ..ssh.clone() };
        Self::of(&format!("jump host {address} of {name}"), address, ssh)
    }

    fn unreachable(&self, why: impl ToString) -> AccessError {
        AccessError::Unreachable { whom: self.name.clone(), why: why.to_string() }
    }

    fn refused(&self, why: String) -> AccessError {
        AccessError::Refused { whom: self.name.clone(), why }
    }

    fn place(&self) -> String {
        format!("{}:{}", self.address, self.port)
    }
}

/// An open, logged-in connection.
pub(super) struct Connection {
    handle: Handle<Verifier>,
    /// `ssh-ed25519 SHA256:…`
    pub host_key: String,
    pub user: String,
    pub sessions: Semaphore,
    settings: SshSettings,
    /// The connection to the jump host under this one.
    _through: Option<Arc<Connection>>,
}

impl Connection {
    pub(super) fn is_closed(&self) -> bool {
        self.handle.is_closed()
    }

    pub(super) async fn session(&self) -> Result<Channel<Msg>, Broken> {
        self.guarded("opening a session", self.settings.channel, self.handle.channel_open_session()).await
    }

    pub(super) async fn direct_tcpip(&self, address: &str, port: u16) -> Result<Channel<Msg>, Broken> {
        let opening = self.handle.channel_open_direct_tcpip(address, u32::from(port), "127.0.0.1", 0);
        self.guarded("opening a tunnel", self.settings.channel, opening).await
    }

    /// Resolves when the connection is gone: russh's own waits do not always notice.
    pub(super) async fn until_closed(&self) {
        while !self.is_closed() {
            tokio::time::sleep(self.settings.closed_poll).await;
        }
    }

    async fn guarded<T>(
        &self,
        what: &str,
        limit: Duration,
        operation: impl Future<Output = Result<T, russh::Error>>,
    ) -> Result<T, Broken> {
        tokio::select! {
            result = operation => result.map_err(|error| match error {
                russh::Error::ChannelOpenFailure(reason) => Broken::Denied(format!("{what}: {reason:?}")),
                other => Broken::Before(format!("{what}: {other}")),
            }),
            () = self.until_closed() => Err(Broken::Before(format!("{what}: the connection is gone"))),
            () = tokio::time::sleep(limit) => Err(Broken::Before(format!("{what}: no answer within {limit:?}"))),
        }
    }
}

/// Checks the host key; a scan takes the key and leaves.
pub(super) struct Verifier {
    purpose: Purpose,
    accepted: Arc<std::sync::OnceLock<String>>,
}

enum Purpose {
    LogIn(Arc<Trust>),
    Scan,
}

/// Why a connection did not come up.
#[derive(Debug, thiserror::Error)]
pub(super) enum LinkError {
    #[error(transparent)]
    Ssh(#[from] russh::Error),
    #[error("{0}")]
    HostKey(String),
    #[error("scanned")]
    Scanned(Box<PublicKey>),
}

impl client::Handler for Verifier {
    type Error = LinkError;

    async fn check_server_key(&mut self, presented: &PublicKeyOrCertificate) -> Result<bool, LinkError> {
        match &self.purpose {
            Purpose::Scan => Err(LinkError::Scanned(Box::new(presented.public_key()))),
            Purpose::LogIn(trust) => {
                let fingerprint = trust.check(presented).map_err(LinkError::HostKey)?;
                self.accepted.get_or_init(|| fingerprint);
                Ok(true)
            }
        }
    }
}

/// Connects, checks the host key and logs in.
pub(super) async fn open(endpoint: &Endpoint, settings: &SshSettings) -> Result<Connection, AccessError> {
    let credentials = Credentials::of(&endpoint.ssh, settings.agent.as_deref()).map_err(|why| endpoint.refused(why))?;
    let trust = Trust::of(&endpoint.ssh, &settings.known_hosts, &endpoint.address, endpoint.port);
    let trust = Arc::new(trust.map_err(|why| endpoint.refused(why))?);
    let (stream, through) = dial(endpoint, settings).await?;
    let accepted = Arc::new(std::sync::OnceLock::new());
    let verifier = Verifier { purpose: Purpose::LogIn(trust.clone()), accepted: accepted.clone() };
    let config = Arc::new(config(settings, &trust));
    let login = async {
        let mut handle =
            client::connect_stream(config, stream, verifier).await.map_err(|error| why(endpoint, &trust, error))?;
        let login = credentials.log_in(&mut handle, &endpoint.user).await;
        match login {
            Ok(()) => Ok(handle),
            Err(why) if handle.is_closed() => Err(endpoint.unreachable(format!("lost the connection: {why}"))),
            Err(why) => Err(endpoint.refused(why)),
        }
    };
    let limit = settings.login;
    let handle = tokio::time::timeout(limit, Box::pin(login)).await.map_err(|_| {
        endpoint.unreachable(format!("{} accepts, but does not log in within {limit:?}", endpoint.place()))
    })??;
    Ok(Connection {
        handle,
        host_key: accepted.get().cloned().unwrap_or_default(),
        user: endpoint.user.clone(),
        sessions: Semaphore::new(settings.sessions),
        settings: settings.clone(),
        _through: through,
    })
}

/// The key that the host presents, without logging in.
pub(super) async fn scan(endpoint: &Endpoint, settings: &SshSettings) -> Result<PublicKey, AccessError> {
    let (stream, _through) = dial(endpoint, settings).await?;
    let trust = Trust::default();
    let verifier = Verifier { purpose: Purpose::Scan, accepted: Arc::default() };
    let connecting = client::connect_stream(Arc::new(config(settings, &trust)), stream, verifier);
    match tokio::time::timeout(settings.login, Box::pin(connecting)).await {
        Ok(Err(LinkError::Scanned(key))) => Ok(*key),
        Ok(Err(error)) => Err(why(endpoint, &trust, error)),
        Ok(Ok(_)) => Err(endpoint.unreachable("it let us in without a host key")),
        Err(_) => Err(endpoint.unreachable(format!("no host key within {:?}", settings.login))),
    }
}

/// A socket, or a channel through the jump host.
trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

type Dialled = (Box<dyn Stream>, Option<Arc<Connection>>);

async fn dial(endpoint: &Endpoint, settings: &SshSettings) -> Result<Dialled, AccessError> {
    if let Some(jump) = &endpoint.jump {
        let through = Arc::new(Box::pin(open(jump, settings)).await?);
        let channel = through.direct_tcpip(&endpoint.address, endpoint.port).await;
        let channel =
            channel.map_err(|broken| broken.unreachable(&format!("{} through {}", endpoint.name, jump.name)))?;
        return Ok((Box::new(channel.into_stream()), Some(through)));
    }
    let limit = settings.connect;
    let connecting = TcpStream::connect((endpoint.address.as_str(), endpoint.port));
    let stream = match tokio::time::timeout(limit, connecting).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return Err(endpoint.unreachable(format!("{}: {error}", endpoint.place()))),
        Err(_) => return Err(endpoint.unreachable(format!("{}: no answer within {limit:?}", endpoint.place()))),
    };
    let socket = Socket::new(stream).map_err(|error| endpoint.unreachable(error))?;
    Ok((Box::new(socket), None))
}

fn config(settings: &SshSettings, trust: &Trust) -> client::Config {
    client::Config {
        keepalive_interval: Some(settings.keepalive),
        keepalive_max: settings.keepalive_max,
        inactivity_timeout: Some(settings.inactivity),
        nodelay: true,
        preferred: Preferred { key: trust.algorithms().into(), ..Preferred::DEFAULT },
        ..client::Config::default()
    }
}

fn why(endpoint: &Endpoint, trust: &Trust, error: LinkError) -> AccessError {
    match error {
        LinkError::HostKey(why) => endpoint.refused(why),
        LinkError::Ssh(russh::Error::NoCommonAlgo { kind: russh::AlgorithmKind::Key, theirs, .. }) => {
            endpoint.refused(trust.other_type(&theirs))
        }
        LinkError::Ssh(error @ russh::Error::NoCommonAlgo { .. }) => endpoint.refused(error.to_string()),
        other => endpoint.unreachable(format!("{}: {other}", endpoint.place())),
    }
}
