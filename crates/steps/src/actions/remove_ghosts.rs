//! RemoveGhosts: no Node object stands for a machine that is not in the cluster file.

use async_trait::async_trait;
use rke2flow_engine::action::{ActionInfo, Applied, Context, Failure, Place, Probe};
use rke2flow_engine::value::Param;
use serde::{Deserialize, Serialize};

use crate::actions::node_ready::staleness;
use crate::actions::{Goal, World, info, known, noted, restored, stamp};
use crate::kinds::{AnyKind, Lease, Meta, Node};

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
        // A node that lives renews its lease every 10 s: until then an old lease proves nothing after a restore.
        let since = stamp(survey.unit_active_since);
        let alive = living(world, &names, since).await?;
        if !alive.is_empty() {
            return Ok(Probe::Refused {
                expected: "only nodes of the cluster file, or ones that are gone".to_owned(),
                found: format!("{} is alive and not in the cluster file", alive.join(", ")),
            });
        }
        if survey.epoch - survey.unit_active_since < SILENCE_SECONDS {
            return Ok(Probe::InProgress(format!("waiting for a sign of life of {}", names.join(", "))));
        }
        Ok(Probe::pending(format!("{} stands for no machine", names.join(", "))))
    }

    async fn apply(&self, world: &World, context: &Context) -> Result<Applied, Failure> {
        world.check_claim(context).await?;
        let ghosts = self.ghosts(world).await?;
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
async fn living(world: &World, names: &[&str], since: jiff::Timestamp) -> Result<Vec<String>, Failure> {
    let leases: Vec<Lease> = world.objects().list(Lease::NODES).await?.unwrap_or_default();
    let lives = |lease: &&Lease| names.contains(&name(&lease.metadata)) && staleness(Some(lease), since).is_none();
    Ok(leases.iter().filter(lives).map(|lease| lease.metadata.name.clone()).collect())
}

fn name(meta: &Meta) -> &str {
    &meta.name
}
