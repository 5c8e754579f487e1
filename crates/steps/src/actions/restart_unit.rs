//! RestartUnit: the node has been restarted into this version.

use async_trait::async_trait;
use rke2flow_engine::action::{ActionInfo, Applied, Context, Failure, Place, Probe};
use rke2flow_engine::cluster::Role;
use rke2flow_engine::id::HostName;
use rke2flow_engine::value::{FactSpec, Param, ValueType};
use serde::{Deserialize, Serialize};

use crate::actions::start_unit::started_at;
use crate::actions::{Goal, World, host_of, info, known, stamp};
use crate::command::Change;

/// Goal: the node has been restarted into this version.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RestartUnit {
    /// `v1.33.4+rke2r1`
    pub version: Param<String>,
}

#[async_trait]
impl Goal for RestartUnit {
    const INFO: ActionInfo = ActionInfo {
        facts: &[FactSpec { name: "started_at", kind: ValueType::Time }],
        stops_etcd_member: true,
        ..info("RestartUnit", "the node has been restarted into this version", Place::Host, 60)
    };

    async fn probe(&self, world: &World, context: &Context) -> Result<Probe, Failure> {
        let version = known(&self.version)?;
        let survey = world.survey(context).await?;
        match survey.unit.as_str() {
            "active" => {}
            "activating" | "deactivating" => return Ok(Probe::InProgress(format!("the unit is {}", survey.unit))),
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
        if node.version() == version {
            return Ok(Probe::Satisfied(started_at(&survey)));
        }
        Ok(Probe::pending(format!("the node runs {}", node.version())))
    }

    async fn apply(&self, world: &World, context: &Context) -> Result<Applied, Failure> {
        let version = known(&self.version)?;
        let own = host_of(context)?;
        let survey = world.survey(context).await?;
        if survey.installed != *version {
            let what = format!("cannot restart {own} into {version}: {} is installed", survey.installed);
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
async fn wait_for_quorum_without(world: &World, own: &HostName) -> Result<(), Failure> {
    let others = world.cluster().servers().filter(|server| server.name != *own);
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
