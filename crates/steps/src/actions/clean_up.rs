//! CleanUp: nothing that rke2flow put into the node's configuration is left.

use async_trait::async_trait;
use rke2flow_engine::action::{ActionInfo, Applied, Context, Failure, Place, Probe};
use rke2flow_engine::cluster::Role;
use serde::{Deserialize, Serialize};

use crate::actions::{Goal, World, host_of, info, unless_missing};
use crate::command::Change;

/// Goal: nothing that rke2flow put into the node's configuration is left.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CleanUp {}

#[async_trait]
impl Goal for CleanUp {
    const INFO: ActionInfo =
        info("CleanUp", "nothing that rke2flow put into the node's configuration is left", Place::Host, 2);

    async fn probe(&self, world: &World, context: &Context) -> Result<Probe, Failure> {
        let survey = world.survey(context).await?;
        let mut left = Vec::new();
        if !survey.server_override.is_empty() {
            left.push("the drop-in for `server:` is there".to_owned());
        }
        if survey.hold {
            left.push("the hold file is there".to_owned());
        }
        if survey.hold_drop_in {
            left.push("the hold's drop-in is there".to_owned());
        }
        let server = world.entry(host_of(context)?)?.role == Role::Server;
        match survey.unstarted(&world.access().paths, &context.run) {
            Some(found) if server && survey.hold => Ok(Probe::Refused {
                expected: "a server with its data in place; the hold keeps this one from serving without it \
                           (`rke2flow run rollback` takes it on from here)"
                    .to_owned(),
                found: found.to_owned(),
            }),
            _ => Ok(unless_missing(left)),
        }
    }

    async fn apply(&self, world: &World, context: &Context) -> Result<Applied, Failure> {
        world.order(context, Change::CleanUp).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actions::testing::Scene;

    #[tokio::test(start_paused = true)]
    async fn cleaning_up_is_idempotent_and_leaves_nothing() {
        let scene = Scene::new();
        scene.survey("server-1", |survey| {
            (survey.hold, survey.hold_drop_in) = (true, true);
            survey.server_override = "261101-0000-aaaa https://10.0.0.0:9345".to_owned();
        });
        scene.on("server-1", CleanUp {}).idempotent().await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_whose_etcd_is_aside_or_was_never_started_stays_held() {
        let scene = Scene::new();
        scene.kill(&["server-1"]);
        let aside = "server/db/etcd-rke2flow-261101-0000-aaaa".to_owned();
        scene.survey("server-1", |survey| {
            (survey.hold, survey.hold_drop_in, survey.etcd_name, survey.etcd_member) = (true, true, false, false);
            survey.aside = vec![aside];
        });
        let probe = scene.on("server-1", CleanUp {}).probe().await;
        assert!(matches!(probe, Probe::Refused { found, .. } if found.contains("aside")));
        scene.survey("server-1", |survey| {
            (survey.etcd_name, survey.etcd_member, survey.reset_flag) = (true, true, true);
        });
        let probe = scene.on("server-1", CleanUp {}).probe().await;
        assert!(matches!(probe, Probe::Refused { found, .. } if found.contains("never started")));
    }
}
