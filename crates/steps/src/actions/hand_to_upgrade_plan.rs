//! HandToUpgradePlan: the system-upgrade-controller has put this version on the node and told it to restart.

use std::time::Duration;

use async_trait::async_trait;
use rke2flow_engine::action::{ActionInfo, Applied, Context, Disruption, Failure, FailureClass, Place, Probe};
use rke2flow_engine::cluster::Role;
use rke2flow_engine::value::Param;
use serde::{Deserialize, Serialize};

use crate::actions::cordon::node;
use crate::actions::hop::Hop;
use crate::actions::restart_unit::wait_for_quorum_without;
use crate::actions::take_from_upgrade_plan::take_back;
use crate::actions::upgrade_job::{self, Work};
use crate::actions::upgrade_plan::{handing, is_handed, of_host};
use crate::actions::{Goal, World, host_of, info, noted, stamp};
use crate::kinds::{Node, UpgradePlan};

/// Goal: the system-upgrade-controller has put this version on the node and told it to restart.
///
/// Whether the node is well afterwards is for `RestartUnit`, `RunningVersion` and `Voter` to say: the controller's own
/// word says no more than that a process was told to end (SUC#163, #169, #256).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HandToUpgradePlan {
    /// `v1.33.4+rke2r1`: what the Plan is pinned to.
    pub version: Param<String>,
    /// Releases of later rounds of the same run: what runs one of them has this one behind it.
    #[serde(default)]
    pub later: Param<Vec<String>>,
}

#[async_trait]
impl Goal for HandToUpgradePlan {
    const INFO: ActionInfo = ActionInfo {
        stops_etcd_member: true,
        disrupts: Disruption::Restarts,
        ..info(
            "HandToUpgradePlan",
            "the system-upgrade-controller has put this version on the node and told it to restart",
            Place::Host,
            60,
        )
    };

    async fn probe(&self, world: &World, context: &Context) -> Result<Probe, Failure> {
        Ok(match self.look(world, context).await? {
            Seen::Done => Probe::satisfied(),
            Seen::NotHanded(why) | Seen::Stuck(why) | Seen::Failed(why) => Probe::Pending(why),
            Seen::NoJob(why) | Seen::OnItsWay(why) | Seen::Replaces(why) => Probe::InProgress(why),
        })
    }

    async fn apply(&self, world: &World, context: &Context) -> Result<Applied, Failure> {
        let own = host_of(context)?;
        let Some(plan) = of_host(world, context).await? else {
            return Err(Failure::permanent(format!(
                "there is no Plan of run {} that {own} could be handed to",
                context.run
            )));
        };
        let node = node(world, context).await?;
        if !is_handed(&node, &plan.metadata.name) {
            if world.entry(own)?.role == Role::Server {
                wait_for_quorum_without(world, own).await?;
            }
            let change = handing(&node, &plan.metadata.name, &context.run);
            world.changes(context).patch(&Node::path(own.as_str()), &node.metadata, change).await?;
        }
        self.follow(world, context).await
    }
}

/// How long a job may be stuck before its node is taken back: a registry may have a bad minute.
const STUCK_LIMIT: Duration = Duration::from_secs(120);
/// How long the controller may take to begin a job for a node that it was handed.
const JOB_LIMIT: Duration = Duration::from_secs(180);
/// What is kept of an attempt's time to take the node back.
const TAKING_BACK: Duration = Duration::from_secs(60);
/// Between two looks.
const POLL: Duration = Duration::from_secs(3);
/// How long after the job's end a process that was told to end may still be there.
const RESTART_SECONDS: i64 = 60;

/// What a look at the node, its host and its job has shown.
enum Seen {
    /// The version is on the disk, and the process that ran before is gone or was told to go.
    Done,
    NotHanded(String),
    NoJob(String),
    OnItsWay(String),
    Replaces(String),
    Stuck(String),
    Failed(String),
}

impl HandToUpgradePlan {
    /// The host's own word comes first: a server that restarts takes its API server along.
    async fn look(&self, world: &World, context: &Context) -> Result<Seen, Failure> {
        let (own, hop) = (host_of(context)?, Hop::of(&self.version, &self.later)?);
        let version = hop.version;
        let survey = world.survey(context).await?;
        let installed = hop.is_reached_by(&survey.installed);
        if installed && survey.unit != "active" {
            return Ok(Seen::Done);
        }
        let node = node(world, context).await?;
        if installed && hop.is_reached_by(node.version()) {
            return Ok(Seen::Done);
        }
        let Some(plan) = of_host(world, context).await? else {
            return Ok(Seen::NotHanded("there is no Plan that the node could be handed to".to_owned()));
        };
        let (work, jobs) = upgrade_job::look(world, &plan, &node, own).await?;
        let begun = jobs.iter().filter_map(|job| job.metadata.creation_timestamp).max();
        if installed && begun.is_some_and(|begun| stamp(survey.unit_begun_since) > begun) {
            return Ok(Seen::Done);
        }
        let why = |what: &str| format!("{what} (Plan {}, the disk has {})", plan.metadata.name, survey.installed);
        Ok(match work {
            Work::Complete(since) if installed => {
                let late = since.is_none_or(|since| survey.epoch - since.as_second() > RESTART_SECONDS);
                // It was cut off between the two things it does, and does the second one never again ("binary already
                // been replaced", rke2-upgrade scripts/upgrade.sh): `RestartUnit` does it.
                if late {
                    Seen::Done
                } else {
                    Seen::OnItsWay("the job is complete, the process has not ended yet".to_owned())
                }
            }
            Work::Complete(_) => return Err(not_replaced(&plan, &survey.installed, version)),
            _ if !is_handed(&node, &plan.metadata.name) => Seen::NotHanded(why("the node is not handed over")),
            Work::Missing => Seen::NoJob(why("the controller has not begun")),
            Work::Waits(what) => Seen::OnItsWay(what),
            Work::Replaces(what) => Seen::Replaces(what),
            Work::Stuck(what) => Seen::Stuck(what),
            Work::Failed(what) => Seen::Failed(what),
        })
    }

    /// Follows the job to its end. One that does not go on is taken away and its node taken back, so that nothing
    /// happens to the node later, when nobody looks.
    async fn follow(&self, world: &World, context: &Context) -> Result<Applied, Failure> {
        let (own, clock) = (host_of(context)?, &context.clock);
        let mut patience = Patience::default();
        loop {
            let looked = self.look(world, context).await;
            let left = clock.left_until(context.deadline).saturating_sub(TAKING_BACK);
            match (looked, left.is_zero()) {
                (Ok(Seen::Done), _) => {
                    return Ok(noted("the controller has replaced the binary and told the node to restart"));
                }
                (Err(failure), _) if failure.class != FailureClass::Transient => return Err(failure),
                (Err(failure), true) => return Err(failure),
                (Ok(Seen::Replaces(why)), true) => {
                    return Err(Failure::transient(format!(
                        "the job on {own} has not ended, and cutting it off could leave half a binary"
                    ))
                    .observed(why));
                }
                (Ok(seen), out_of_time) => {
                    let (why, given_up) = patience.judge(&seen, clock.elapsed());
                    if given_up || out_of_time {
                        take_back(world, context).await?;
                        let what = format!(
                            "the controller does not get on with {own}: its job was deleted and the node taken back"
                        );
                        return Err(Failure::transient(what).observed(why));
                    }
                    context.progress.say(&why);
                }
                (Err(failure), false) => context.progress.say(&failure.to_string()),
            }
            clock.sleep(POLL).await;
        }
    }
}

/// Since when nothing goes on, and how long that may last.
#[derive(Default)]
struct Patience {
    since: Option<Duration>,
}

impl Patience {
    /// What was seen in words, and whether it is given up now.
    fn judge(&mut self, seen: &Seen, now: Duration) -> (String, bool) {
        let (why, limit) = match seen {
            Seen::Failed(why) => (why, Duration::ZERO),
            Seen::Stuck(why) => (why, STUCK_LIMIT),
            Seen::NoJob(why) | Seen::NotHanded(why) => (why, JOB_LIMIT),
            Seen::OnItsWay(why) | Seen::Replaces(why) => {
                self.since = None;
                return (why.clone(), false);
            }
            Seen::Done => return (String::new(), false),
        };
        let since = *self.since.get_or_insert(now);
        (why.clone(), now.saturating_sub(since) >= limit)
    }
}

fn not_replaced(plan: &UpgradePlan, installed: &str, version: &str) -> Failure {
    let name = &plan.metadata.name;
    Failure::permanent(format!("the job of Plan {name} says that it is done, and {version} is not on the disk"))
        .observed(format!(
            "`--version` says {installed}; the job replaces the binary that the process was started from"
        ))
        .next("rke2flow run upgrade")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actions::testing::suc::{self, Controller};
    use crate::actions::testing::{NEW, OLD, RUN, Scene};
    use crate::actions::uncordon::Uncordon;
    use crate::actions::upgrade_plan::HANDED;

    fn hand() -> HandToUpgradePlan {
        HandToUpgradePlan { version: Param::Known(NEW.to_owned()), later: Param::default() }
    }

    fn handed(scene: &Scene, host: &str) -> bool {
        scene.object(&format!("/api/v1/nodes/{host}")).unwrap()["metadata"]["labels"][HANDED].is_string()
    }

    #[tokio::test(start_paused = true)]
    async fn handing_a_node_over_is_idempotent() {
        let scene = suc::with_plans(Controller::Works).await;
        scene.on("server-0", hand()).idempotent().await;
        let scene = suc::with_plans(Controller::Works).await;
        scene.on("agent-0", hand()).idempotent().await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_is_handed_over_only_when_every_other_one_can_vote() {
        let scene = suc::with_plans(Controller::Works).await;
        scene.survey("server-1", |survey| survey.members[1].learner = true);
        let failure = scene.on("server-0", hand()).failure_of_apply().await;
        assert!(failure.observed.contains("server-1") && failure.class == FailureClass::Transient, "{failure}");
        assert!(!handed(&scene, "server-0"));
        scene.on("agent-0", hand()).apply().await;
    }

    #[tokio::test(start_paused = true)]
    async fn an_image_that_cannot_be_pulled_is_named_and_the_node_is_as_it_was() {
        let scene = suc::with_plans(Controller::CannotPull).await;
        let failure = scene.on("server-0", hand()).failure_of_apply().await;
        assert!(failure.observed.contains("ImagePullBackOff"), "{failure}");
        let node = scene.object("/api/v1/nodes/server-0").unwrap();
        assert!(!handed(&scene, "server-0") && node["spec"]["unschedulable"] != true, "{node}");
        assert!(node["metadata"]["annotations"]["rke2flow.io/cordoned"].is_null(), "{node}");
        assert!(suc::jobs(&scene).is_empty(), "the job is left");
    }

    #[tokio::test(start_paused = true)]
    async fn a_controller_that_does_nothing_is_given_up_after_a_while() {
        let scene = suc::with_plans(Controller::Sleeps).await;
        let failure = scene.on("agent-0", hand()).failure_of_apply().await;
        assert!(failure.observed.contains("the controller has not begun"), "{failure}");
        assert!(!handed(&scene, "agent-0"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_job_that_is_complete_is_believed_only_when_the_version_is_on_the_disk() {
        let scene = suc::with_plans(Controller::SaysSo).await;
        let failure = scene.on("agent-0", hand()).failure_of_apply().await;
        assert_eq!(failure.class, FailureClass::Permanent);
        assert!(failure.observed.contains(OLD), "{failure}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_that_was_cordoned_before_stays_so_whatever_the_controller_does() {
        let scene = suc::with_plans(Controller::Works).await;
        scene.edit("/api/v1/nodes/agent-0", |node| node["spec"]["unschedulable"] = true.into());
        scene.on("agent-0", hand()).apply().await;
        assert!(
            scene.object("/api/v1/nodes/agent-0").unwrap()["spec"]["unschedulable"].is_null(),
            "the controller uncordons"
        );
        scene.on("agent-0", Uncordon {}).idempotent().await;
        let node = scene.object("/api/v1/nodes/agent-0").unwrap();
        assert_eq!(node["spec"]["unschedulable"], true);
        assert!(node["metadata"]["annotations"]["rke2flow.io/stays-cordoned"].is_null());
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_plan_of_this_run_nothing_is_handed_over() {
        let failure = suc::scene().on("server-0", hand()).failure_of_apply().await;
        assert!(failure.what.contains(RUN) && failure.class == FailureClass::Permanent, "{failure}");
    }
}
