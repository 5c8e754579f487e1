//! ForgetLost: the host does not count these hosts as lost any more.

use async_trait::async_trait;
use rke2flow_engine::action::{ActionInfo, Applied, Context, Failure, Place, Probe};
use rke2flow_engine::value::Param;
use serde::{Deserialize, Serialize};

use crate::actions::{Goal, World, host_names, info, known, unless_missing};
use crate::command::Change;

/// Goal: the host does not count these hosts as lost any more.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ForgetLost {
    /// The hosts that are clean and back. A run with this action is not refused for them.
    pub hosts: Param<Vec<String>>,
}

#[async_trait]
impl Goal for ForgetLost {
    const INFO: ActionInfo = info("ForgetLost", "the host does not count these hosts as lost any more", Place::Host, 2);

    async fn probe(&self, world: &World, context: &Context) -> Result<Probe, Failure> {
        let hosts = known(&self.hosts)?;
        let marks = world.survey(context).await?.lost;
        let left = marks.iter().filter(|mark| hosts.contains(&mark.host));
        Ok(unless_missing(left.map(|mark| format!("{} is lost since run {}", mark.host, mark.run)).collect()))
    }

    async fn apply(&self, world: &World, context: &Context) -> Result<Applied, Failure> {
        world.order(context, Change::ForgetLost { hosts: host_names(known(&self.hosts)?)? }).await
    }
}
