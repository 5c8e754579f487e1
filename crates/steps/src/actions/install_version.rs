//! InstallVersion: the binary on the host's disk is of this version.

use async_trait::async_trait;
use rke2flow_engine::action::{ActionInfo, Applied, Context, Failure, Place, Probe};
use rke2flow_engine::value::Param;
use serde::{Deserialize, Serialize};

use crate::actions::{Goal, World, info, known};
use crate::command::Change;

/// Goal: the binary on the host's disk is of this version.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InstallVersion {
    /// `v1.33.4+rke2r1`
    pub version: Param<String>,
    /// Keeps the replaced binary on the host.
    #[serde(default)]
    pub keep_replaced: Param<bool>,
}

#[async_trait]
impl Goal for InstallVersion {
    const INFO: ActionInfo =
        info("InstallVersion", "the binary on the host's disk is of this version", Place::Host, 10);

    async fn probe(&self, world: &World, context: &Context) -> Result<Probe, Failure> {
        let version = known(&self.version)?;
        match world.survey(context).await?.installed {
            installed if installed == *version => Ok(Probe::satisfied()),
            installed if installed.is_empty() => Ok(Probe::pending("no release is installed")),
            installed => Ok(Probe::pending(format!("{installed} is installed"))),
        }
    }

    async fn apply(&self, world: &World, context: &Context) -> Result<Applied, Failure> {
        let (version, keep_replaced) = (known(&self.version)?.clone(), *known(&self.keep_replaced)?);
        world.order(context, Change::InstallVersion { version, keep_replaced }).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actions::testing::{NEW, Scene};

    #[tokio::test(start_paused = true)]
    async fn installing_is_idempotent_and_restarts_nothing() {
        let scene = Scene::new();
        let goal = InstallVersion { version: Param::Known(NEW.to_owned()), keep_replaced: Param::Known(true) };
        let before = scene.change(|state| state.hosts["agent-0"].survey.unit_active_since);
        scene.on("agent-0", goal).idempotent().await;
        assert_eq!(scene.change(|state| state.hosts["agent-0"].survey.unit_active_since), before);
    }
}
