//! VotersHealthy: every server is a healthy voter, and there is no other member.

use std::sync::OnceLock;
use std::time::Duration;

use async_trait::async_trait;
use rke2flow_engine::action::{ActionInfo, Context, Failure, Place, Probe};
use rke2flow_engine::cluster::Host;
use rke2flow_engine::duration::Span;
use rke2flow_engine::value::Param;
use serde::{Deserialize, Serialize};

use crate::actions::members::{server, voters};
use crate::actions::{Finding, Goal, World, info, known, unless_missing};

/// Goal: every server is a healthy voter, and there is no other member.
///
/// Each server is asked on its own loopback, this one included: what one server says of another is as old as their
/// last heartbeat. It stands before what takes a voter away, so that no second one is ever taken.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VotersHealthy {
    /// Hosts that are lost: nothing is expected of them.
    #[serde(default)]
    pub lost: Param<Vec<String>>,
    /// How long a voter that is missing is waited for.
    #[serde(default = "five_minutes")]
    pub within: Param<Span>,
    /// When the attempt looked first.
    #[serde(skip)]
    since: OnceLock<Duration>,
}

fn five_minutes() -> Param<Span> {
    Param::Known(Span::from_secs(300))
}

#[async_trait]
impl Goal for VotersHealthy {
    const INFO: ActionInfo = ActionInfo {
        changes: false,
        ..info("VotersHealthy", "every server is a healthy voter, and there is no other member", Place::Anywhere, 2)
    };

    async fn probe(&self, world: &World, context: &Context) -> Result<Probe, Failure> {
        let lost = known(&self.lost)?;
        let is_expected = |host: &&Host| !lost.iter().any(|name| name == host.name.as_str());
        let surveys = world.surveys(world.servers().filter(is_expected)).await;
        let mut findings: Vec<Finding> = surveys.iter().map(|(host, survey)| server(host, survey)).collect();
        findings.push(voters(&surveys));
        let ill: Vec<String> = findings.iter().filter(|found| found.failed()).map(Finding::plain).collect();
        let (now, within) = (context.clock.elapsed(), known(&self.within)?);
        let waited = now.saturating_sub(*self.since.get_or_init(|| now));
        if !ill.is_empty() && waited >= within.get() {
            return Err(given_up(context, *within).observed(ill.join("\n")));
        }
        Ok(unless_missing(ill))
    }
}

/// What a person is told when the wait is over.
fn given_up(context: &Context, within: Span) -> Failure {
    let whom = context.target.host().map_or_else(|| "nothing".to_owned(), ToString::to_string);
    let what = format!("{whom} is not touched: not every server was a healthy voter within {within}");
    Failure::permanent(what).next(format!("bring the voters back, then rke2flow resume {}", context.run))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actions::testing::Scene;

    fn healthy() -> VotersHealthy {
        VotersHealthy { lost: Param::default(), within: five_minutes(), since: OnceLock::new() }
    }

    #[tokio::test(start_paused = true)]
    async fn every_server_must_say_of_itself_that_it_votes() {
        let scene = Scene::new();
        scene.on("server-0", healthy()).satisfied().await;
        scene.survey("server-2", |survey| survey.etcd_health = "false".to_owned());
        let why = scene.on("server-0", healthy()).pending().await;
        assert_eq!(why, "server server-2: etcd's health is `false`");
        let scene = Scene::new();
        scene.survey("server-0", |survey| survey.members[2].learner = true);
        assert!(scene.on("server-0", healthy()).pending().await.contains("is a learner"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_is_silent_is_waited_for_by_name_and_not_for_ever() {
        let scene = Scene::new();
        scene.change(|state| state.hosts.get_mut("server-2").unwrap().silent = true);
        let bench = scene.on("server-1", healthy());
        assert!(bench.pending().await.starts_with("server server-2: cannot reach server-2"));
        tokio::time::advance(Duration::from_secs(299)).await;
        bench.pending().await;
        tokio::time::advance(Duration::from_secs(1)).await;
        let failure = bench.failure().await;
        assert_eq!(failure.what, "server-1 is not touched: not every server was a healthy voter within 5m");
        assert!(failure.observed.contains("server-2") && failure.next.contains("rke2flow resume"), "{failure:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_lost_server_is_not_expected_and_its_member_is_one_too_many() {
        let scene = Scene::new();
        scene.change(|state| state.hosts.get_mut("server-2").unwrap().silent = true);
        let goal = || VotersHealthy { lost: Param::Known(vec!["server-2".to_owned()]), ..healthy() };
        assert!(scene.on("server-0", goal()).pending().await.contains("is a member and no server"));
        for host in ["server-0", "server-1"] {
            scene.survey(host, |survey| survey.members.truncate(2));
        }
        scene.on("server-0", goal()).satisfied().await;
    }
}
