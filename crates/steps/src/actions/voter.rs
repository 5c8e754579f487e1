//! Voter: the server is a voting, healthy member of etcd and its API server is ready.

use async_trait::async_trait;
use rke2flow_engine::action::{ActionInfo, Context, Failure, Place, Probe};
use rke2flow_engine::duration::Span;
use rke2flow_engine::id::HostName;
use rke2flow_engine::value::Param;
use serde::{Deserialize, Serialize};
use std::time::Duration;

use crate::actions::start_unit::on_its_way;
use crate::actions::{Goal, World, host_of, info, unless_missing};
use crate::answer::{Member, Survey};

/// Goal: the server is a voting, healthy member of etcd and its API server is ready.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Voter {
    /// How long it must stay so.
    #[serde(default)]
    pub steady: Param<Span>,
}

#[async_trait]
impl Goal for Voter {
    const INFO: ActionInfo = ActionInfo {
        changes: false,
        ..info("Voter", "the server is a voting, healthy member of etcd and its API server is ready", Place::Host, 30)
    };

    async fn probe(&self, world: &World, context: &Context) -> Result<Probe, Failure> {
        let (host, survey) = (host_of(context)?, world.survey(context).await?);
        if survey.unit == "activating" {
            return Ok(Probe::InProgress(on_its_way(world, host, &survey).await));
        }
        let mut lacks = lacks(host, &survey);
        lacks.extend(strangers(world, host, &survey).await);
        Ok(unless_missing(lacks))
    }

    fn steady(&self) -> Duration {
        self.steady.get().map(|span| span.get()).unwrap_or_default()
    }
}

/// What a server lacks to be a healthy voter, in its own words: the API's condition EtcdIsVoter is stale after a
/// restore (k3s#9048).
pub(crate) fn lacks(host: &HostName, survey: &Survey) -> Vec<String> {
    let mut lacks = Vec::new();
    if survey.unit != "active" {
        lacks.push(format!("{host}: the unit is {}", if survey.unit.is_empty() { "missing" } else { &survey.unit }));
    }
    match survey.members.iter().find(|member| is_member_of(&member.name, host)) {
        None if survey.members.is_empty() => lacks.push(format!("{host}: its supervisor tells of no etcd members")),
        None => lacks.push(format!("{host}: it is no member of etcd")),
        Some(member) if member.learner => lacks.push(format!("{host}: it is a learner of etcd, without a vote")),
        Some(_) => {}
    }
    if survey.etcd_health != "true" {
        lacks.push(format!("{host}: etcd's health is `{}`", survey.etcd_health));
    }
    if survey.readyz != "ok" {
        lacks.push(format!("{host}: /readyz says `{}`", survey.readyz));
    }
    lacks
}

/// Servers that answer and do not know this member: then there are two control planes, and each praises itself.
async fn strangers(world: &World, host: &HostName, survey: &Survey) -> Vec<String> {
    let Some(own) = survey.members.iter().find(|member| is_member_of(&member.name, host)) else { return Vec::new() };
    let others = world.surveys(world.servers().filter(|server| server.name != *host)).await;
    let told = others.into_iter().filter_map(|(server, survey)| Some((server, survey.ok()?.members)));
    let knows = |members: &[Member]| members.is_empty() || members.iter().any(|member| member.name == own.name);
    let strangers = told.filter(|(_, members)| !knows(members));
    strangers
        .map(|(server, _)| format!("{} has an etcd without {}: two control planes", server.name, own.name))
        .collect()
}

/// Members are named `<node>-<8 hex>` (K3S pkg/etcd/etcd.go).
pub(crate) fn is_member_of(member: &str, host: &HostName) -> bool {
    member.rsplit_once('-').is_some_and(|(node, _)| node == host.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actions::testing::Scene;

    fn voter() -> Voter {
        Voter { steady: Param::default() }
    }

    #[tokio::test(start_paused = true)]
    async fn a_healthy_voter_is_one() {
        Scene::new().on("server-1", voter()).satisfied().await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_learner_a_stranger_and_an_ill_server_are_no_voters() {
        let scene = Scene::new();
        scene.survey("server-1", |survey| survey.members[1].learner = true);
        assert_eq!(scene.on("server-1", voter()).pending().await, "server-1: it is a learner of etcd, without a vote");
        scene.survey("server-1", |survey| drop(survey.members.remove(1)));
        assert_eq!(scene.on("server-1", voter()).pending().await, "server-1: it is no member of etcd");
        scene.survey("server-2", |survey| (survey.etcd_health, survey.readyz) = ("false".to_owned(), String::new()));
        let why = scene.on("server-2", voter()).pending().await;
        assert_eq!(why, "server-2: etcd's health is `false`; server-2: /readyz says ``");
    }

    #[tokio::test(start_paused = true)]
    async fn a_voter_of_another_control_plane_is_none() {
        let scene = Scene::new();
        scene.survey("server-0", |survey| survey.members.truncate(1));
        let why = scene.on("server-1", voter()).pending().await;
        assert!(why.starts_with("server-0 has an etcd without server-1-"), "{why}");
        scene.survey("server-0", |survey| survey.members.clear());
        scene.on("server-1", voter()).satisfied().await;
    }

    #[test]
    fn a_member_belongs_to_the_node_of_its_whole_name() {
        let host = |name: &str| HostName::new(name).unwrap();
        assert!(is_member_of("server-1-0a1b2c3d", &host("server-1")));
        assert!(!is_member_of("server-1-0a1b2c3d", &host("server")));
        assert!(!is_member_of("server-10-0a1b2c3d", &host("server-1")));
    }
}
