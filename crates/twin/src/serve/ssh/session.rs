//! One session: reads a script to the end of standard input, has the host run it, and sends back what it printed.

use std::sync::Arc;

use rke2flow_engine::id::HostName;
use rke2flow_steps::ports::Output;
use russh::server::Msg;
use russh::{Channel, ChannelMsg};
use tokio::sync::OwnedSemaphorePermit;

use super::command::{greeting, script_user};
use crate::serve::backend::Backend;

/// The longest script that a host takes.
pub const SCRIPT_BYTES: usize = 1 << 20;

/// The most that a session sends of each of its streams.
pub const OUTPUT_BYTES: usize = 4 << 20;

/// Exit status of a command that is not there, as a shell gives it.
const NOT_FOUND: i32 = 127;

/// A session channel that has not yet been told what to execute.
pub struct Opened {
    /// The channel.
    pub channel: Channel<Msg>,
    /// Its place among the connection's sessions.
    pub place: OwnedSemaphorePermit,
}

/// A command to execute on a host.
pub struct Exec {
    /// The host.
    pub host: HostName,
    /// What runs scripts.
    pub backend: Arc<dyn Backend>,
    /// Who logged in.
    pub user: String,
    /// The command line as sent.
    pub command: String,
}

impl Exec {
    /// Executes it and closes the channel.
    pub async fn run(self, opened: Opened) {
        let Opened { mut channel, place } = opened;
        self.backend.saw_arguments(&self.host, &self.command);
        let (printed, command) = greeting(&self.command);
        let mut output = match script_user(command, &self.user) {
            Some(user) => match read_script(&mut channel).await {
                // A connection outlives its host by a moment, and must not act in it.
                Ok(_) if !self.backend.reachable(&self.host) => return,
                Ok(script) => self.backend.shell(&self.host, user, &script).await,
                Err(Unread::TooLong) => failed(1, format!("a script of more than {SCRIPT_BYTES} bytes is not run")),
                Err(Unread::NotText) => failed(1, "a script that is not UTF-8 is not run".to_owned()),
                // Half a script: our scripts are written to do nothing unless their last line has arrived.
                Err(Unread::CutOff) => return,
            },
            None => failed(NOT_FOUND, format!("{}: not found (this host runs `sh -s` only)", self.command)),
        };
        output.stdout.splice(..0, printed.into_bytes());
        if let Err(error) = send(&channel, output).await {
            tracing::debug!(host = %self.host, %error, "the client of a command has gone");
        }
        drop(place);
    }
}

enum Unread {
    TooLong,
    NotText,
    CutOff,
}

async fn read_script(channel: &mut Channel<Msg>) -> Result<String, Unread> {
    let mut script = Vec::new();
    loop {
        match channel.wait().await {
            Some(ChannelMsg::Data { data }) => {
                if script.len() + data.len() > SCRIPT_BYTES {
                    return Err(Unread::TooLong);
                }
                script.extend_from_slice(&data);
            }
            Some(ChannelMsg::Eof) => return String::from_utf8(script).map_err(|_| Unread::NotText),
            Some(ChannelMsg::Close) | None => return Err(Unread::CutOff),
            Some(_) => {}
        }
    }
}

async fn send(channel: &Channel<Msg>, output: Output) -> Result<(), russh::Error> {
    let bounded = |bytes: &[u8]| bytes::Bytes::copy_from_slice(&bytes[..bytes.len().min(OUTPUT_BYTES)]);
    channel.data_bytes(bounded(&output.stdout)).await?;
    channel.extended_data_bytes(STDERR, bounded(&output.stderr)).await?;
    // SSH carries what wait(2) gives: the low byte.
    channel.exit_status(output.exit as u32 & 0xff).await?;
    channel.eof().await?;
    channel.close().await
}

/// SSH_EXTENDED_DATA_STDERR (RFC 4254 §5.2).
const STDERR: u32 = 1;

fn failed(exit: i32, message: String) -> Output {
    Output { exit, stdout: Vec::new(), stderr: format!("sh: {message}\n").into_bytes() }
}
