//! What arrives over a login: the envelope is read, logged and interpreted.

use rke2flow_engine::id::HostName;
use rke2flow_steps::answer::{Survey, Tail};
use rke2flow_steps::command::{Change, ClaimCommand, HostCommand, Look};
use rke2flow_steps::paths::HostPaths;
use rke2flow_steps::ports::Output;
use rke2flow_steps::render::{encode_text, handed_text, parse_envelope};
use serde::Serialize;
use serde_json::Value;

use crate::judge::ViolationKind;
use crate::world::World;
use crate::world::log::EntryKind;

/// What a shell answers to a script that it cannot run.
const NOT_FOUND: i32 = 127;

impl World {
    /// Interprets a script.
    pub fn shell(&mut self, name: &HostName, login_user: &str, script: &str) -> Output {
        let refuse = |exit: i32, text: String| Output { exit, stdout: Vec::new(), stderr: text.into_bytes() };
        if !self.reachable(name) {
            return refuse(255, format!("{name} has no power"));
        }
        let envelope = match parse_envelope(script) {
            Ok(envelope) => envelope,
            Err(error) => {
                let what = format!("script by {login_user} that is not ours: {} bytes", script.len());
                self.recorder.record(Some(name), EntryKind::Write, what, None);
                return refuse(NOT_FOUND, error.to_string());
            }
        };
        self.log_command(name, &envelope.command);
        self.look_for_secrets(name, script.lines().next().unwrap_or_default(), "an envelope");
        // Whoever may log in may look; `rke2flow init` asks before it knows how the cluster is called.
        if envelope.cluster != self.spec.name && !matches!(envelope.command, HostCommand::Look(_)) {
            return refuse(1, format!("this host is of the cluster `{}`", self.spec.name));
        }
        if envelope.paths != self.paths {
            return match &envelope.command {
                HostCommand::Look(look) => self.look_elsewhere(name, look, &envelope.paths),
                _ => refuse(1, "these paths are not this host's".to_owned()),
            };
        }
        if envelope.role != self.host(name).role {
            return refuse(1, format!("this host is no {:?}", envelope.role));
        }
        match &envelope.command {
            HostCommand::Look(look) => self.look(name, look),
            HostCommand::Claim(command) => json(&self.claim(name, command)),
            HostCommand::Change(order) => {
                let handed = handed_text(script);
                if !handed.is_empty() {
                    self.host_mut(name).handed.insert(order.unit.to_string(), handed);
                }
                json(&self.order(name, order))
            }
        }
    }

    /// Who takes a node for one of another distribution finds nothing of it there.
    fn look_elsewhere(&self, name: &HostName, look: &Look, paths: &HostPaths) -> Output {
        let own = self.survey(name);
        match look {
            Look::Survey => json(&Survey {
                boot: own.boot,
                epoch: own.epoch,
                arch: own.arch,
                disk_free: own.disk_free,
                claim: own.claim,
                ..Survey::default()
            }),
            Look::Kubeconfig => {
                let text = encode_text(format!("{}.yaml does not exist", paths.name).as_bytes());
                json(&Tail { exit: 1, text })
            }
            _ => Output { exit: 1, stdout: Vec::new(), stderr: b"these paths are not this host's".to_vec() },
        }
    }

    /// Looks for secrets in what every user of the host could see.
    pub fn saw_arguments(&mut self, name: &HostName, arguments: &str) {
        self.look_for_secrets(name, arguments, "a process's arguments");
    }

    /// The token or a key has no business in text that others can read.
    pub(crate) fn look_for_secrets(&mut self, name: &HostName, text: &str, place: &str) {
        let secrets = [("server token", &self.spec.token), ("S3 secret key", &self.spec.secret_key)];
        let shown = secrets.iter().find(|(_, secret)| !secret.is_empty() && text.contains(secret.as_str()));
        if let Some((what, _)) = shown {
            let detail = format!("the {what} stood in {place}");
            self.violate(ViolationKind::SecretExposed, Some(name), &detail);
        }
    }

    fn log_command(&mut self, name: &HostName, command: &HostCommand) {
        let unit = match command {
            HostCommand::Change(order) => Some(order.unit.to_string()),
            _ => None,
        };
        let kind = if can_change(command) { EntryKind::Write } else { EntryKind::Read };
        self.recorder.record(Some(name), kind, describe(command), unit);
    }
}

/// An answer as a script prints it.
pub(crate) fn json<T: Serialize>(answer: &T) -> Output {
    let mut stdout = serde_json::to_vec(answer).expect("answers are plain data");
    stdout.push(b'\n');
    Output { exit: 0, stdout, stderr: Vec::new() }
}

/// A command in a few words, as the log has it: `look Survey`, `claim Take`, `change KillNode`.
pub fn describe(command: &HostCommand) -> String {
    match command {
        HostCommand::Look(look) => format!("look {}", describe_look(look)),
        HostCommand::Claim(ClaimCommand::Take(_)) => "claim Take".to_owned(),
        HostCommand::Claim(ClaimCommand::Release(_)) => "claim Release".to_owned(),
        HostCommand::Change(order) => format!("change {}", describe_change(&order.change)),
    }
}

/// The name of a change, as in the type.
pub fn describe_change(change: &Change) -> String {
    variant(serde_json::to_value(change))
}

/// Whether a command can change its host.
pub fn can_change(command: &HostCommand) -> bool {
    !matches!(command, HostCommand::Look(_))
}

fn describe_look(look: &Look) -> String {
    variant(serde_json::to_value(look))
}

/// The name of an enum's variant: its only key, or itself.
fn variant(value: serde_json::Result<Value>) -> String {
    match value {
        Ok(Value::String(name)) => name,
        Ok(Value::Object(map)) => map.keys().next().cloned().unwrap_or_default(),
        _ => String::new(),
    }
}
