//! One SSH server per host: its own host key, one client key, sessions that run scripts, and tunnels to its loopback.

mod command;
mod session;

use std::collections::HashMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use rke2flow_engine::id::HostName;
use russh::keys::{PrivateKey, PublicKey};
use russh::server::{Auth, Config, Handler, Msg, PublicKeyOffer, Session, VerifiedPublicKey};
use russh::{Channel, ChannelId, ChannelOpenFailure, MethodKind, MethodSet};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use self::session::Exec;
pub use self::session::{OUTPUT_BYTES, SCRIPT_BYTES};
use super::backend::Backend;
use super::forward::Forward;
use super::net::{Tasks, accept, until_down};

/// sshd's MaxSessions.
pub const SESSIONS: usize = 10;

/// Tunnels that one connection may hold open.
const TUNNELS: usize = 32;

/// Bytes between russh and the socket.
const PIPE_BYTES: usize = 64 << 10;

/// How long a client may take to close a connection that has ended.
const FAREWELL: Duration = Duration::from_secs(2);

/// A connection on which nothing moves for so long is closed.
const IDLE: Duration = Duration::from_secs(600);

/// One host's SSH server.
#[derive(Clone)]
pub struct SshServer {
    /// The host.
    pub host: HostName,
    /// What runs scripts.
    pub backend: Arc<dyn Backend>,
    /// The only key that may log in.
    pub client: PublicKey,
    /// Where tunnels end.
    pub forward: Forward,
    /// What runs.
    pub tasks: Tasks,
}

impl SshServer {
    /// Accepts connections while the host is on.
    pub fn listen(self, listener: TcpListener, host_key: PrivateKey) {
        let config = Arc::new(config(host_key));
        let tasks = self.tasks.clone();
        accept(&tasks, listener, move |stream| self.clone().connection(stream, config.clone()));
    }

    async fn connection(self, stream: TcpStream, config: Arc<Config>) {
        let (backend, host) = (self.backend.clone(), self.host.clone());
        tokio::select! {
            () = self.talk(stream, config) => {}
            () = until_down(backend.as_ref(), &host, None) => {}
        }
    }

    async fn talk(self, mut stream: TcpStream, config: Arc<Config>) {
        // russh keeps its end in a task of its own, which nobody can cancel: cutting the pipe between it and the socket
        // is what ends it, at once and without a farewell, as a power cut does.
        let (mut near, far) = tokio::io::duplex(PIPE_BYTES);
        let host = self.host.clone();
        let mut copied = pin!(tokio::io::copy_bidirectional_with_sizes(&mut stream, &mut near, PIPE_BYTES, PIPE_BYTES));
        let session = async {
            match russh::server::run_stream(config, far, Connection::new(self)).await {
                Ok(running) => running.await,
                Err(error) => Err(error),
            }
        };
        tokio::select! {
            _ = copied.as_mut() => {}
            ended = session => {
                if let Err(error) = ended {
                    tracing::debug!(%host, %error, "an SSH connection broke");
                }
                // The last bytes are on their way; a client that does not close its end is not waited for.
                let _ = tokio::time::timeout(FAREWELL, copied).await;
            }
        }
    }
}

fn config(host_key: PrivateKey) -> Config {
    let methods: &[MethodKind] = &[MethodKind::PublicKey];
    Config {
        methods: MethodSet::from(methods),
        auth_rejection_time: Duration::from_millis(200),
        auth_rejection_time_initial: Some(Duration::ZERO),
        keys: vec![host_key],
        max_auth_attempts: 6,
        inactivity_timeout: Some(IDLE),
        nodelay: true,
        ..Config::default()
    }
}

/// One client's connection.
struct Connection {
    server: SshServer,
    user: String,
    sessions: Arc<Semaphore>,
    tunnels: Arc<Semaphore>,
    open: HashMap<ChannelId, session::Opened>,
}

impl Connection {
    fn new(server: SshServer) -> Self {
        let (sessions, tunnels) = (Arc::new(Semaphore::new(SESSIONS)), Arc::new(Semaphore::new(TUNNELS)));
        Self { server, user: String::new(), sessions, tunnels, open: HashMap::new() }
    }
}

impl Handler for Connection {
    type Error = russh::Error;

    async fn auth_publickey_offered(&mut self, _user: &str, offer: PublicKeyOffer<'_>) -> Result<Auth, russh::Error> {
        Ok(self.judge(offer.public_key))
    }

    async fn auth_publickey(&mut self, user: &str, key: VerifiedPublicKey<'_>) -> Result<Auth, russh::Error> {
        self.user = user.to_owned();
        Ok(self.judge(key.public_key))
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: russh::server::ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), russh::Error> {
        match self.sessions.clone().try_acquire_owned() {
            Ok(place) => {
                self.open.insert(channel.id(), session::Opened { channel, place });
                reply.accept().await;
            }
            // The 11th, as sshd: "open failed: connect failed".
            Err(_) => reply.reject(ChannelOpenFailure::ConnectFailed).await,
        }
        Ok(())
    }

    async fn exec_request(&mut self, id: ChannelId, data: &[u8], session: &mut Session) -> Result<(), russh::Error> {
        let Some(opened) = self.open.remove(&id) else {
            return session.channel_failure(id);
        };
        session.channel_success(id)?;
        let exec = Exec {
            host: self.server.host.clone(),
            backend: self.server.backend.clone(),
            user: self.user.clone(),
            command: String::from_utf8_lossy(data).into_owned(),
        };
        self.server.tasks.spawn(exec.run(opened));
        Ok(())
    }

    async fn shell_request(&mut self, id: ChannelId, session: &mut Session) -> Result<(), russh::Error> {
        session.channel_failure(id)
    }

    async fn subsystem_request(
        &mut self,
        id: ChannelId,
        _name: &str,
        session: &mut Session,
    ) -> Result<(), russh::Error> {
        session.channel_failure(id)
    }

    async fn channel_close(&mut self, id: ChannelId, _session: &mut Session) -> Result<(), russh::Error> {
        self.open.remove(&id);
        Ok(())
    }

    async fn channel_open_direct_tcpip(
        &mut self,
        channel: Channel<Msg>,
        address: &str,
        port: u32,
        _originator_address: &str,
        _originator_port: u32,
        reply: russh::server::ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), russh::Error> {
        let Ok(place) = self.tunnels.clone().try_acquire_owned() else {
            reply.reject(ChannelOpenFailure::ResourceShortage).await;
            return Ok(());
        };
        let Some(tunnel) = self.server.forward.open(address, port) else {
            reply.reject(ChannelOpenFailure::ConnectFailed).await;
            return Ok(());
        };
        reply.accept().await;
        self.server.tasks.spawn(async move {
            tunnel.serve(channel.into_stream()).await;
            drop(place);
        });
        Ok(())
    }
}

impl Connection {
    fn judge(&self, key: &PublicKey) -> Auth {
        if key.key_data() == self.server.client.key_data() { Auth::Accept } else { Auth::reject() }
    }
}
