//! RestartUnit: the node has been restarted into this version.

use async_trait::async_trait;
use rke2flow_engine::action::{ActionInfo, Applied, Context, Disruption, Failure, Place, Probe};
use rke2flow_engine::cluster::Role;
use rke2flow_engine::id::HostName;
use rke2flow_engine::value::{FactSpec, Param, ValueType};
use serde::{Deserialize, Serialize};

use crate::actions::hop::Hop;
use crate::actions::start_unit::{on_its_way, started_at};
use crate::actions::{Goal, World, host_of, info, stamp};
use crate::command::Change;

/// Goal: the node has been restarted into this version.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RestartUnit {
    /// `v1.33.4+rke2r1`
    pub version: Param<String>,
    /// Releases of later rounds of the same run: what runs one of them has this one behind it.
    #[serde(default)]
    pub later: Param<Vec<String>>,
}

#[async_trait]
impl Goal for RestartUnit {
    const INFO: ActionInfo = ActionInfo {
        facts: &[FactSpec { name: "started_at", kind: ValueType::Time }],
        stops_etcd_member: true,
        disrupts: Disruption::Restarts,
        ..info("RestartUnit", "the node has been restarted into this version", Place::Host, 60)
    };

    async fn probe(&self, world: &World, context: &Context) -> Result<Probe, Failure> {
        let hop = Hop::of(&self.version, &self.later)?;
        let survey = world.survey(context).await?;
        match survey.unit.as_str() {
            "active" => {}
            // It never failed and never became ready, for as long as a whole attempt may take: waiting more is no help.
            "activating" if context.attempt > 1 && survey.unit_restarts == 0 => {
                return Ok(Probe::pending("the unit is activating since an earlier attempt"));
            }
            "activating" | "deactivating" => {
                return Ok(Probe::InProgress(on_its_way(world, host_of(context)?, &survey).await));
            }
            other => {
                return Ok(Probe::pending(format!("the unit is {}", if other.is_empty() { "missing" } else { other })));
            }
        }
        let (node, lease) = match world.node(host_of(context)?).await {
            Ok(seen) => seen,
            // The only API server may be the one that has just been restarted.
            Err(failure) if survey.epoch - survey.unit_active_since < API_START_SECONDS => {
                return Ok(Probe::InProgress(format!("the unit is active, the API does not answer yet: {failure}")));
            }
            Err(failure) => return Err(failure),
        };
        let Some(node) = node else { return Ok(Probe::pending("the API has no such node")) };
        let renewed = lease.and_then(|lease| lease.spec.renew_time);
        if renewed.is_none_or(|renewed| renewed < stamp(survey.unit_active_since)) {
            return Ok(Probe::InProgress("the node has told nothing since the unit started".to_owned()));
        }
        if hop.is_reached_by(node.version()) {
            return Ok(Probe::Satisfied(started_at(&survey)));
        }
        Ok(Probe::pending(format!("the node runs {}", node.version())))
    }

    async fn apply(&self, world: &World, context: &Context) -> Result<Applied, Failure> {
        let hop = Hop::of(&self.version, &self.later)?;
        let own = host_of(context)?;
        let survey = world.survey(context).await?;
        if !hop.is_reached_by(&survey.installed) {
            let what = format!("cannot restart {own} into {}: {} is installed", hop.version, survey.installed);
            return Err(Failure::permanent(what));
        }
        if world.entry(own)?.role == Role::Server {
            wait_for_quorum_without(world, own).await?;
        }
        world.order(context, Change::RestartUnit).await
    }
}

/// How long after its start a unit's API server may still be silent.
const API_START_SECONDS: i64 = 300;

/// A server may only leave for a moment when all others can vote: quorum is kept whatever happens to this one.
pub(crate) async fn wait_for_quorum_without(world: &World, own: &HostName) -> Result<(), Failure> {
    let others = world.servers().filter(|server| server.name != *own);
    let mut ill = Vec::new();
    for (server, survey) in world.surveys(others).await {
        match survey {
            Ok(survey) => ill.extend(super::voter::lacks(&server.name, &survey)),
            Err(failure) => ill.push(failure.to_string()),
        }
    }
    match ill.is_empty() {
        true => Ok(()),
        false => Err(Failure::transient(format!("cannot restart {own} before every other server can vote"))
            .observed(ill.join("; "))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actions::testing::{NEW, Scene};

    fn into_new() -> RestartUnit {
        RestartUnit { version: Param::Known(NEW.to_owned()), later: Param::default() }
    }

    fn installed() -> Scene {
        let scene = Scene::new();
        scene.survey("server-0", |survey| survey.installed = NEW.to_owned());
        scene
    }

    #[tokio::test(start_paused = true)]
    async fn restarting_is_idempotent() {
        installed().on("server-0", into_new()).idempotent().await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_is_not_restarted_before_every_other_one_votes() {
        let scene = installed();
        scene.survey("server-2", |survey| survey.members[2].learner = true);
        let failure = scene.on("server-0", into_new()).failure_of_apply().await;
        assert_eq!(failure.class, rke2flow_engine::action::FailureClass::Transient);
        assert!(failure.observed.contains("server-2: it is a learner"), "{failure}");
        assert!(scene.change(|state| state.changes.is_empty()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_is_not_restarted_into_what_is_not_installed() {
        let failure = Scene::new().on("server-0", into_new()).failure_of_apply().await;
        assert!(failure.what.contains("is installed"), "{failure}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_restart_that_hangs_is_ordered_again_by_the_next_attempt() {
        let scene = installed();
        scene.survey("server-0", |survey| survey.unit = "activating".to_owned());
        let mut bench = scene.on("server-0", into_new());
        assert!(matches!(bench.probe().await, Probe::InProgress(_)));
        bench.context.attempt = 2;
        assert!(bench.pending().await.contains("an earlier attempt"));
        scene.survey("server-0", |survey| survey.unit_restarts = 1);
        assert!(matches!(bench.probe().await, Probe::InProgress(_)), "systemd is trying already");
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_node_told_before_its_restart_counts_for_nothing() {
        let scene = installed();
        scene.edit("/api/v1/nodes/server-0", |node| node["status"]["nodeInfo"]["kubeletVersion"] = NEW.into());
        scene.survey("server-0", |survey| survey.unit_active_since = survey.epoch);
        assert!(matches!(scene.on("server-0", into_new()).probe().await, Probe::InProgress(_)));
    }
}
