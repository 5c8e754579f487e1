//! ClusterReset: etcd on this server holds the snapshot's data and one member, and has not been started since.

use async_trait::async_trait;
use rke2flow_engine::action::{ActionInfo, Applied, Context, Failure, Place, Probe};
use rke2flow_engine::id::HostName;
use rke2flow_engine::value::Param;
use serde::{Deserialize, Serialize};

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
        refuse_two_control_planes(world, host_of(context)?).await?;
        let (snapshot, sha256) = (known(&self.snapshot)?.clone(), known(&self.sha256)?.clone());
        world.order(context, Change::ClusterReset { snapshot, sha256 }).await
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
        (true, false) => Probe::pending("the reset is proved, but its data or its flag is missing"),
        (false, false) if at_work => Probe::InProgress("the reset runs".to_owned()),
        (false, false) => Probe::pending("a reset of this run began and is not proved"),
    }
}

/// A second control plane that still serves would take writes that the restored one does not know.
async fn refuse_two_control_planes(world: &World, own: &HostName) -> Result<(), Failure> {
    let others = world.cluster().servers().filter(|server| server.name != *own);
    let mut alive = Vec::new();
    for (server, survey) in world.surveys(others).await {
        // One that does not answer was declared lost, or the kill of it has not been done and the plan waits for it.
        let open = survey.map(|survey| survey.open_ports).unwrap_or_default();
        if !open.is_empty() {
            alive.push(format!("{} listens on {open:?}", server.name));
        }
    }
    match alive.is_empty() {
        true => Ok(()),
        false => Err(Failure::permanent("cannot reset etcd while another server is alive").observed(alive.join("; "))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actions::testing::{RUN, Scene};

    fn reset() -> ClusterReset {
        ClusterReset { snapshot: Param::Known("/staged/snapshot".to_owned()), sha256: Param::Known("abc".to_owned()) }
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
        assert!(failure.observed.contains("server-2 listens on [6443]"), "{failure}");
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
        });
        assert_eq!(scene.on("server-0", reset()).pending().await, "a reset of this run began and is not proved");
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
