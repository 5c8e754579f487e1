//! How patient SSH is, how much it keeps, and what of the person's own it uses.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rke2flow_engine::cluster::{NO_FILE, Ssh};

use super::openssh_config::ClientConfig;

/// The person's own keys, in the order in which they are tried; the first three of `ssh`'s that we can use.
const IDENTITIES: [&str; 3] = [".ssh/id_ed25519", ".ssh/id_ecdsa", ".ssh/id_rsa"];

/// Limits of SSH, in wall time, and the person's own files. Tests make the limits small.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SshSettings {
    /// TCP connection.
    pub connect: Duration,
    /// Key exchange, host key and login together.
    pub login: Duration,
    /// Opening a channel.
    pub channel: Duration,
    /// One script, from the request to the end of its output.
    pub command: Duration,
    /// A question to the other side after so much silence; a dead peer is noticed after `keepalive × (keepalive_max + 1)`.
    pub keepalive: Duration,
    /// Questions without an answer before the connection is given up.
    pub keepalive_max: usize,
    /// A connection without any byte for so long is given up; bounds a blocked write too.
    pub inactivity: Duration,
    /// How often a wait looks whether its connection is still there: russh's own waits do not notice (see decision 025).
    pub closed_poll: Duration,
    /// Sessions at once on one connection: sshd refuses the 11th (MaxSessions 10).
    pub sessions: usize,
    /// Connections to one host whose sshd allows fewer sessions than that.
    pub connections: usize,
    /// An answer of the SSH agent; a signature may wait for a person who touches a key.
    pub agent_answer: Duration,
    /// Logins at once, over all hosts.
    pub logins_at_once: usize,
    /// Standard output that is kept, from its beginning, in bytes.
    pub stdout_bytes: usize,
    /// Standard error that is kept, from its end, in bytes.
    pub stderr_bytes: usize,
    /// What `~` stands for.
    pub home: PathBuf,
    /// OpenSSH's client configuration, unless the cluster file names one.
    pub config: ClientConfig,
    /// The SSH agent's socket.
    pub agent: Option<PathBuf>,
    /// Key files that are tried when neither the cluster file nor OpenSSH's configuration names one.
    pub identities: Vec<PathBuf>,
    /// known_hosts files that are read after the cluster's own, unless OpenSSH's configuration names others.
    pub known_hosts: Vec<PathBuf>,
}

impl SshSettings {
    /// Deaf to the person's own configuration and keys: for a twin, which no such file can know.
    pub fn impersonal() -> Self {
        Self { config: ClientConfig::None, identities: Vec::new(), ..Self::default() }
    }

    /// The configuration that counts for a host.
    pub(super) fn config_of(&self, ssh: &Ssh) -> ClientConfig {
        match &ssh.config {
            Some(file) if file == Path::new(NO_FILE) => ClientConfig::None,
            Some(file) => ClientConfig::File(file.clone()),
            None => self.config.clone(),
        }
    }
}

impl Default for SshSettings {
    fn default() -> Self {
        let home = std::env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
        let user = Some(home.join(".ssh/known_hosts")).filter(|_| home.is_absolute());
        let system = PathBuf::from("/etc/ssh/ssh_known_hosts");
        Self {
            agent: std::env::var_os("SSH_AUTH_SOCK").filter(|socket| !socket.is_empty()).map(PathBuf::from),
            known_hosts: user.into_iter().chain(std::iter::once(system)).collect(),
            config: ClientConfig::Person(home.join(".ssh/config")),
            identities: IDENTITIES.iter().map(|name| home.join(name)).collect(),
            home,
            connect: Duration::from_secs(10),
            login: Duration::from_secs(20),
            channel: Duration::from_secs(10),
            command: Duration::from_secs(60),
            keepalive: Duration::from_secs(5),
            keepalive_max: 3,
            inactivity: Duration::from_secs(30),
            closed_poll: Duration::from_millis(200),
            sessions: 8,
            connections: 4,
            agent_answer: Duration::from_secs(10),
            logins_at_once: 64,
            stdout_bytes: 256 * 1024,
            stderr_bytes: 4 * 1024,
        }
    }
}
