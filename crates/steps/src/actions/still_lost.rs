//! StillLost: no host that was declared lost answers.

use async_trait::async_trait;
use futures::future::join_all;
use rke2flow_engine::action::{ActionInfo, Context, Failure, FailureClass, Place, Probe};
use rke2flow_engine::id::HostName;
use rke2flow_engine::value::Param;
use serde::{Deserialize, Serialize};

use crate::actions::{Goal, World, host_names, info, known};

/// Goal: no host that was declared lost answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StillLost {
    /// The hosts that were declared lost.
    pub lost: Param<Vec<String>>,
}

#[async_trait]
impl Goal for StillLost {
    const INFO: ActionInfo = ActionInfo {
        changes: false,
        ..info("StillLost", "no host that was declared lost answers", Place::Operator, 10)
    };

    async fn probe(&self, world: &World, _context: &Context) -> Result<Probe, Failure> {
        let back = back(world, &host_names(known(&self.lost)?)?).await;
        if back.is_empty() { Ok(Probe::satisfied()) } else { Err(refusal(&back)) }
    }
}

/// Those of these hosts that answer, asked all at once.
pub(crate) async fn back(world: &World, lost: &[HostName]) -> Vec<HostName> {
    let ask = |host: &HostName| {
        let host = host.clone();
        async move { (!world.hosts().is_gone(&host).await).then_some(host) }
    };
    join_all(lost.iter().map(ask)).await.into_iter().flatten().collect()
}

/// A lost server that is back runs the old control plane: with another one it has a quorum, and takes writes (R2#6050).
fn refusal(back: &[HostName]) -> Failure {
    let names = back.iter().map(HostName::as_str).collect::<Vec<_>>().join(", ");
    Failure::of(FailureClass::Refused, format!("{names} is declared lost and answers"))
        .observed("a host that is back runs what it ran before: the old control plane, or workloads of it")
        .next(format!("power {names} off, or cut it off from the cluster's network, and resume"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actions::testing::Scene;

    fn still(lost: &[&str]) -> StillLost {
        StillLost { lost: Param::Known(lost.iter().map(|name| (*name).to_owned()).collect()) }
    }

    #[tokio::test(start_paused = true)]
    async fn a_lost_host_that_answers_is_refused_and_one_that_does_not_is_fine() {
        let scene = Scene::new();
        scene.change(|state| state.hosts.get_mut("server-2").unwrap().silent = true);
        scene.on("operator", still(&["server-2"])).satisfied().await;
        scene.on("operator", still(&[])).satisfied().await;
        let failure = scene.on("operator", still(&["server-2", "server-1"])).failure().await;
        assert_eq!(failure.class, FailureClass::Refused);
        assert_eq!(failure.what, "server-1 is declared lost and answers");
        assert!(failure.next.contains("power server-1 off"), "{failure}");
    }
}
