//! RemoveGhosts: no Node object stands for a machine that is not in the cluster file.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use rke2flow_engine::action::{ActionInfo, Applied, Context, Failure, Place, Probe};
use rke2flow_engine::value::Param;
use serde::{Deserialize, Serialize};

use crate::actions::{Goal, World, info, known, noted, restored};
use crate::kinds::{AnyKind, Lease, Node};
use crate::objects::Objects;

/// Goal: no Node object stands for a machine that is not in the cluster file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RemoveGhosts {
    /// The node names that are expected; those of the cluster file when empty.
    #[serde(default)]
    pub nodes: Param<Vec<String>>,
    /// The server whose own API is asked, such as the restored one; any healthy one when empty.
    #[serde(default)]
    pub server: Param<String>,
}

#[async_trait]
impl Goal for RemoveGhosts {
    const INFO: ActionInfo =
        info("RemoveGhosts", "no Node object stands for a machine that is not in the cluster file", Place::Operator, 5);

    async fn probe(&self, world: &World, _context: &Context) -> Result<Probe, Failure> {
        let ghosts = self.ghosts(world, &self.objects(world)?).await?;
        if ghosts.is_empty() {
            return Ok(Probe::satisfied());
        }
        let names: Vec<&str> = ghosts.iter().map(|node| node.metadata.name.as_str()).collect();
        Ok(Probe::pending(format!("{} stands for no machine", names.join(", "))))
    }

    async fn apply(&self, world: &World, context: &Context) -> Result<Applied, Failure> {
        // Nobody can ask the clock of a machine that is in no cluster file, and after a restore every old lease may be
        // one out of the snapshot: only a lease that is renewed while it is watched is a sign of life.
        context.progress.say("waiting for a sign of life of the nodes that are not in the cluster file");
        let objects = self.objects(world)?;
        let before = renewals(&objects).await?;
        context.clock.sleep(SILENCE).await;
        let after = renewals(&objects).await?;
        let ghosts = self.ghosts(world, &objects).await?;
        let names = ghosts.iter().map(|node| node.metadata.name.as_str());
        let alive: Vec<&str> = names.filter(|name| before.get(*name) != after.get(*name)).collect();
        if !alive.is_empty() {
            let found = format!("{} is alive and not in the cluster file", alive.join(", "));
            let next = "add it to the cluster file, or stop it";
            return Err(Failure::permanent(format!("refused: expected {EXPECTED}")).observed(found).next(next));
        }
        let changes = world.changes(context).through(&objects);
        for ghost in &ghosts {
            let secret = world.distribution().node_password(&ghost.metadata.name);
            if let Some(found) = objects.get::<AnyKind>(&secret).await? {
                changes.delete(&secret, &found.metadata).await?;
            }
            changes.delete(&Node::path(&ghost.metadata.name), &ghost.metadata).await?;
        }
        Ok(noted(format!("removed {} nodes", ghosts.len())))
    }
}

/// How long a node that nobody expects must be silent under the restored API server: kubelets renew every 10 s.
const SILENCE: Duration = Duration::from_secs(25);
/// What this action can start from.
const EXPECTED: &str = "only nodes of the cluster file, or ones that are gone";

impl RemoveGhosts {
    fn objects(&self, world: &World) -> Result<Objects, Failure> {
        match known(&self.server)?.as_str() {
            "" => Ok(world.objects().clone()),
            _ => Ok(world.objects().of_server(&restored(world, &self.server)?)),
        }
    }

    async fn ghosts(&self, world: &World, objects: &Objects) -> Result<Vec<Node>, Failure> {
        let listed = known(&self.nodes)?;
        let expected = |name: &str| match listed.is_empty() {
            true => world.cluster().hosts.iter().any(|host| host.name.as_str() == name),
            false => listed.iter().any(|node| node == name),
        };
        let nodes: Vec<Node> = objects.list("/api/v1/nodes").await?.unwrap_or_default();
        Ok(nodes.into_iter().filter(|node| !expected(&node.metadata.name)).collect())
    }
}

/// When each node's lease was renewed last. Deleting the Node of a living server makes it leave etcd
/// (K3S pkg/etcd/member_controller.go), so a living one is never deleted.
async fn renewals(objects: &Objects) -> Result<BTreeMap<String, Option<Timestamp>>, Failure> {
    let leases: Vec<Lease> = objects.list(Lease::NODES).await?.unwrap_or_default();
    Ok(leases.into_iter().map(|lease| (lease.metadata.name, lease.spec.renew_time)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actions::testing::{NOW, Scene, lease};
    use serde_json::json;

    fn remove() -> RemoveGhosts {
        RemoveGhosts { nodes: Param::default(), server: Param::default() }
    }

    fn haunted(renewed: i64) -> Scene {
        let scene = Scene::new();
        scene.put("/api/v1/nodes/agent-9", json!({}));
        scene.put(&Lease::path("agent-9"), lease(renewed));
        scene.put("/api/v1/namespaces/kube-system/secrets/agent-9.node-password.rke2", json!({}));
        scene
    }

    #[tokio::test(start_paused = true)]
    async fn removing_ghosts_is_idempotent_and_takes_their_passwords() {
        let scene = haunted(NOW - 9000);
        scene.on("operator", remove()).idempotent().await;
        assert_eq!(scene.object("/api/v1/nodes/agent-9"), None);
        assert_eq!(scene.object("/api/v1/namespaces/kube-system/secrets/agent-9.node-password.rke2"), None);
        assert!(scene.object("/api/v1/nodes/agent-0").is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_that_lives_is_not_removed_though_nobody_expects_it() {
        // Its clock is an hour behind: its fresh lease looks like one out of the snapshot.
        let scene = haunted(NOW - 3600);
        let kubelet = scene.clone();
        let renew = async move {
            tokio::time::sleep(Duration::from_secs(10)).await;
            kubelet.put(&Lease::path("agent-9"), lease(NOW - 3590));
        };
        let bench = scene.on("operator", remove());
        let (failure, ()) = tokio::join!(bench.failure_of_apply(), renew);
        assert!(failure.observed.contains("agent-9 is alive"), "{failure}");
        assert!(scene.object("/api/v1/nodes/agent-9").is_some());
    }
}
