//! FetchRelease: the release's files are on the host, and their checksums fit.

use async_trait::async_trait;
use rke2flow_engine::action::{ActionInfo, Applied, Context, Failure, Place, Probe};
use rke2flow_engine::value::Param;
use serde::{Deserialize, Serialize};

use crate::actions::{Goal, World, host_of, info, known};
use crate::command::Change;

/// Goal: the release's files are on the host, and their checksums fit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FetchRelease {
    /// `v1.33.4+rke2r1`; empty: the one that is installed now, so that the way back needs no download.
    #[serde(default)]
    pub version: Param<String>,
}

#[async_trait]
impl Goal for FetchRelease {
    const INFO: ActionInfo =
        info("FetchRelease", "the release's files are on the host, and their checksums fit", Place::Host, 120);

    async fn probe(&self, world: &World, context: &Context) -> Result<Probe, Failure> {
        let version = self.version(world, context).await?;
        let staged = world.hosts().release(host_of(context)?, &version).await?;
        if staged.complete {
            return Ok(Probe::satisfied());
        }
        Ok(Probe::pending(format!("{version} is not staged: {}", staged.missing.join(", "))))
    }

    async fn apply(&self, world: &World, context: &Context) -> Result<Applied, Failure> {
        let version = self.version(world, context).await?;
        let arch = world.entry(host_of(context)?)?.arch.clone().unwrap_or_default();
        let from = world.distribution().releases_of(&world.cluster().releases);
        world.order(context, Change::FetchRelease { version, from, arch }).await
    }
}

impl FetchRelease {
    async fn version(&self, world: &World, context: &Context) -> Result<String, Failure> {
        let version = known(&self.version)?;
        if !version.is_empty() {
            return Ok(version.clone());
        }
        match world.survey(context).await?.installed {
            installed if installed.is_empty() => Err(Failure::permanent("no release is installed on this host")),
            installed => Ok(installed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actions::testing::{NEW, OLD, Scene};

    #[tokio::test(start_paused = true)]
    async fn fetching_is_idempotent() {
        Scene::new().on("agent-0", FetchRelease { version: Param::Known(NEW.to_owned()) }).idempotent().await;
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_version_the_installed_release_is_kept_for_a_way_back() {
        let scene = Scene::new();
        scene.on("agent-0", FetchRelease { version: Param::default() }).idempotent().await;
        assert_eq!(scene.change(|state| state.hosts["agent-0"].staged.clone()), [OLD]);
    }
}
