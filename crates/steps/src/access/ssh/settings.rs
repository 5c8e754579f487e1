//! How patient SSH is, how much it keeps, and what of the person's own it uses.

use std::path::PathBuf;
use std::time::Duration;

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
    /// Logins at once, over all hosts.
    pub logins_at_once: usize,
    /// Standard output that is kept, from its beginning, in bytes.
    pub stdout_bytes: usize,
    /// Standard error that is kept, from its end, in bytes.
    pub stderr_bytes: usize,
    /// The SSH agent's socket, asked when no key is configured.
    pub agent: Option<PathBuf>,
    /// known_hosts files that are read after the cluster's own.
    pub known_hosts: Vec<PathBuf>,
}

impl Default for SshSettings {
    fn default() -> Self {
        let user = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".ssh/known_hosts"));
        let system = PathBuf::from("/etc/ssh/ssh_known_hosts");
        Self {
            agent: std::env::var_os("SSH_AUTH_SOCK").filter(|socket| !socket.is_empty()).map(PathBuf::from),
            known_hosts: user.into_iter().chain(std::iter::once(system)).collect(),
            connect: Duration::from_secs(10),
            login: Duration::from_secs(20),
            channel: Duration::from_secs(10),
            command: Duration::from_secs(60),
            keepalive: Duration::from_secs(5),
            keepalive_max: 3,
            inactivity: Duration::from_secs(30),
            closed_poll: Duration::from_millis(200),
            sessions: 8,
            logins_at_once: 64,
            stdout_bytes: 256 * 1024,
            stderr_bytes: 4 * 1024,
        }
    }
}
