//! NodeReady: the node is Ready by its own fresh word.

use async_trait::async_trait;
use jiff::Timestamp;
use rke2flow_engine::action::{ActionInfo, Context, Failure, Place, Probe};
use rke2flow_engine::value::Param;
use serde::{Deserialize, Serialize};

use crate::actions::{Clocks, Goal, LEASE_FRESH, World, host_of, info, moment, stamp};
use crate::kinds::Lease;

/// Goal: the node is Ready by its own fresh word.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeReady {
    /// Its lease must be renewed after its unit was started, within the last minute, and after this moment of a server's
    /// clock, RFC 3339, if it is not empty.
    #[serde(default)]
    pub newer_than: Param<String>,
}

#[async_trait]
impl Goal for NodeReady {
    const INFO: ActionInfo =
        ActionInfo { changes: false, ..info("NodeReady", "the node is Ready by its own fresh word", Place::Host, 30) };

    async fn probe(&self, world: &World, context: &Context) -> Result<Probe, Failure> {
        let host = host_of(context)?;
        let own = world.hosts().survey(host).await?;
        // A lease carries the node's own clock: what it is compared with must be told by that clock as well.
        let mut since = stamp(own.epoch - LEASE_FRESH.as_secs() as i64);
        since = since.max(stamp(own.unit_active_since));
        if let Some(newer_than) = moment(&self.newer_than)? {
            since = since.max(Clocks::of_one(world, host, &own).await?.since(host.as_str(), newer_than));
        }
        let (node, lease) = world.node(host).await?;
        let Some(node) = node else { return Ok(Probe::pending("the API has no such node")) };
        if let Some(stale) = staleness(lease.as_ref(), since) {
            return Ok(Probe::pending(stale));
        }
        if !node.said_ready() {
            return Ok(Probe::pending("the node says that it is not ready"));
        }
        Ok(Probe::satisfied())
    }
}

/// Why a node's lease is not its fresh word. After a restore everything else that the API knows of a node may come
/// from the snapshot, `Ready` included (R2#2652).
pub(crate) fn staleness(lease: Option<&Lease>, since: Timestamp) -> Option<String> {
    match lease.and_then(|lease| lease.spec.renew_time) {
        None => Some("the node has no lease".to_owned()),
        Some(renewed) if renewed <= since => Some(format!("the node's last sign of life is of {renewed}")),
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actions::testing::{NOW, Scene, lease};

    fn ready(newer_than: &str) -> NodeReady {
        NodeReady { newer_than: Param::Known(newer_than.to_owned()) }
    }

    #[tokio::test(start_paused = true)]
    async fn ready_from_before_the_restore_counts_for_nothing() {
        let scene = Scene::new();
        let restored = stamp(NOW).to_string();
        let why = scene.on("agent-0", ready(&restored)).pending().await;
        assert_eq!(why, "the node's last sign of life is of 2026-11-22T02:59:55Z");
        scene.put(&Lease::path("agent-0"), lease(NOW + 3));
        scene.on("agent-0", ready(&restored)).satisfied().await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_whose_clock_is_ahead_does_not_pass_with_a_lease_out_of_the_snapshot() {
        let scene = Scene::new();
        let restored = stamp(NOW).to_string();
        scene.survey("agent-0", |survey| survey.epoch = NOW + 600);
        scene.put(&Lease::path("agent-0"), lease(NOW + 570)); // half a minute before the restore, by its own clock
        scene.on("agent-0", ready(&restored)).pending().await;
        scene.put(&Lease::path("agent-0"), lease(NOW + 603));
        scene.on("agent-0", ready(&restored)).satisfied().await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_that_has_been_silent_for_a_minute_is_not_ready() {
        let scene = Scene::new();
        scene.on("agent-0", ready("")).satisfied().await;
        scene.put(&Lease::path("agent-0"), lease(NOW - 61));
        scene.on("agent-0", ready("")).pending().await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_fresh_node_that_says_no_is_not_ready() {
        let scene = Scene::new();
        scene.edit("/api/v1/nodes/agent-0", |node| node["status"]["conditions"][0]["status"] = "False".into());
        assert_eq!(scene.on("agent-0", ready("")).pending().await, "the node says that it is not ready");
    }
}
