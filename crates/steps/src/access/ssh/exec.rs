//! One script on one connection: sent on standard input, its output always drained and kept within limits.

use std::collections::VecDeque;

use russh::ChannelMsg;
use russh::{ChannelReadHalf, ChannelWriteHalf};

use super::connection::Connection;
use super::endpoint::Endpoint;
use super::settings::SshSettings;
use crate::ports::{AccessError, Output};

/// What every script may rely on; nothing else of the login's environment reaches it.
const ENVIRONMENT: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C";
/// What the login shell prints before our script has its turn: ~/.bashrc, a message of the day and the like come first.
pub const BEGINNING: &str = "rke2flow-from-here-on";
/// How much of such noise is passed over, in bytes.
const NOISE_BYTES: usize = 64 * 1024;
/// The channel number of standard error (RFC 4254, 5.2).
const STDERR: u32 = 1;

/// A script that ended, with its exit status known.
pub(super) struct Ended {
    pub output: Output,
}

/// Why a script has no known end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Broken {
    /// Nothing was sent: trying again on a new connection is safe.
    Before(String),
    /// The other side said no to a channel, the connection itself is well.
    Denied(String),
    /// It was sent, and its end is not known.
    During(String),
    /// The other side does not let us run it.
    Refused(String),
}

impl Broken {
    /// Whether the connection is of no more use.
    pub(super) fn lost(&self) -> bool {
        matches!(self, Broken::Before(_) | Broken::During(_))
    }

    /// As an error of running something.
    pub(super) fn during(self, host: &Endpoint) -> AccessError {
        match self {
            Broken::Before(why) | Broken::Denied(why) => host.unreachable(why),
            Broken::During(why) => AccessError::Unknown { whom: host.name.clone(), why },
            Broken::Refused(why) => host.refused(why),
        }
    }

    /// As an error of reaching something through the connection.
    /// `instead` is what a person can do when forwarding is not allowed.
    pub(super) fn through(self, host: &Endpoint, place: &str, instead: &str) -> AccessError {
        let (name, user) = (&host.name, &host.user);
        match self {
            Broken::Refused(why) => host.refused(format!(
                "{why}, to {place}: its sshd has `AllowTcpForwarding no`, `DisableForwarding yes` or a `PermitOpen` \
                 without it: allow it there (`Match User {user}` and `AllowTcpForwarding local` in its sshd_config, then \
                 `systemctl reload ssh`); {instead}"
            )),
            Broken::Before(why) | Broken::Denied(why) | Broken::During(why) => {
                AccessError::Unreachable { whom: format!("{place} of {name}"), why }
            }
        }
    }
}

/// The command line that reads the script from standard input.
pub(super) fn command_line(user: &str) -> String {
    // `exec env -i` at once: bash reads ~/.bashrc even for a command of sshd, and what that sets must not matter.
    let become_root = if user == "root" { "" } else { "sudo -n " };
    format!("echo {BEGINNING}; exec env -i {ENVIRONMENT} {become_root}sh -s")
}

/// Runs a script to its end, or says what is known. The caller has room for a session on the connection.
pub(super) async fn run(
    connection: &Connection,
    script: &str,
    settings: &SshSettings,
    deadline: tokio::time::Instant,
) -> Result<Ended, Broken> {
    let channel = connection.session().await?;
    let (mut reading, writing) = channel.split();
    let mut captured = Captured::new(settings);
    let conversation = async {
        let sending = send(&writing, connection.user.as_str(), script);
        let receiving = captured.receive(&mut reading);
        let (sent, ended) = tokio::join!(sending, receiving);
        (sent, ended)
    };
    tokio::select! {
        (sent, ()) = conversation => {
            if let (Err(error), None) = (&sent, captured.exit) {
                captured.why = format!("sending the script: {error}");
            }
        }
        () = connection.until_closed() => captured.why = "the connection is gone".to_owned(),
        () = tokio::time::sleep_until(deadline) => {
            captured.why = format!("it did not end within {:?}", settings.command);
            // Without this the other side keeps one of its sessions for it.
            drop(tokio::time::timeout(settings.closed_poll, writing.close()).await);
        }
    }
    captured.judge(&connection.user)
}

async fn send(writing: &ChannelWriteHalf<russh::client::Msg>, user: &str, script: &str) -> Result<(), russh::Error> {
    writing.exec(true, command_line(user)).await?;
    writing.data_bytes(script.as_bytes().to_vec()).await?;
    writing.eof().await
}

/// What came back so far.
struct Captured {
    stdout: Vec<u8>,
    stdout_limit: usize,
    stderr: VecDeque<u8>,
    stderr_limit: usize,
    exit: Option<u32>,
    refused: bool,
    complete: bool,
    why: String,
}

impl Captured {
    fn new(settings: &SshSettings) -> Self {
        Self {
            stdout: Vec::new(),
            stdout_limit: settings.stdout_bytes,
            stderr: VecDeque::new(),
            stderr_limit: settings.stderr_bytes,
            exit: None,
            refused: false,
            complete: false,
            why: "the connection ended without an exit status".to_owned(),
        }
    }

    /// Drains the channel to its end: one that nobody drains blocks the whole connection (russh#730).
    async fn receive(&mut self, reading: &mut ChannelReadHalf) {
        while let Some(message) = reading.wait().await {
            match message {
                ChannelMsg::Data { data } => {
                    let room = self.stdout_limit + NOISE_BYTES - self.stdout.len();
                    self.stdout.extend_from_slice(&data[..data.len().min(room)]);
                }
                ChannelMsg::ExtendedData { data, ext: STDERR } => {
                    self.stderr.extend(&data);
                    let excess = self.stderr.len().saturating_sub(self.stderr_limit);
                    self.stderr.drain(..excess);
                }
                ChannelMsg::ExitStatus { exit_status } => self.exit = Some(exit_status),
                ChannelMsg::ExitSignal { signal_name, .. } => self.why = format!("it was killed by {signal_name:?}"),
                ChannelMsg::Failure => {
                    self.refused = true;
                    return;
                }
                ChannelMsg::Eof => self.complete = true,
                ChannelMsg::Close => {
                    self.complete = true;
                    return;
                }
                _ => {}
            }
        }
    }

    fn judge(self, user: &str) -> Result<Ended, Broken> {
        if self.refused {
            return Err(Broken::Refused(
                "it does not let us run commands (ForceCommand, or a restricted shell)".to_owned(),
            ));
        }
        // Without the end of the output an exit status tells only half: what it printed may be cut.
        let (Some(exit), true) = (self.exit, self.complete) else { return Err(Broken::During(self.why)) };
        let stderr: Vec<u8> = self.stderr.into();
        let Some(mut stdout) = after_the_beginning(&self.stdout) else {
            return Err(Broken::Refused(not_our_command(exit, &self.stdout, &stderr)));
        };
        stdout.truncate(self.stdout_limit);
        let output = Output { exit: exit.cast_signed(), stdout, stderr };
        match sudo_refusal(user, &output) {
            Some(why) => Err(Broken::Refused(why)),
            None => Ok(Ended { output }),
        }
    }
}

/// What was printed after [`BEGINNING`]; `None` when it was not printed.
fn after_the_beginning(stdout: &[u8]) -> Option<Vec<u8>> {
    let mark = format!("{BEGINNING}\n");
    let at = stdout.windows(mark.len()).position(|window| window == mark.as_bytes())?;
    Some(stdout[at + mark.len()..].to_vec())
}

/// The login did something else than what was asked: nothing of ours has run.
fn not_our_command(exit: u32, stdout: &[u8], stderr: &[u8]) -> String {
    let said = [stdout, stderr].map(|bytes| String::from_utf8_lossy(bytes).trim().to_owned());
    let said = said.iter().flat_map(|text| text.lines()).next().unwrap_or("nothing");
    format!(
        "it does not run our command (`ForceCommand` in its sshd_config, `command=` in authorized_keys, a login shell \
         such as nologin, or a ~/.bashrc that exits or prints more than {NOISE_BYTES} bytes): exit {exit}, it said: {said}"
    )
}

/// What sudo says when it does not let us, and what to do about it.
fn sudo_refusal(user: &str, output: &Output) -> Option<String> {
    const NOES: [&str; 7] = [
        "must have a tty",
        "a password is required",
        "a terminal is required",
        "interactive authentication is required",
        "may not run sudo",
        "is not in the sudoers file",
        "is not allowed to execute",
    ];
    if user == "root" || output.exit == 0 || !output.stdout.is_empty() {
        return None;
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    let line = stderr.lines().find(|line| NOES.iter().any(|no| line.contains(no)));
    if let Some(line) = line {
        let rule = match line.contains("tty") {
            true => format!("Defaults:{user} !requiretty"),
            false => format!("{user} ALL=(root) NOPASSWD: /bin/sh -s"),
        };
        return Some(format!(
            "{} (put `{rule}` into /etc/sudoers.d/rke2flow there, by `visudo -f /etc/sudoers.d/rke2flow`)",
            line.trim()
        ));
    }
    let missing = output.exit == 127 && stderr.contains("sudo");
    missing.then(|| format!("sudo is not installed there: install it, or log in as root instead of `{user}`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(exit: i32, stderr: &str) -> Output {
        Output { exit, stdout: Vec::new(), stderr: stderr.as_bytes().to_vec() }
    }

    #[test]
    fn another_user_than_root_asks_sudo_which_must_not_ask_back() {
        assert!(command_line("root").ends_with(" LC_ALL=C sh -s"));
        assert!(command_line("debian").contains("; exec env -i PATH=/"));
        assert!(command_line("debian").ends_with(" LC_ALL=C sudo -n sh -s"));
    }

    #[test]
    fn a_sudo_that_wants_a_password_is_a_refusal_with_the_rule_that_is_missing() {
        let why = sudo_refusal("debian", &ended(1, "sudo: a password is required\n")).unwrap();
        assert_eq!(
            why,
            "sudo: a password is required (put `debian ALL=(root) NOPASSWD: /bin/sh -s` into /etc/sudoers.d/rke2flow \
             there, by `visudo -f /etc/sudoers.d/rke2flow`)"
        );
        assert!(sudo_refusal("debian", &ended(1, "debian is not in the sudoers file.")).is_some());
        assert!(sudo_refusal("debian", &ended(127, "env: 'sudo': No such file or directory")).is_some());
    }

    #[test]
    fn a_script_that_fails_by_itself_is_no_refusal_of_sudo() {
        assert_eq!(sudo_refusal("debian", &ended(1, "grep: a file is missing")), None);
        assert_eq!(sudo_refusal("debian", &ended(0, "a password is required")), None);
        assert_eq!(sudo_refusal("root", &ended(1, "sudo: a password is required")), None);
    }

    #[test]
    fn an_exit_status_without_the_end_of_the_output_is_not_an_end() {
        let mut captured = Captured::new(&SshSettings::default());
        captured.exit = Some(0);
        assert!(matches!(captured.judge("root"), Err(Broken::During(_))));
    }
}
