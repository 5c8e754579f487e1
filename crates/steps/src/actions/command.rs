//! Command: the given probe succeeds on the host.

use async_trait::async_trait;
use rke2flow_engine::action::{ActionInfo, Applied, Context, Failure, Place, Probe};
use rke2flow_engine::value::Param;
use serde::{Deserialize, Serialize};

use crate::actions::{Goal, World, host_of, info, known};
use crate::command::Change;

/// Goal: the given probe succeeds on the host.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Command {
    /// POSIX sh that changes nothing; exit 0: the goal holds.
    pub probe: Param<String>,
    /// POSIX sh that moves the host towards the goal; may be cut off and repeated.
    pub apply: Param<String>,
}

#[async_trait]
impl Goal for Command {
    const INFO: ActionInfo = info("Command", "the given probe succeeds on the host", Place::Host, 10);

    async fn probe(&self, world: &World, context: &Context) -> Result<Probe, Failure> {
        let printed = world.hosts().script(host_of(context)?, known(&self.probe)?).await?;
        if printed.exit == 0 {
            return Ok(Probe::satisfied());
        }
        Ok(Probe::pending(format!("its probe ends with exit {}: {}", printed.exit, last_line(&printed.text))))
    }

    async fn apply(&self, world: &World, context: &Context) -> Result<Applied, Failure> {
        world.order(context, Change::Script { script: known(&self.apply)?.clone() }).await
    }
}

fn last_line(text: &str) -> &str {
    text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it prints nothing")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actions::testing::Scene;

    #[tokio::test(start_paused = true)]
    async fn a_command_is_done_when_its_own_probe_says_so() {
        let command =
            Command { probe: Param::Known("test -e touch".to_owned()), apply: Param::Known("touch".to_owned()) };
        Scene::new().on("agent-0", command).idempotent().await;
    }
}
