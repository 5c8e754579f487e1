//! Rejoinable: these hosts may be cleaned and joined anew, and the others are a healthy cluster without them.

use async_trait::async_trait;
use rke2flow_engine::action::{ActionInfo, Context, Failure, FailureClass, Place, Probe};
use rke2flow_engine::cluster::{Host, Role};
use rke2flow_engine::id::HostName;
use rke2flow_engine::value::{FactSpec, Facts, Param, ValueType};
use serde::{Deserialize, Serialize};

use crate::actions::node_ready::staleness;
use crate::actions::voter::{is_member_of, lacks};
use crate::actions::{Goal, LEASE_FRESH, World, info, known, stamp};
use crate::answer::{LostMark, Survey};
use crate::kinds::{Lease, Node};

/// Goal: these hosts may be cleaned and joined anew, and the others are a healthy cluster without them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rejoinable {
    /// The hosts that are going to be cleaned.
    pub hosts: Param<Vec<String>>,
}

#[async_trait]
impl Goal for Rejoinable {
    const INFO: ActionInfo = ActionInfo {
        facts: &[
            FactSpec { name: "server", kind: ValueType::Text },
            FactSpec { name: "version", kind: ValueType::Version },
            FactSpec { name: "found", kind: ValueType::Text },
        ],
        changes: false,
        ..info(
            "Rejoinable",
            "these hosts may be cleaned and joined anew, and the others are a healthy cluster without them",
            Place::Operator,
            5,
        )
    };

    async fn probe(&self, world: &World, _context: &Context) -> Result<Probe, Failure> {
        let hosts = known(&self.hosts)?;
        if hosts.is_empty() {
            return Err(refused("no host is named").next("name it with --set host=HOST"));
        }
        let alive = world.cluster().hosts.iter().filter(|host| !world.access().lost.contains(&host.name));
        let surveys = world.surveys(alive).await;
        let marks: Vec<LostMark> = surveys
            .iter()
            .filter_map(|(_, survey)| survey.as_ref().ok())
            .flat_map(|found| found.lost.clone())
            .collect();
        let is_named = |name: &HostName| hosts.iter().any(|host| host == name.as_str());
        let (named, others): (Vec<_>, Vec<_>) = surveys.into_iter().partition(|(host, _)| is_named(&host.name));
        let (server, survey) = quorum(&others, &marks)?;
        let version = version(world, server).await?;
        let mut found = Vec::new();
        for (host, own) in &named {
            let own = own.as_ref().map_err(Clone::clone)?;
            let mark = marks.iter().find(|mark| mark.host == host.name.as_str());
            if mark.is_none() && is_healthy(world, host, own, survey, server).await? {
                return Err(refused(format!("{} is a healthy member of the cluster", host.name))
                    .observed("it is not marked as lost, and it answers as it should")
                    .next("rke2flow run health"));
            }
            found.push(describe(host, own, mark));
        }
        Ok(Probe::Satisfied(Facts::from([
            ("server".to_owned(), server.as_str().into()),
            ("version".to_owned(), version.into()),
            ("found".to_owned(), found.join("; ").into()),
        ])))
    }
}

fn refused(what: impl Into<String>) -> Failure {
    Failure::of(FailureClass::Refused, what)
}

type Surveyed<'a> = (&'a Host, Result<Survey, Failure>);

/// A healthy server that nobody counts as lost, when the healthy ones are a majority of its etcd's voters.
fn quorum<'a>(others: &'a [Surveyed<'a>], marks: &[LostMark]) -> Result<(&'a HostName, &'a Survey), Failure> {
    let is_marked = |name: &HostName| marks.iter().any(|mark| mark.host == name.as_str());
    let mut ill = Vec::new();
    let mut healthy: Vec<(&HostName, &Survey)> = Vec::new();
    for (host, survey) in others.iter().filter(|(host, _)| host.role == Role::Server) {
        match survey {
            _ if is_marked(&host.name) => ill.push(format!("{} is marked as lost itself", host.name)),
            Ok(survey) if lacks(&host.name, survey).is_empty() => healthy.push((&host.name, survey)),
            Ok(survey) => ill.extend(lacks(&host.name, survey)),
            Err(failure) => ill.push(failure.to_string()),
        }
    }
    let Some((server, survey)) = healthy.first().copied() else {
        return Err(refused("no other server is a healthy member of etcd").observed(ill.join("; ")));
    };
    let voters = survey.members.iter().filter(|member| !member.learner);
    let voters: Vec<&str> = voters.map(|member| member.name.as_str()).collect();
    let counted = healthy.iter().filter(|(name, _)| voters.iter().any(|voter| is_member_of(voter, name))).count();
    if counted * 2 <= voters.len() {
        let what = format!("only {counted} of etcd's {} voters are healthy without these hosts", voters.len());
        return Err(refused(what).observed(ill.join("; ")));
    }
    Ok((server, survey))
}

/// What the cluster runs: a host that comes back with another version is not what it was.
async fn version(world: &World, server: &HostName) -> Result<String, Failure> {
    let node = world.objects().of_server(server).get::<Node>(&Node::path(server.as_str())).await?;
    let node = node.ok_or_else(|| Failure::transient(format!("the API has no node {server}")))?;
    Ok(node.version().to_owned())
}

/// Whether a host is what it should be already: cleaning it would only do harm.
async fn is_healthy(
    world: &World,
    host: &Host,
    own: &Survey,
    survey: &Survey,
    server: &HostName,
) -> Result<bool, Failure> {
    if host.role == Role::Server {
        let member = own.members.iter().find(|member| is_member_of(&member.name, &host.name));
        let known = member.is_some_and(|own| survey.members.iter().any(|member| member.name == own.name));
        return Ok(known && lacks(&host.name, own).is_empty());
    }
    let objects = world.objects().of_server(server);
    let lease: Option<Lease> = objects.get(&Lease::path(host.name.as_str())).await?;
    let node: Option<Node> = objects.get(&Node::path(host.name.as_str())).await?;
    let fresh = staleness(lease.as_ref(), stamp(own.epoch - LEASE_FRESH.as_secs() as i64)).is_none();
    Ok(own.unit == "active" && fresh && node.is_some_and(|node| node.said_ready()))
}

fn describe(host: &Host, own: &Survey, mark: Option<&LostMark>) -> String {
    let why = match mark {
        Some(mark) => format!("lost since run {}", mark.run),
        None => "not healthy".to_owned(),
    };
    let has = if own.etcd_member { ", has data of etcd" } else { "" };
    let unit = if own.unit.is_empty() { "missing" } else { own.unit.as_str() };
    format!("{} ({why}; its unit is {unit}{has})", host.name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actions::testing::{NOW, OLD, Scene, lease};

    fn rejoin(hosts: &[&str]) -> Rejoinable {
        Rejoinable { hosts: Param::Known(hosts.iter().map(|name| (*name).to_owned()).collect()) }
    }

    fn mark(host: &str) -> LostMark {
        LostMark { host: host.to_owned(), run: "261101-0000-aaaa".to_owned(), since: NOW }
    }

    async fn refusal(scene: &Scene, hosts: &[&str]) -> Failure {
        let failure = scene.on("operator", rejoin(hosts)).failure().await;
        assert_eq!(failure.class, FailureClass::Refused, "{failure}");
        failure
    }

    #[tokio::test(start_paused = true)]
    async fn a_healthy_member_is_refused_and_one_that_is_marked_is_not() {
        let scene = Scene::new();
        assert!(refusal(&scene, &["server-0"]).await.what.contains("server-0 is a healthy member"));
        assert!(refusal(&scene, &["agent-0"]).await.what.contains("agent-0 is a healthy member"));
        scene.survey("server-1", |survey| survey.lost = vec![mark("server-0"), mark("agent-0")]);
        let facts = scene.on("operator", rejoin(&["server-0", "agent-0"])).satisfied().await;
        assert_eq!((facts["server"].as_str(), facts["version"].as_str()), (Some("server-1"), Some(OLD)));
        assert!(facts["found"].to_string().contains("server-0 (lost since run 261101-0000-aaaa"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_member_of_another_control_plane_and_a_silent_agent_are_not_healthy() {
        let scene = Scene::new();
        scene.survey("server-2", |survey| survey.members[2].name = "server-2-00000000".to_owned());
        scene.on("operator", rejoin(&["server-2"])).satisfied().await;
        scene.put(&Lease::path("agent-0"), lease(NOW - 300));
        scene.on("operator", rejoin(&["agent-0"])).satisfied().await;
    }

    #[tokio::test(start_paused = true)]
    async fn the_others_must_have_a_quorum_and_must_not_be_lost_themselves() {
        let scene = Scene::new();
        scene.kill(&["server-1"]);
        let failure = refusal(&scene, &["server-2"]).await;
        assert_eq!(failure.what, "only 1 of etcd's 3 voters are healthy without these hosts");
        let scene = Scene::new();
        // Who cleans the restored server because two lost ones are back and praise each other would lose the cluster.
        scene.survey("server-0", |survey| survey.lost = vec![mark("server-1"), mark("server-2")]);
        let failure = refusal(&scene, &["server-0"]).await;
        assert!(failure.observed.contains("server-1 is marked as lost itself"), "{failure}");
    }
}
