//! How a typed command becomes one POSIX `sh` script, and how what the script printed is read.
//!
//! The shell text is in `sh/`, one file per question and per change; Rust adds the values, quoted.

mod answer;
mod change;
mod claim;
mod envelope;
mod look;
mod sheet;
#[cfg(test)]
mod tests;

use rke2flow_engine::cluster::Role;

use crate::command::{Envelope, HostCommand};
use crate::paths::HostPaths;

pub use answer::{AnswerError, answer, decode_text, encode_text};
pub use envelope::{EnvelopeError, handed_text, parse_envelope};

/// The script that does what the envelope says, for `sh -s` as root. Its first line carries the envelope.
///
/// It prints one line of JSON, the answer, and ends with 0; anything else is a failure whose cause is on its standard
/// error. A script that arrived only in part does nothing. It needs coreutils, awk, grep, sed, util-linux and systemd;
/// curl for what listens on the loopback.
pub fn script(envelope: &Envelope) -> String {
    match &envelope.command {
        HostCommand::Look(look) => look::script(envelope, look),
        HostCommand::Claim(command) => claim::script(envelope, command),
        HostCommand::Change(order) => change::script(envelope, order),
    }
}

/// What the files of a release are called, for `sh/release.sh`, which knows the host's architecture.
fn release_files(sheet: &mut sheet::Sheet, paths: &HostPaths) {
    let distribution = paths.distribution();
    for arch in ["amd64", "arm64"] {
        sheet
            .set(&format!("artifact_{arch}"), &distribution.artifact(arch))
            .set(&format!("images_{arch}"), &distribution.images(arch));
    }
}

fn role_word(role: Role) -> &'static str {
    match role {
        Role::Server => "server",
        Role::Agent => "agent",
    }
}
