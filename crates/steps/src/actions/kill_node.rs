//! KillNode: nothing of the node runs: unit, containers, ports.

use async_trait::async_trait;
use rke2flow_engine::action::{ActionInfo, Applied, Context, Disruption, Failure, Place, Probe};
use rke2flow_engine::duration::Span;
use rke2flow_engine::value::Param;
use serde::{Deserialize, Serialize};

use crate::actions::{Goal, World, info, known, unless_missing};
use crate::answer::Survey;
use crate::command::Change;

/// Goal: nothing of the node runs: unit, containers, ports.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KillNode {
    /// Between SIGTERM to the containers' processes and the hard kill.
    #[serde(default = "default_grace")]
    pub grace: Param<Span>,
}

#[async_trait]
impl Goal for KillNode {
    const INFO: ActionInfo = ActionInfo {
        stops_etcd_member: true,
        disrupts: Disruption::Kills,
        ..info("KillNode", "nothing of the node runs: unit, containers, ports", Place::Host, 20)
    };

    async fn probe(&self, world: &World, context: &Context) -> Result<Probe, Failure> {
        let survey = world.survey(context).await?;
        let mut running = what_runs(&survey);
        // What an older run has begun goes on without it: a reset would bring up what is to be down.
        let own = format!("rke2flow-{}-", context.run);
        let older = survey.our_units.iter().filter(|unit| !unit.starts_with(&own));
        running.extend(older.map(|unit| format!("{unit} of an older run still works")));
        Ok(unless_missing(running))
    }

    async fn apply(&self, world: &World, context: &Context) -> Result<Applied, Failure> {
        let grace_seconds = u32::try_from(known(&self.grace)?.get().as_secs()).unwrap_or(u32::MAX);
        world.order(context, Change::KillNode { grace_seconds }).await
    }
}

/// What of a node still runs. Containers outlive the unit (R2#963), so the unit alone proves nothing.
pub(crate) fn what_runs(survey: &Survey) -> Vec<String> {
    let mut running = Vec::new();
    if !matches!(survey.unit.as_str(), "inactive" | "failed" | "") {
        running.push(format!("the unit is {}", survey.unit));
    }
    if survey.shims > 0 {
        running.push(format!("{} containers run", survey.shims));
    }
    if !survey.open_ports.is_empty() {
        let ports = survey.open_ports.iter().map(u16::to_string).collect::<Vec<_>>();
        running.push(format!("somebody listens on {}", ports.join(", ")));
    }
    // A manifest that is left would be started again by the next kubelet, before anything else is.
    let control_plane = |name: &&String| name.starts_with("etcd") || name.starts_with("kube-apiserver");
    running.extend(survey.static_pods.iter().filter(control_plane).map(|name| format!("{name} is still there")));
    running
}

fn default_grace() -> Param<Span> {
    Param::Known(Span::from_secs(10))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actions::testing::Scene;

    #[tokio::test(start_paused = true)]
    async fn a_node_on_which_an_older_run_still_works_is_not_down() {
        let scene = Scene::new();
        scene.kill(&["server-0"]);
        let older = "rke2flow-261101-0000-aaaa-0123abcd-a1.service".to_owned();
        scene.survey("server-0", |survey| survey.our_units = vec![older]);
        let why = scene.on("server-0", KillNode { grace: default_grace() }).pending().await;
        assert!(why.contains("of an older run still works"), "{why}");
    }

    #[tokio::test(start_paused = true)]
    async fn killing_is_idempotent() {
        Scene::new().on("server-0", KillNode { grace: default_grace() }).idempotent().await;
        Scene::new().on("agent-0", KillNode { grace: default_grace() }).idempotent().await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_stopped_unit_is_not_a_dead_node_while_its_containers_run() {
        let scene = Scene::new();
        scene.kill(&["server-0"]);
        scene.survey("server-0", |survey| survey.shims = 7);
        let bench = scene.on("server-0", KillNode { grace: default_grace() });
        assert_eq!(bench.pending().await, "7 containers run");
        scene.survey("server-0", |survey| (survey.shims, survey.open_ports) = (0, vec![2379]));
        assert_eq!(bench.pending().await, "somebody listens on 2379");
        scene.survey("server-0", |survey| {
            (survey.open_ports, survey.static_pods) = (vec![], vec!["etcd.yaml".to_owned()])
        });
        assert_eq!(bench.pending().await, "etcd.yaml is still there");
    }
}
