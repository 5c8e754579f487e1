//! PointAt: the node's `server:` points at the restored server; the restored server's own is empty.

use async_trait::async_trait;
use rke2flow_engine::action::{ActionInfo, Applied, Context, Failure, Place, Probe};
use rke2flow_engine::cluster::Host;
use rke2flow_engine::value::Param;
use serde::{Deserialize, Serialize};

use crate::actions::{Goal, World, host_of, info, known};
use crate::answer::server_override;
use crate::command::Change;

/// Goal: the node's `server:` points at the restored server; the restored server's own is empty.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PointAt {
    /// Name of the restored server, or the URL of its supervisor.
    pub server: Param<String>,
}

#[async_trait]
impl Goal for PointAt {
    const INFO: ActionInfo = info(
        "PointAt",
        "the node's `server:` points at the restored server; the restored server's own is empty",
        Place::Host,
        2,
    );

    async fn probe(&self, world: &World, context: &Context) -> Result<Probe, Failure> {
        let wanted = server_override(&context.run, self.url(world, context).await?.as_deref());
        match world.survey(context).await?.server_override {
            found if found == wanted => Ok(Probe::satisfied()),
            found if found.is_empty() => Ok(Probe::pending("there is no drop-in for `server:`")),
            found => Ok(Probe::pending(format!("the drop-in for `server:` is `{found}`"))),
        }
    }

    async fn apply(&self, world: &World, context: &Context) -> Result<Applied, Failure> {
        let server = self.url(world, context).await?;
        world.order(context, Change::PointAt { server }).await
    }
}

impl PointAt {
    /// `None` on the restored server itself: a reset refuses while `server:` is set (R2#3178).
    async fn url(&self, world: &World, context: &Context) -> Result<Option<String>, Failure> {
        let server = known(&self.server)?;
        if server.starts_with("https://") {
            return Ok(Some(server.clone()));
        }
        if server == host_of(context)?.as_str() {
            return Ok(None);
        }
        let host = world.cluster().hosts.iter().find(|host| host.name.as_str() == server);
        let host =
            host.ok_or_else(|| Failure::permanent(format!("there is no host `{server}` in the cluster file")))?;
        let address = match internal_address(world, host).await? {
            address if address.contains(':') => format!("[{address}]"),
            address => address,
        };
        Ok(Some(format!("https://{address}:{}", world.access().paths.supervisor_port)))
    }
}

/// Where the other nodes reach a host: SSH may come in by another address, through a NAT or a jump host.
async fn internal_address(world: &World, host: &Host) -> Result<String, Failure> {
    if let Some(address) = &host.node_ip {
        return Ok(address.clone());
    }
    let told = world.hosts().survey(&host.name).await?.node_ip;
    Ok(if told.is_empty() { host.address.clone() } else { told })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actions::testing::{RUN, Scene};

    fn at(server: &str) -> PointAt {
        PointAt { server: Param::Known(server.to_owned()) }
    }

    #[tokio::test(start_paused = true)]
    async fn the_others_point_at_the_restored_server_and_that_at_none() {
        let scene = Scene::new();
        scene.on("server-1", at("server-0")).idempotent().await;
        scene.on("server-0", at("server-0")).idempotent().await;
        let drop_in = |host: &str| scene.change(|state| state.hosts[host].survey.server_override.clone());
        assert_eq!(drop_in("server-1"), format!("{RUN} https://10.0.0.0:9345"));
        assert_eq!(drop_in("server-0"), RUN);
    }

    #[tokio::test(start_paused = true)]
    async fn the_others_point_at_the_internal_address_and_not_at_the_one_that_ssh_uses() {
        let scene = Scene::new();
        scene.survey("server-0", |survey| survey.node_ip = "192.168.7.10".to_owned());
        scene.on("server-1", at("server-0")).idempotent().await;
        let drop_in = scene.change(|state| state.hosts["server-1"].survey.server_override.clone());
        assert_eq!(drop_in, format!("{RUN} https://192.168.7.10:9345"));
        scene.survey("server-0", |survey| survey.node_ip = "fd00::10".to_owned());
        scene.on("server-1", at("server-0")).apply().await;
        let drop_in = scene.change(|state| state.hosts["server-1"].survey.server_override.clone());
        assert_eq!(drop_in, format!("{RUN} https://[fd00::10]:9345"));
    }

    #[tokio::test(start_paused = true)]
    async fn the_drop_in_of_another_run_is_not_taken_for_ours() {
        let scene = Scene::new();
        scene.survey("server-1", |survey| survey.server_override = "261101-0000-aaaa https://10.0.0.0:9345".to_owned());
        scene.on("server-1", at("server-0")).pending().await;
    }
}
