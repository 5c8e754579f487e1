//! RemoveGhosts: no Node object stands for a machine that is not in the cluster file.

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use rke2flow_engine::action::{ActionInfo, Applied, Context, Failure, Place, Probe};
use rke2flow_engine::value::Param;
use serde::{Deserialize, Serialize};

use crate::actions::node_ready::staleness;
use crate::actions::{Goal, World, info, known, noted, restored, stamp};
use crate::kinds::{AnyKind, Lease, Node};

/// Goal: no Node object stands for a machine that is not in the cluster file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RemoveGhosts {
    /// The node names that are expected; those of the cluster file when empty.
    #[serde(default)]
    pub nodes: Param<Vec<String>>,
    /// The server that was restored; the cluster file's when empty.
    #[serde(default)]
    pub server: Param<String>,
}

#[async_trait]
impl Goal for RemoveGhosts {
    const INFO: ActionInfo =
        info("RemoveGhosts", "no Node object stands for a machine that is not in the cluster file", Place::Operator, 5);

    async fn probe(&self, world: &World, _context: &Context) -> Result<Probe, Failure> {
        let ghosts = self.ghosts(world).await?;
        if ghosts.is_empty() {
            return Ok(Probe::satisfied());
        }
        let names: Vec<&str> = ghosts.iter().map(|node| node.metadata.name.as_str()).collect();
        let survey = world.hosts().survey(&restored(world, &self.server)?).await?;
        if let Some(found) = alive(world, &names, stamp(survey.unit_active_since)).await? {
            return Ok(Probe::Refused { expected: EXPECTED.to_owned(), found });
        }
        Ok(Probe::pending(format!("{} stands for no machine", names.join(", "))))
    }

    async fn apply(&self, world: &World, context: &Context) -> Result<Applied, Failure> {
        world.check_claim(context).await?;
        let survey = world.hosts().survey(&restored(world, &self.server)?).await?;
        // A node that lives renews its lease every 10 s: until then an old lease proves nothing after a restore.
        let silence = SILENCE_SECONDS.saturating_sub(survey.epoch - survey.unit_active_since);
        if silence > 0 {
            context.progress.say("waiting for a sign of life of the nodes that are not in the cluster file");
            context.clock.sleep(Duration::from_secs(silence.unsigned_abs())).await;
        }
        let ghosts = self.ghosts(world).await?;
        let names: Vec<&str> = ghosts.iter().map(|node| node.metadata.name.as_str()).collect();
        if let Some(found) = alive(world, &names, stamp(survey.unit_active_since)).await? {
            return Err(Failure::permanent(format!("refused: expected {EXPECTED}")).observed(found));
        }
        for ghost in &ghosts {
            let secret = format!("/api/v1/namespaces/kube-system/secrets/{}.node-password.rke2", ghost.metadata.name);
            if let Some(found) = world.objects().get::<AnyKind>(&secret).await? {
                world.objects().delete(&secret, &found.metadata).await?;
            }
            world.objects().delete(&Node::path(&ghost.metadata.name), &ghost.metadata).await?;
        }
        Ok(noted(format!("removed {} nodes", ghosts.len())))
    }
}

/// How long a node that nobody expects must have been silent under the restored API server.
const SILENCE_SECONDS: i64 = 20;
/// What this action can start from.
const EXPECTED: &str = "only nodes of the cluster file, or ones that are gone";

impl RemoveGhosts {
    async fn ghosts(&self, world: &World) -> Result<Vec<Node>, Failure> {
        let listed = known(&self.nodes)?;
        let expected = |name: &str| match listed.is_empty() {
            true => world.cluster().hosts.iter().any(|host| host.name.as_str() == name),
            false => listed.iter().any(|node| node == name),
        };
        let nodes: Vec<Node> = world.objects().list("/api/v1/nodes").await?.unwrap_or_default();
        Ok(nodes.into_iter().filter(|node| !expected(&node.metadata.name)).collect())
    }
}

/// Deleting the Node of a living server makes it leave etcd (K3S pkg/etcd/member_controller.go).
async fn alive(world: &World, names: &[&str], since: Timestamp) -> Result<Option<String>, Failure> {
    let leases: Vec<Lease> = world.objects().list(Lease::NODES).await?.unwrap_or_default();
    let lives =
        |lease: &&Lease| names.contains(&lease.metadata.name.as_str()) && staleness(Some(lease), since).is_none();
    let alive: Vec<&str> = leases.iter().filter(lives).map(|lease| lease.metadata.name.as_str()).collect();
    Ok((!alive.is_empty()).then(|| format!("{} is alive and not in the cluster file", alive.join(", "))))
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
        let scene = haunted(NOW - 5);
        assert!(matches!(scene.on("operator", remove()).probe().await, Probe::Refused { .. }));
        let failure = scene.on("operator", remove()).failure_of_apply().await;
        assert!(failure.observed.contains("agent-9 is alive"), "{failure}");
        assert!(scene.object("/api/v1/nodes/agent-9").is_some());
    }
}
