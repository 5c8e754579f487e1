//! One host of the simulated cluster.

use rke2flow_steps::command::{ClaimCommand, HostCommand};
use serde_json::Value;

/// A command in a few words, as the log has it: `look Survey`, `claim Take`, `change KillNode`.
pub fn describe(command: &HostCommand) -> String {
    match command {
        HostCommand::Look(look) => format!("look {}", variant(serde_json::to_value(look))),
        HostCommand::Claim(ClaimCommand::Take(_)) => "claim Take".to_owned(),
        HostCommand::Claim(ClaimCommand::Release(_)) => "claim Release".to_owned(),
        HostCommand::Change(order) => format!("change {}", variant(serde_json::to_value(&order.change))),
    }
}

/// Whether a command can change its host.
pub fn can_change(command: &HostCommand) -> bool {
    !matches!(command, HostCommand::Look(_))
}

/// The name of an enum's variant: its only key, or itself.
fn variant(value: serde_json::Result<Value>) -> String {
    match value {
        Ok(Value::String(name)) => name,
        Ok(Value::Object(map)) => map.keys().next().cloned().unwrap_or_default(),
        _ => String::new(),
    }
}
