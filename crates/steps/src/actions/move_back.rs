//! MoveBack: what this run has moved aside is where it was, and nothing of its cluster-reset is left.

use async_trait::async_trait;
use rke2flow_engine::action::{ActionInfo, Applied, Context, Failure, Place, Probe};
use serde::{Deserialize, Serialize};

use crate::actions::{Goal, World, info, unless_missing};
use crate::answer::Survey;
use crate::command::{Change, NodePart};

/// Goal: what this run has moved aside is where it was, and nothing of its cluster-reset is left.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MoveBack {
    /// Which parts.
    pub parts: Vec<NodePart>,
}

#[async_trait]
impl Goal for MoveBack {
    const INFO: ActionInfo = info(
        "MoveBack",
        "what this run has moved aside is where it was, and nothing of its cluster-reset is left",
        Place::Host,
        5,
    );

    async fn probe(&self, world: &World, context: &Context) -> Result<Probe, Failure> {
        let survey = world.survey(context).await?;
        let reset = survey.reset.as_ref().filter(|reset| reset.run == context.run.as_str());
        if reset.is_some_and(|reset| reset.started_since) {
            return Ok(Probe::Refused {
                expected: "a node that was not started since the cluster-reset of this run".to_owned(),
                found: "it was, and what it took since would be lost: this run can only go forward".to_owned(),
            });
        }
        let mut left: Vec<String> =
            self.parts.iter().filter_map(|part| still_aside(world, context, &survey, *part)).collect();
        left.extend(reset.map(|_| "a cluster-reset of this run has begun here".to_owned()));
        left.extend(survey.reset_flag.then(|| "the reset flag is there".to_owned()));
        Ok(unless_missing(left))
    }

    async fn apply(&self, world: &World, context: &Context) -> Result<Applied, Failure> {
        world.order(context, Change::MoveBack { parts: self.parts.clone() }).await
    }
}

/// The original of a part, when it is aside. What stood in its way later has a number behind its name and stays.
fn still_aside(world: &World, context: &Context, survey: &Survey, part: NodePart) -> Option<String> {
    let paths = &world.access().paths;
    let aside = paths.aside(part, &context.run);
    let below = aside.strip_prefix(&format!("{}/", paths.data)).unwrap_or(&aside);
    let half = format!("{below}.part");
    let found = survey.aside.iter().any(|moved| *moved == below || *moved == aside || *moved == half);
    found.then(|| format!("{below} is aside"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actions::cluster_reset::ClusterReset;
    use crate::actions::move_aside::MoveAside;
    use crate::actions::testing::Scene;
    use rke2flow_engine::value::Param;

    fn parts() -> Vec<NodePart> {
        vec![NodePart::Etcd, NodePart::Tls, NodePart::Cred, NodePart::ShippedCharts]
    }

    async fn reset() -> Scene {
        let scene = Scene::new();
        scene.kill(&["server-0", "server-1", "server-2"]);
        scene.on("server-0", MoveAside { parts: parts() }).apply().await;
        let known = |text: &str| Param::Known(text.to_owned());
        scene
            .on(
                "server-0",
                ClusterReset {
                    snapshot: known("/staged"),
                    sha256: known("abc"),
                    version: known(""),
                    lost: Param::default(),
                },
            )
            .apply()
            .await;
        scene
    }

    #[tokio::test(start_paused = true)]
    async fn moving_back_is_idempotent_and_leaves_nothing_of_the_reset() {
        let scene = reset().await;
        scene.on("server-0", MoveBack { parts: parts() }).idempotent().await;
        scene.change(|state| {
            let survey = &state.hosts["server-0"].survey;
            assert!(survey.etcd_name && survey.tls && survey.cred && survey.shipped_charts > 0, "{survey:?}");
            assert!(survey.reset.is_none() && !survey.reset_flag, "{survey:?}");
        });
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_nothing_was_moved_on_is_left_alone() {
        Scene::new().on("server-1", MoveBack { parts: parts() }).satisfied().await;
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_started_after_the_reset_is_never_thrown_away() {
        let scene = reset().await;
        scene.survey("server-0", |survey| {
            survey.reset_flag = false;
            survey.reset.as_mut().unwrap().started_since = true;
        });
        let probe = scene.on("server-0", MoveBack { parts: parts() }).probe().await;
        assert!(matches!(probe, Probe::Refused { found, .. } if found.contains("only go forward")));
    }

    #[tokio::test(start_paused = true)]
    async fn what_stood_in_the_way_stays_aside() {
        let scene = Scene::new();
        scene.survey("server-0", |survey| {
            survey.aside = vec![format!("server/db/etcd-rke2flow-{}.2", crate::actions::testing::RUN)];
        });
        scene.on("server-0", MoveBack { parts: parts() }).satisfied().await;
    }
}
