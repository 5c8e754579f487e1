//! JoinCluster: the node's unit is active as a part of the restored cluster.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use rke2flow_engine::action::{ActionInfo, Applied, Context, Failure, Place, Probe};
use rke2flow_engine::cluster::Role;
use rke2flow_engine::id::HostName;
use rke2flow_engine::value::{FactSpec, Param, ValueType};
use serde::{Deserialize, Serialize};

use crate::actions::start_unit::{on_its_way, started_at};
use crate::actions::voter::is_member_of;
use crate::actions::{Goal, World, host_of, info, noted, restored};
use crate::answer::Survey;
use crate::command::Change;
use crate::kinds::{AnyKind, Meta};

/// Goal: the node's unit is active as a part of the restored cluster.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JoinCluster {
    /// The server that was restored; the cluster file's when empty.
    #[serde(default)]
    pub server: Param<String>,
}

#[async_trait]
impl Goal for JoinCluster {
    const INFO: ActionInfo = ActionInfo {
        facts: &[FactSpec { name: "started_at", kind: ValueType::Time }],
        ..info("JoinCluster", "the node's unit is active as a part of the restored cluster", Place::Host, 60)
    };

    async fn probe(&self, world: &World, context: &Context) -> Result<Probe, Failure> {
        let (host, survey) = (host_of(context)?, world.survey(context).await?);
        Ok(match survey.unit.as_str() {
            "active" => Probe::Satisfied(started_at(&survey)),
            "activating" => match self.obstacle(world, host, &survey).await? {
                Some(obstacle) => Probe::pending(obstacle.to_string()),
                None => Probe::InProgress(on_its_way(world, host, &survey).await),
            },
            _ if survey.hold => Probe::pending("the hold keeps the unit down"),
            "" => Probe::pending("there is no unit"),
            other => Probe::pending(format!("the unit is {other}")),
        })
    }

    async fn apply(&self, world: &World, context: &Context) -> Result<Applied, Failure> {
        let (host, survey) = (host_of(context)?, world.survey(context).await?);
        if survey.hold {
            return Err(Failure::permanent("cannot start the unit while the hold file is there"));
        }
        if matches!(survey.unit.as_str(), "active" | "activating") {
            return match self.obstacle(world, host, &survey).await? {
                Some(Obstacle::Password(secret)) => self.forget_password(world, context, &secret).await,
                Some(Obstacle::Stuck(_)) => {
                    world.order(context, Change::JoinAnew { grace_seconds: GRACE_SECONDS }).await
                }
                None => Ok(noted("it is on its way")),
            };
        }
        let started = world.order(context, Change::StartUnit).await?;
        match self.rejected_soon(world, context).await? {
            Some(secret) => self.forget_password(world, context, &secret).await,
            None => Ok(started),
        }
    }
}

/// Seconds between SIGTERM and killall for a server that never got to serve.
const GRACE_SECONDS: u32 = 5;
/// A learner that the leader has not promoted by then is stalled: the leader itself gives it up after 5 min
/// (K3S pkg/etcd/etcd.go, learnerMaxStallTime).
const STUCK: Duration = Duration::from_secs(300);
/// How often systemd may restart a joining server before its data is taken for the reason.
const RESTARTS_MAX: u32 = 5;
/// How long a started node is watched for the rejection of its password: it comes with its first words.
const WATCH: Duration = Duration::from_secs(20);
/// Between two looks at it.
const LOOK: Duration = Duration::from_secs(2);
/// How many lines of its log are looked at.
const LOG_LINES: u32 = 40;
/// What an agent says again and again whose password is not the one that the cluster remembers (R2#7372).
const REJECTED: &str = "Node password rejected";

/// What does not pass by itself.
enum Obstacle {
    /// The cluster remembers another password of a node of this name.
    Password(Meta),
    /// It does not get a vote.
    Stuck(String),
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Obstacle::Password(secret) => write!(f, "its password is not the one in secret {}", secret.name),
            Obstacle::Stuck(why) => f.write_str(why),
        }
    }
}

impl JoinCluster {
    async fn obstacle(&self, world: &World, host: &HostName, survey: &Survey) -> Result<Option<Obstacle>, Failure> {
        if let Some(secret) = self.rejected(world, host).await? {
            return Ok(Some(Obstacle::Password(secret)));
        }
        let server = world.entry(host)?.role == Role::Server;
        Ok(if server { self.stuck(world, host, survey).await?.map(Obstacle::Stuck) } else { None })
    }

    /// The secret with the password that the cluster remembers, when the node's own log says that it is rejected: the
    /// machine was made anew since the snapshot.
    async fn rejected(&self, world: &World, host: &HostName) -> Result<Option<Meta>, Failure> {
        let unit = world.access().paths.unit(world.entry(host)?.role);
        let log = world.hosts().log(host, &unit, LOG_LINES).await?;
        // What an older start said is not what this one says.
        let of_this_start = log.rfind("Starting ").map_or(log.as_str(), |at| &log[at..]);
        if !of_this_start.contains(REJECTED) {
            return Ok(None);
        }
        let server = restored(world, &self.server)?;
        let found: Option<AnyKind> = world.objects().of_server(&server).get(&secret_path(world, host)).await?;
        Ok(found.map(|secret| secret.metadata))
    }

    async fn rejected_soon(&self, world: &World, context: &Context) -> Result<Option<Meta>, Failure> {
        let host = host_of(context)?;
        context.progress.say("watching the node's first words");
        let until = context.clock.elapsed() + WATCH;
        while context.clock.elapsed() < until {
            // Whatever cannot be looked at for a moment is looked at again by the probe.
            if let Ok(Some(secret)) = self.rejected(world, host).await {
                return Ok(Some(secret));
            }
            if world.survey(context).await.is_ok_and(|survey| survey.unit == "active") {
                return Ok(None);
            }
            context.clock.sleep(LOOK).await;
        }
        Ok(None)
    }

    async fn forget_password(&self, world: &World, context: &Context, secret: &Meta) -> Result<Applied, Failure> {
        let (host, server) = (host_of(context)?, restored(world, &self.server)?);
        world.changes(context).of_server(&server).delete(&secret_path(world, host), secret).await?;
        let text = format!(
            "the cluster had another password of {host}: secret {} (uid {}) was deleted",
            secret.name, secret.uid
        );
        Ok(Applied { attention: vec![text.clone()], ..noted(text) })
    }

    /// Why a joining server has to begin anew. One that has a vote never does: its data is the cluster's.
    async fn stuck(&self, world: &World, host: &HostName, survey: &Survey) -> Result<Option<String>, Failure> {
        let server = restored(world, &self.server)?;
        if server == *host {
            return Ok(None);
        }
        let members = world.hosts().survey(&server).await?.members;
        let own = members.iter().find(|member| is_member_of(&member.name, host));
        let for_seconds = survey.epoch - survey.unit_begun_since;
        Ok(match own {
            _ if members.is_empty() => None,
            Some(member) if !member.learner => None,
            Some(member) if survey.unit_begun_since > 0 && for_seconds >= STUCK.as_secs() as i64 => {
                Some(format!("{} has been a learner without a vote for {for_seconds} s", member.name))
            }
            None if survey.unit_restarts >= RESTARTS_MAX && (survey.etcd_name || survey.etcd_member) => {
                Some(format!("it has data and is no member, and was restarted {} times", survey.unit_restarts))
            }
            _ => None,
        })
    }
}

fn secret_path(world: &World, host: &HostName) -> String {
    world.distribution().node_password(host.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actions::testing::{NOW, Scene};
    use serde_json::json;

    const SECRET: &str = "/api/v1/namespaces/kube-system/secrets/agent-0.node-password.rke2";

    fn join() -> JoinCluster {
        JoinCluster { server: Param::default() }
    }

    fn log(scene: &Scene, host: &str, text: &str) {
        scene.change(|state| state.hosts.get_mut(host).unwrap().log = text.to_owned());
    }

    /// `server-1` began to join so many seconds ago and has no vote.
    fn learner(seconds: i64) -> Scene {
        let scene = Scene::new();
        scene.survey("server-0", |survey| survey.members[1].learner = true);
        scene.survey("server-1", |survey| {
            (survey.unit, survey.unit_begun_since) = ("activating".to_owned(), NOW - seconds);
        });
        scene
    }

    #[tokio::test(start_paused = true)]
    async fn joining_is_idempotent_and_tells_when() {
        let scene = Scene::new();
        scene.kill(&["agent-0"]);
        let facts = scene.on("agent-0", join()).idempotent().await;
        assert_eq!(facts["started_at"], "2026-11-22T02:59:59Z");
    }

    #[tokio::test(start_paused = true)]
    async fn a_password_is_forgotten_only_when_this_start_says_that_it_is_rejected() {
        let scene = Scene::new();
        scene.survey("agent-0", |survey| survey.unit = "activating".to_owned());
        scene.put(SECRET, json!({}));
        log(&scene, "agent-0", "Node password rejected\nStarting rke2-agent.service\nall is well\n");
        let bench = scene.on("agent-0", join());
        assert!(matches!(bench.probe().await, Probe::InProgress(_)));
        bench.apply().await;
        assert!(scene.object(SECRET).is_some());
        log(&scene, "agent-0", "Starting rke2-agent.service\nmsg=\"Node password rejected, duplicate hostname\"\n");
        assert!(bench.pending().await.contains("agent-0.node-password.rke2"));
        bench.apply().await;
        assert_eq!(scene.object(SECRET), None);
        assert!(matches!(bench.probe().await, Probe::InProgress(_)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_learner_begins_anew_after_five_minutes_and_not_before() {
        assert!(matches!(learner(299).on("server-1", join()).probe().await, Probe::InProgress(_)));
        let scene = learner(300);
        let bench = scene.on("server-1", join());
        assert!(bench.pending().await.contains("has been a learner without a vote for 300 s"));
        bench.apply().await;
        let changes = scene.change(|state| state.changes.clone());
        assert_eq!(changes, ["server-1: JoinAnew { grace_seconds: 5 }"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_member_with_a_vote_is_never_cleaned_however_long_it_takes() {
        let scene = learner(9000);
        scene.survey("server-0", |survey| survey.members[1].learner = false);
        scene.survey("server-1", |survey| survey.unit_restarts = 99);
        let bench = scene.on("server-1", join());
        assert!(matches!(bench.probe().await, Probe::InProgress(_)));
        bench.apply().await;
        assert!(scene.change(|state| state.changes.is_empty()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_fails_again_and_again_with_data_of_no_member_begins_anew() {
        let scene = learner(10);
        scene.survey("server-0", |survey| drop(survey.members.remove(1)));
        scene.survey("server-1", |survey| survey.unit_restarts = RESTARTS_MAX);
        assert!(scene.on("server-1", join()).pending().await.contains("is no member"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_held_node_is_not_started() {
        let scene = Scene::new();
        scene.kill(&["agent-0"]);
        scene.survey("agent-0", |survey| survey.hold = true);
        assert!(scene.on("agent-0", join()).failure_of_apply().await.what.contains("hold"));
    }
}
