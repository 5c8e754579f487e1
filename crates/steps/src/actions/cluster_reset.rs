//! ClusterReset: etcd on this server holds the snapshot's data and one member, and has not been started since.

use std::time::Duration;

use async_trait::async_trait;
use rke2flow_engine::action::{ActionInfo, Applied, Context, Failure, FailureClass, Place, Probe};
use rke2flow_engine::id::HostName;
use rke2flow_engine::value::Param;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::actions::{Goal, World, host_of, info, known};
use crate::answer::{ResetState, Survey};
use crate::command::Change;

/// Goal: etcd on this server holds the snapshot's data and one member, and has not been started since.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClusterReset {
    /// Absolute path of the staged, uncompressed snapshot.
    pub snapshot: Param<String>,
    /// Its SHA-256.
    pub sha256: Param<String>,
    /// The version that resets: a newer one would stamp its own etcd's schema on the data; empty: whichever is installed.
    #[serde(default)]
    pub version: Param<String>,
    /// Servers that are lost: every other one must say that it is down.
    #[serde(default)]
    pub lost: Param<Vec<String>>,
}

#[async_trait]
impl Goal for ClusterReset {
    const INFO: ActionInfo = ActionInfo {
        stops_etcd_member: true,
        ..info(
            "ClusterReset",
            "etcd on this server holds the snapshot's data and one member, and has not been started since",
            Place::Host,
            30,
        )
    };

    async fn probe(&self, world: &World, context: &Context) -> Result<Probe, Failure> {
        let survey = world.survey(context).await?;
        let Some(reset) = survey.reset.as_ref().filter(|reset| reset.run == context.run.as_str()) else {
            return Ok(Probe::pending("no reset of this run has begun here"));
        };
        if reset.sha256 != *known(&self.sha256)? {
            return Ok(Probe::Refused {
                expected: "a reset of this run to the chosen snapshot".to_owned(),
                found: format!("this run has already begun a reset to the snapshot {}", reset.sha256),
            });
        }
        Ok(judge(reset, &survey, &context.unit.to_string()))
    }

    async fn apply(&self, world: &World, context: &Context) -> Result<Applied, Failure> {
        let survey = world.survey(context).await?;
        let running = crate::actions::kill_node::what_runs(&survey);
        if !running.is_empty() && survey.reset.as_ref().is_none_or(|reset| reset.run != context.run.as_str()) {
            let what = format!("cannot reset etcd on {} while its node runs", host_of(context)?);
            return Err(Failure::permanent(what).observed(running.join("; ")));
        }
        let version = known(&self.version)?;
        if !version.is_empty() && survey.installed != *version {
            let what = format!("cannot reset etcd on {} by another version than {version}", host_of(context)?);
            return Err(Failure::permanent(what).observed(format!("{} is installed", survey.installed)));
        }
        refuse_two_control_planes(world, host_of(context)?, known(&self.lost)?).await?;
        let (snapshot, sha256) = (known(&self.snapshot)?.clone(), known(&self.sha256)?.clone());
        // A reset whose etcd never gets well has no end of its own: what it says is asked for before the time is up.
        let left = context.deadline.saturating_duration_since(Instant::now());
        let sooner = Context { deadline: context.deadline - (left / 10).min(LOG_TIME), ..context.clone() };
        let reset = world.order(&sooner, Change::ClusterReset { snapshot, sha256 }).await;
        match reset {
            Err(failure) if failure.class == FailureClass::Transient => Err(with_log(world, context, failure).await),
            other => other,
        }
    }
}

/// How long before its deadline a reset that has not ended is given up, to ask for its log; less of a short time.
const LOG_TIME: Duration = Duration::from_secs(10);
/// How many lines of its log are told.
const LOG_LINES: u32 = 30;

/// The same failure with the end of the reset's own log.
async fn with_log(world: &World, context: &Context, failure: Failure) -> Failure {
    let Ok(host) = host_of(context) else { return failure };
    let asked = world.hosts().log(host, context.unit.as_str(), LOG_LINES);
    let log = tokio::time::timeout_at(context.deadline, asked).await;
    match log {
        Ok(Ok(log)) if !failure.observed.contains(log.trim()) => {
            let observed = format!("{}\n{}", failure.observed, log.trim());
            failure.observed(observed)
        }
        _ => failure,
    }
}

/// Past the first normal start a reset is never repeated: it would throw away what the cluster has taken since.
fn judge(reset: &ResetState, survey: &Survey, unit: &str) -> Probe {
    let at_work = survey.our_units.iter().any(|running| running.trim_end_matches(".service") == unit);
    match (reset.proved, reset.started_since) {
        (true, true) => Probe::satisfied(),
        (false, true) => Probe::Refused {
            expected: "a reset that its log proves, or no start of the node since it began".to_owned(),
            found: "the node was started after a reset that is not proved".to_owned(),
        },
        (true, false) if survey.reset_flag && survey.etcd_member => Probe::satisfied(),
        // RKE2 itself removes its flag, and only at a normal start (K3S checkReset).
        (true, false) if !survey.reset_flag => started("the reset flag is gone"),
        (true, false) => Probe::pending("the reset is proved, but its data is missing"),
        (false, false) if at_work => Probe::InProgress("the reset runs".to_owned()),
        (false, false) if !survey.hold => started("the hold that kept the node down since then is gone"),
        (false, false) if !survey.reset_flag && answers(survey) => started("its API or its etcd answers"),
        (false, false) => Probe::pending("a reset of this run began and is not proved"),
    }
}

fn started(found: &str) -> Probe {
    Probe::Refused {
        expected: "no start of the node since the reset began: a second reset would lose what was written since"
            .to_owned(),
        found: found.to_owned(),
    }
}

fn answers(survey: &Survey) -> bool {
    survey.unit == "active" || survey.readyz == "ok" || survey.etcd_health == "true"
}

/// A second control plane that still serves, or that a person has booted in the meantime, would take writes that the
/// restored one does not know. Silence of a server that nobody has declared lost is no proof that it is down.
async fn refuse_two_control_planes(world: &World, own: &HostName, lost: &[String]) -> Result<(), Failure> {
    let is_lost = |name: &HostName| lost.iter().any(|lost| lost == name.as_str());
    let others = world.cluster().servers().filter(|server| server.name != *own && !is_lost(&server.name));
    let (mut alive, mut silent) = (Vec::new(), Vec::new());
    for (server, survey) in world.surveys(others).await {
        match survey {
            Ok(survey) => {
                let running = crate::actions::kill_node::what_runs(&survey);
                alive.extend((!running.is_empty()).then(|| format!("{}: {}", server.name, running.join(", "))));
            }
            Err(failure) => silent.push(failure.to_string()),
        }
    }
    match (alive.is_empty(), silent.is_empty()) {
        (true, true) => Ok(()),
        (false, _) => {
            Err(Failure::permanent("cannot reset etcd while another server is alive").observed(alive.join("; ")))
        }
        (true, false) => {
            let what = "cannot reset etcd while nobody knows whether another server is alive";
            let next = "make it answer, or run the rollback with `--lost HOST` when it is powered off for certain";
            Err(Failure::transient(what).observed(silent.join("; ")).next(next))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actions::testing::{NEW, OLD, RUN, Scene};

    fn reset() -> ClusterReset {
        ClusterReset {
            snapshot: Param::Known("/staged/snapshot".to_owned()),
            sha256: Param::Known("abc".to_owned()),
            version: Param::Known(OLD.to_owned()),
            lost: Param::default(),
        }
    }

    fn dead() -> Scene {
        let scene = Scene::new();
        scene.kill(&["server-0", "server-1", "server-2"]);
        scene
    }

    fn state(proved: bool, started_since: bool) -> Option<ResetState> {
        Some(ResetState { run: RUN.to_owned(), sha256: "abc".to_owned(), proved, started_since })
    }

    #[tokio::test(start_paused = true)]
    async fn a_reset_is_idempotent_until_the_node_starts() {
        dead().on("server-0", reset()).idempotent().await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_reset_is_not_begun_while_another_server_serves() {
        let scene = dead();
        scene.survey("server-2", |survey| survey.open_ports = vec![6443]);
        let failure = scene.on("server-0", reset()).failure_of_apply().await;
        assert!(failure.observed.contains("server-2: somebody listens on 6443"), "{failure}");
        assert_eq!(scene.change(|state| state.hosts["server-0"].survey.reset.clone()), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_reset_is_not_begun_while_its_own_node_runs() {
        let scene = dead();
        scene.survey("server-0", |survey| survey.shims = 3);
        assert_eq!(scene.on("server-0", reset()).failure_of_apply().await.observed, "3 containers run");
    }

    #[tokio::test(start_paused = true)]
    async fn a_flag_without_the_log_proves_nothing() {
        let scene = dead();
        scene.survey("server-0", |survey| {
            (survey.reset, survey.reset_flag, survey.etcd_member) = (state(false, false), true, true);
            survey.hold = true;
        });
        assert_eq!(scene.on("server-0", reset()).pending().await, "a reset of this run began and is not proved");
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_does_not_answer_is_not_taken_for_one_that_is_down_unless_it_is_lost() {
        let scene = dead();
        scene.change(|state| state.hosts.get_mut("server-2").unwrap().silent = true);
        let failure = scene.on("server-0", reset()).failure_of_apply().await;
        assert!(failure.observed.contains("server-2") && failure.next.contains("--lost"), "{failure}");
        let lost = ClusterReset { lost: Param::Known(vec!["server-2".to_owned()]), ..reset() };
        scene.on("server-0", lost).idempotent().await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_was_booted_in_between_stops_the_reset_before_it_listens() {
        let scene = dead();
        scene.survey("server-1", |survey| survey.unit = "activating".to_owned());
        let failure = scene.on("server-0", reset()).failure_of_apply().await;
        assert!(failure.observed.contains("server-1: the unit is activating"), "{failure}");
    }

    #[tokio::test(start_paused = true)]
    async fn the_newer_binary_does_not_reset() {
        let scene = dead();
        scene.survey("server-0", |survey| survey.installed = NEW.to_owned());
        let failure = scene.on("server-0", reset()).failure_of_apply().await;
        assert!(failure.observed.contains(NEW), "{failure}");
        assert_eq!(scene.change(|state| state.hosts["server-0"].survey.reset.clone()), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_reset_that_crashed_is_not_repeated_once_the_node_may_have_run() {
        let crashed = |change: fn(&mut Survey)| {
            let scene = dead();
            scene.survey("server-0", |survey| {
                (survey.reset, survey.etcd_member, survey.hold) = (state(false, false), true, true);
                change(survey);
            });
            scene
        };
        let refused = async |change: fn(&mut Survey)| {
            matches!(crashed(change).on("server-0", reset()).probe().await, Probe::Refused { .. })
        };
        assert!(!refused(|_| ()).await, "nothing has run under the hold");
        assert!(
            !refused(|survey| (survey.reset_flag, survey.etcd_health) = (true, "true".to_owned())).await,
            "its own etcd"
        );
        assert!(refused(|survey| survey.hold = false).await, "somebody has taken the hold away");
        assert!(refused(|survey| survey.readyz = "ok".to_owned()).await, "its API answers");
        assert!(refused(|survey| survey.etcd_health = "true".to_owned()).await, "its etcd answers");
        let proved = |survey: &mut Survey| (survey.reset, survey.etcd_member) = (state(true, false), false);
        assert!(refused(proved).await, "proved, its flag taken away by a start, its data by a person");
    }

    #[tokio::test(start_paused = true)]
    async fn past_the_start_a_reset_is_done_for_good() {
        let scene = dead();
        scene.survey("server-0", |survey| (survey.reset, survey.reset_flag) = (state(true, true), false));
        scene.on("server-0", reset()).satisfied().await;
        scene.survey("server-0", |survey| survey.reset = state(false, true));
        assert!(matches!(scene.on("server-0", reset()).probe().await, Probe::Refused { .. }));
    }

    #[tokio::test(start_paused = true)]
    async fn a_reset_of_another_run_or_snapshot_is_not_ours() {
        let scene = dead();
        let other = ResetState { run: "261101-0000-aaaa".to_owned(), ..state(true, false).unwrap() };
        scene.survey("server-0", |survey| {
            (survey.reset, survey.reset_flag, survey.etcd_member) = (Some(other), true, true);
        });
        scene.on("server-0", reset()).pending().await;
        let other = ResetState { sha256: "other".to_owned(), ..state(true, false).unwrap() };
        scene.survey("server-0", |survey| survey.reset = Some(other));
        assert!(matches!(scene.on("server-0", reset()).probe().await, Probe::Refused { .. }));
    }
}
