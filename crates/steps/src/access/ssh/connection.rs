//! One SSH connection: opened, host key checked, logged in, guarded against a peer that went silent.

use std::process::Stdio;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use russh::client::{self, Handle, Msg};
use russh::keys::PublicKey;
use russh::keys::PublicKeyOrCertificate;
use russh::{Channel, ChannelOpenFailure, Preferred};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

use super::auth::{CONNECTIONS, Login, Progress};
use super::endpoint::{Endpoint, Via};
use super::exec::Broken;
use super::host_key::Trust;
use super::keys::KeyRing;
use super::settings::SshSettings;
use super::socket::Socket;
use crate::ports::AccessError;

/// An open, logged-in connection.
pub(super) struct Connection {
    handle: Handle<Verifier>,
    /// `ssh-ed25519 SHA256:…`
    pub host_key: String,
    pub user: String,
    /// Room for sessions; shrinks when sshd refuses one.
    pub sessions: Arc<Semaphore>,
    /// Sessions that it carries and has room for, together.
    pub capacity: AtomicUsize,
    /// Whether a session was ever opened on it.
    pub served: AtomicBool,
    settings: SshSettings,
    _under: Under,
}

/// What carries a connection: nothing but a socket, the connection to a jump host, or a program.
enum Under {
    Socket,
    Jump { _connection: Box<Connection> },
    Program { _child: tokio::process::Child },
}

impl Connection {
    /// The same, before its first session, with room for so many at once.
    pub(super) fn with_room_for(self, sessions: usize) -> Self {
        Self { sessions: Arc::new(Semaphore::new(sessions)), capacity: AtomicUsize::new(sessions), ..self }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.handle.is_closed()
    }

    pub(super) async fn session(&self) -> Result<Channel<Msg>, Broken> {
        let opening = self.handle.channel_open_session();
        let channel = self.guarded("opening a session", self.settings.channel, opening).await?;
        self.served.store(true, Ordering::Relaxed);
        Ok(channel)
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
                russh::Error::ChannelOpenFailure(ChannelOpenFailure::AdministrativelyProhibited) => {
                    Broken::Refused(format!("{what} is forbidden there"))
                }
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
    accepted: Arc<OnceLock<String>>,
    /// What the other side said when it closed.
    farewell: Arc<OnceLock<String>>,
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

    async fn disconnected(&mut self, reason: client::DisconnectReason<LinkError>) -> Result<(), LinkError> {
        if let client::DisconnectReason::ReceivedDisconnect(words) = reason {
            self.farewell.get_or_init(|| words.message);
        }
        Ok(())
    }
}

/// Connects, checks the host key and logs in, on as many connections as the keys take.
pub(super) async fn open(
    endpoint: &Endpoint,
    settings: &SshSettings,
    ring: &KeyRing,
) -> Result<Connection, AccessError> {
    let trust = Arc::new(Trust::of(endpoint).map_err(|why| endpoint.refused(why))?);
    let login = Login::prepare(&endpoint.keys, settings.agent_answer).await;
    let mut login = login.map_err(|why| endpoint.refused(why))?;
    for _ in 0..CONNECTIONS {
        let (stream, under) = dial(endpoint, settings, ring).await?;
        let (accepted, farewell) = (Arc::new(OnceLock::new()), Arc::new(OnceLock::new()));
        let purpose = Purpose::LogIn(trust.clone());
        let verifier = Verifier { purpose, accepted: accepted.clone(), farewell: farewell.clone() };
        let config = Arc::new(config(settings, &trust));
        let logging_in = async {
            let connecting = client::connect_stream(config, stream, verifier).await;
            let mut handle = connecting.map_err(|error| why(endpoint, &trust, error))?;
            let progress = login.go_on(&mut handle, &endpoint.user, &farewell).await;
            Ok((handle, progress))
        };
        let limit = settings.login;
        let late = |_| {
            let place = endpoint.place();
            endpoint.unreachable(format!("{place} accepts, but does not log in within {limit:?}"))
        };
        let (handle, progress) = tokio::time::timeout(limit, Box::pin(logging_in)).await.map_err(late)??;
        match progress {
            Progress::In => return Ok(logged_in(endpoint, settings, handle, &accepted, under)),
            Progress::Another => {}
            Progress::Wanted(file) => {
                login.unlock(file, ring).await.map_err(|why| endpoint.refused(why))?;
            }
            Progress::Refused(why) => return Err(endpoint.refused(why)),
            Progress::Broke(why) if handle.is_closed() => {
                return Err(endpoint.unreachable(format!("lost the connection: {why}")));
            }
            Progress::Broke(why) => return Err(endpoint.refused(why)),
        }
    }
    Err(endpoint.refused(login.too_many(&endpoint.user)))
}

fn logged_in(
    endpoint: &Endpoint,
    settings: &SshSettings,
    handle: Handle<Verifier>,
    accepted: &OnceLock<String>,
    under: Under,
) -> Connection {
    Connection {
        handle,
        host_key: accepted.get().cloned().unwrap_or_default(),
        user: endpoint.user.clone(),
        sessions: Arc::new(Semaphore::new(settings.sessions)),
        capacity: AtomicUsize::new(settings.sessions),
        served: AtomicBool::new(false),
        settings: settings.clone(),
        _under: under,
    }
}

/// The nearest host on the way whose key nobody has accepted yet: until then nothing beyond it can be seen.
pub(super) fn unknown_jump(endpoint: &Endpoint) -> Option<&Endpoint> {
    let Via::Jump(jump) = &endpoint.via else { return None };
    unknown_jump(jump).or_else(|| Trust::of(jump).is_ok_and(|trust| trust.knows_nothing()).then_some(&**jump))
}

/// The key that the host presents, without logging in.
pub(super) async fn scan(
    endpoint: &Endpoint,
    settings: &SshSettings,
    ring: &KeyRing,
) -> Result<PublicKey, AccessError> {
    let (stream, _under) = dial(endpoint, settings, ring).await?;
    let trust = Trust::default();
    let verifier = Verifier { purpose: Purpose::Scan, accepted: Arc::default(), farewell: Arc::default() };
    let connecting = client::connect_stream(Arc::new(config(settings, &trust)), stream, verifier);
    match tokio::time::timeout(settings.login, Box::pin(connecting)).await {
        Ok(Err(LinkError::Scanned(key))) => Ok(*key),
        Ok(Err(error)) => Err(why(endpoint, &trust, error)),
        Ok(Ok(_)) => Err(endpoint.unreachable("it let us in without a host key")),
        Err(_) => Err(endpoint.unreachable(format!("no host key within {:?}", settings.login))),
    }
}

/// A socket, a channel through the jump host, or a program's standard input and output.
trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

type Dialled = (Box<dyn Stream>, Under);

async fn dial(endpoint: &Endpoint, settings: &SshSettings, ring: &KeyRing) -> Result<Dialled, AccessError> {
    match &endpoint.via {
        Via::Straight => {}
        Via::Jump(jump) => {
            let connection = Box::new(Box::pin(open(jump, settings, ring)).await?);
            let channel = connection.direct_tcpip(&endpoint.address, endpoint.port).await;
            let channel = channel.map_err(|broken| broken.through(jump, &endpoint.place(), FORWARDING_OF_A_JUMP))?;
            return Ok((Box::new(channel.into_stream()), Under::Jump { _connection: connection }));
        }
        Via::Command(command) => return start(endpoint, command),
    }
    let limit = settings.connect;
    let connecting = TcpStream::connect((endpoint.address.as_str(), endpoint.port));
    let stream = match tokio::time::timeout(limit, connecting).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return Err(endpoint.unreachable(format!("{}: {error}", endpoint.place()))),
        Err(_) => return Err(endpoint.unreachable(format!("{}: no answer within {limit:?}", endpoint.place()))),
    };
    let socket = Socket::new(stream).map_err(|error| endpoint.unreachable(error))?;
    Ok((Box::new(socket), Under::Socket))
}

/// What a jump host's sshd needs, and what else there is.
const FORWARDING_OF_A_JUMP: &str =
    "another way to the host is `jump` of the cluster file, or a ProxyCommand in ~/.ssh/config";

/// Starts a ProxyCommand, by the shell as `ssh` does.
fn start(endpoint: &Endpoint, command: &str) -> Result<Dialled, AccessError> {
    let mut program = tokio::process::Command::new("sh");
    program.args(["-c", &format!("exec {command}")]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let failed = |why: String| endpoint.unreachable(format!("ProxyCommand `{command}`: {why}"));
    let mut child = program.kill_on_drop(true).spawn().map_err(|error| failed(error.to_string()))?;
    let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
        return Err(failed("it has no input or no output".to_owned()));
    };
    Ok((Box::new(tokio::io::join(output, input)), Under::Program { _child: child }))
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
