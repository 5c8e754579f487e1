//! InstallVersion: the binary on the host's disk is of this version.

use async_trait::async_trait;
use rke2flow_engine::action::{ActionInfo, Applied, Context, Failure, Place, Probe};
use rke2flow_engine::value::Param;
use serde::{Deserialize, Serialize};

use crate::actions::hop::Hop;
use crate::actions::{Goal, World, host_of, info, known};
use crate::command::Change;

/// Goal: the binary on the host's disk is of this version.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InstallVersion {
    /// `v1.33.4+rke2r1`
    pub version: Param<String>,
    /// Releases of later rounds of the same run: what runs one of them has this one behind it.
    #[serde(default)]
    pub later: Param<Vec<String>>,
    /// Keeps the replaced binary on the host.
    #[serde(default)]
    pub keep_replaced: Param<bool>,
}

#[async_trait]
impl Goal for InstallVersion {
    const INFO: ActionInfo =
        info("InstallVersion", "the binary on the host's disk is of this version", Place::Host, 10);

    async fn probe(&self, world: &World, context: &Context) -> Result<Probe, Failure> {
        let hop = Hop::of(&self.version, &self.later)?;
        match world.survey(context).await?.installed {
            installed if installed == hop.version => Ok(Probe::satisfied()),
            installed if hop.is_behind(&installed) => further(world, context, &hop, &installed).await,
            installed if installed.is_empty() => Ok(Probe::pending("no release is installed")),
            installed => Ok(Probe::pending(format!("{installed} is installed"))),
        }
    }

    async fn apply(&self, world: &World, context: &Context) -> Result<Applied, Failure> {
        let (version, keep_replaced) = (known(&self.version)?.clone(), *known(&self.keep_replaced)?);
        world.order(context, Change::InstallVersion { version, keep_replaced }).await
    }
}

/// The release of a later hop is installed: right when the node has come as far as this hop, because nothing goes back.
/// A node that has not would leave this hop out.
async fn further(world: &World, context: &Context, hop: &Hop<'_>, installed: &str) -> Result<Probe, Failure> {
    let (node, _) = world.node(host_of(context)?).await?;
    Ok(match node {
        Some(node) if hop.is_reached_by(node.version()) => Probe::satisfied(),
        Some(node) => Probe::pending(format!("{installed} is installed, but the node runs {}", node.version())),
        None => Probe::pending(format!("{installed} is installed, and the API has no such node")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actions::testing::{NEW, OLD, Scene};

    #[tokio::test(start_paused = true)]
    async fn installing_is_idempotent_and_restarts_nothing() {
        let scene = Scene::new();
        let goal = InstallVersion {
            version: Param::Known(NEW.to_owned()),
            keep_replaced: Param::Known(true),
            later: Param::default(),
        };
        let before = scene.change(|state| state.hosts["agent-0"].survey.unit_active_since);
        scene.on("agent-0", goal).idempotent().await;
        assert_eq!(scene.change(|state| state.hosts["agent-0"].survey.unit_active_since), before);
    }

    #[tokio::test(start_paused = true)]
    async fn a_hop_never_goes_back_behind_a_later_one_and_is_never_left_out() {
        let scene = Scene::new();
        scene.survey("agent-0", |survey| survey.installed = "v1.35.1+rke2r1".to_owned());
        let goal = InstallVersion {
            version: Param::Known(NEW.to_owned()),
            later: Param::Known(vec!["v1.35.1+rke2r1".to_owned()]),
            keep_replaced: Param::default(),
        };
        let told = format!("v1.35.1+rke2r1 is installed, but the node runs {OLD}");
        assert_eq!(scene.on("agent-0", goal.clone()).pending().await, told);
        scene.edit("/api/v1/nodes/agent-0", |node| node["status"]["nodeInfo"]["kubeletVersion"] = NEW.into());
        scene.on("agent-0", goal.clone()).satisfied().await;
        scene.survey("agent-0", |survey| survey.installed = "v1.36.0+rke2r1".to_owned());
        assert_eq!(scene.on("agent-0", goal).pending().await, "v1.36.0+rke2r1 is installed");
    }
}
