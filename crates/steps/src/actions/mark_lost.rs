//! MarkLost: the host remembers which hosts the cluster has gone on without.

use async_trait::async_trait;
use rke2flow_engine::action::{ActionInfo, Applied, Context, Failure, Place, Probe};
use rke2flow_engine::value::Param;
use serde::{Deserialize, Serialize};

use crate::actions::{Goal, World, host_names, info, known, unless_missing};
use crate::command::Change;

/// Goal: the host remembers which hosts the cluster has gone on without.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MarkLost {
    /// The hosts that were declared lost. Until `ForgetLost`, every run refuses them.
    pub hosts: Param<Vec<String>>,
}

#[async_trait]
impl Goal for MarkLost {
    const INFO: ActionInfo =
        info("MarkLost", "the host remembers which hosts the cluster has gone on without", Place::Host, 2);

    async fn probe(&self, world: &World, context: &Context) -> Result<Probe, Failure> {
        let marks = world.survey(context).await?.lost;
        let marked = |host: &&String| marks.iter().any(|mark| mark.host == **host && mark.run == context.run.as_str());
        let missing = known(&self.hosts)?.iter().filter(|host| !marked(host));
        Ok(unless_missing(missing.map(|host| format!("it does not remember that {host} is lost")).collect()))
    }

    async fn apply(&self, world: &World, context: &Context) -> Result<Applied, Failure> {
        world.order(context, Change::MarkLost { hosts: host_names(known(&self.hosts)?)? }).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actions::forget_lost::ForgetLost;
    use crate::actions::testing::Scene;

    #[tokio::test(start_paused = true)]
    async fn marking_and_forgetting_are_idempotent() {
        let scene = Scene::new();
        let hosts = || Param::Known(vec!["server-2".to_owned(), "agent-1".to_owned()]);
        scene.on("server-0", MarkLost { hosts: hosts() }).idempotent().await;
        scene.on("server-0", ForgetLost { hosts: hosts() }).idempotent().await;
        assert_eq!(scene.change(|state| state.hosts["server-0"].survey.lost.clone()), []);
    }
}
