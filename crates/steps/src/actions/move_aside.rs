//! MoveAside: these parts of the node's data directory are out of the way, and kept.

use async_trait::async_trait;
use rke2flow_engine::action::{ActionInfo, Applied, Context, Failure, Place, Probe};
use serde::{Deserialize, Serialize};

use crate::actions::{Goal, World, host_of, info};
use crate::answer::Survey;
use crate::command::Change;
use crate::command::NodePart;

/// Goal: these parts of the node's data directory are out of the way, and kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MoveAside {
    /// Which parts.
    pub parts: Vec<NodePart>,
}

#[async_trait]
impl Goal for MoveAside {
    const INFO: ActionInfo =
        info("MoveAside", "these parts of the node's data directory are out of the way, and kept", Place::Host, 3);

    async fn probe(&self, world: &World, context: &Context) -> Result<Probe, Failure> {
        let survey = world.survey(context).await?;
        let left: Vec<&str> = self.parts.iter().filter_map(|part| in_the_way(world, context, &survey, *part)).collect();
        if left.is_empty() {
            return Ok(Probe::satisfied());
        }
        Ok(Probe::pending(format!("{} in the way", left.join(", "))))
    }

    async fn apply(&self, world: &World, context: &Context) -> Result<Applied, Failure> {
        let survey = world.survey(context).await?;
        let running = crate::actions::kill_node::what_runs(&survey);
        if !running.is_empty() {
            let what = format!("cannot move the data of {} aside while its node runs", host_of(context)?);
            return Err(Failure::permanent(what).observed(running.join("; ")));
        }
        world.order(context, Change::MoveAside { parts: self.parts.clone() }).await
    }
}

/// The name of a part that is still where it was. What this run has moved aside once stays done: what is in its place
/// again was put there by the reset or by the join, and moving that away would lose the cluster (R2#6310).
fn in_the_way(world: &World, context: &Context, survey: &Survey, part: NodePart) -> Option<&'static str> {
    let paths = &world.access().paths;
    let aside = paths.aside(part, &context.run);
    let below = aside.strip_prefix(&format!("{}/", paths.data)).unwrap_or(&aside);
    if survey.aside.iter().any(|moved| moved == below || *moved == aside) {
        return None;
    }
    let (there, name) = match part {
        NodePart::Etcd => (survey.etcd_name || survey.etcd_member, "server/db/etcd"),
        NodePart::Tls => (survey.tls, "server/tls"),
        NodePart::Cred => (survey.cred, "server/cred"),
        NodePart::ShippedCharts => (survey.shipped_charts > 0, "the charts in server/manifests"),
    };
    there.then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actions::testing::Scene;

    fn everything() -> MoveAside {
        MoveAside { parts: vec![NodePart::Etcd, NodePart::Tls, NodePart::Cred, NodePart::ShippedCharts] }
    }

    #[tokio::test(start_paused = true)]
    async fn moving_aside_is_idempotent() {
        let scene = Scene::new();
        scene.kill(&["server-1"]);
        scene.on("server-1", everything()).idempotent().await;
    }

    #[tokio::test(start_paused = true)]
    async fn the_data_of_a_living_node_is_not_moved() {
        let scene = Scene::new();
        let failure = scene.on("server-1", everything()).failure_of_apply().await;
        assert!(failure.observed.contains("the unit is active"), "{failure}");
        assert!(scene.change(|state| state.hosts["server-1"].survey.etcd_name));
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_reset_has_put_there_is_not_moved_again() {
        let scene = Scene::new();
        scene.kill(&["server-0"]);
        let bench = scene.on("server-0", everything());
        bench.apply().await;
        scene.survey("server-0", |survey| (survey.etcd_member, survey.tls) = (true, true));
        bench.satisfied().await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_part_that_is_still_there_is_named() {
        let scene = Scene::new();
        scene.kill(&["server-1"]);
        scene.survey("server-1", |survey| (survey.etcd_name, survey.etcd_member, survey.cred) = (false, false, false));
        let why = scene.on("server-1", everything()).pending().await;
        assert_eq!(why, "server/tls, the charts in server/manifests in the way");
    }
}
