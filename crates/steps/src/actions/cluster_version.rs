//! ClusterVersion: every node runs this version, and nothing that rke2flow set aside is left so.

use std::collections::BTreeMap;

use async_trait::async_trait;
use rke2flow_engine::action::{ActionInfo, Context, Failure, Place, Probe};
use rke2flow_engine::value::Param;
use serde::{Deserialize, Serialize};

use crate::actions::cordon::CORDONED;
use crate::actions::hop::Hop;
use crate::actions::{Goal, World, info, unless_missing};
use crate::actions::{unfence, upgrade_plan};
use crate::kinds::Node;

/// Goal: every node runs this version, and nothing that rke2flow set aside is left so.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClusterVersion {
    /// `v1.33.4+rke2r1`
    pub version: Param<String>,
    /// Releases of later rounds of the same run: what runs one of them has this one behind it.
    #[serde(default)]
    pub later: Param<Vec<String>>,
}

#[async_trait]
impl Goal for ClusterVersion {
    const INFO: ActionInfo = ActionInfo {
        changes: false,
        ..info(
            "ClusterVersion",
            "every node runs this version, and nothing that rke2flow set aside is left so",
            Place::Anywhere,
            2,
        )
    };

    async fn probe(&self, world: &World, _context: &Context) -> Result<Probe, Failure> {
        let hop = Hop::of(&self.version, &self.later)?;
        let nodes: Vec<Node> = world.objects().list("/api/v1/nodes").await?.unwrap_or_default();
        let hosts = &world.cluster().hosts;
        let (mut left, mut others) = (Vec::new(), BTreeMap::<&str, Vec<&str>>::new());
        for host in hosts {
            match nodes.iter().find(|node| node.metadata.name == host.name.as_str()) {
                None => left.push(format!("the API has no node {}", host.name)),
                Some(node) if !hop.is_reached_by(node.version()) => {
                    others.entry(node.version()).or_default().push(host.name.as_str());
                }
                Some(_) => {}
            }
        }
        left.extend(others.into_iter().map(|(other, names)| match names.as_slice() {
            [name] => format!("{name} runs {other}"),
            all if all.len() == hosts.len() => format!("all {} nodes run {other}", all.len()),
            some => format!("{} run {other}", some.join(", ")),
        }));
        for node in nodes.iter().filter(|node| node.metadata.annotations.contains_key(CORDONED)) {
            left.push(format!("{} is still cordoned by rke2flow", node.metadata.name));
        }
        left.extend(upgrade_plan::left(world, &nodes).await?);
        let (plans, schedules) = unfence::left(world).await?;
        left.extend(plans.iter().map(|plan| format!("Plan {} is still fenced", plan.metadata.name)));
        left.extend(schedules.iter().map(|schedule| format!("Schedule {} is still paused", schedule.metadata.name)));
        Ok(unless_missing(left))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actions::cordon::Cordon;
    use crate::actions::pause_schedules::PauseSchedules;
    use crate::actions::testing::{NEW, OLD, Scene};
    use serde_json::json;

    fn at(version: &str) -> ClusterVersion {
        ClusterVersion { version: Param::Known(version.to_owned()), later: Param::default() }
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_that_is_a_hop_further_has_this_one_behind_it_and_an_older_or_newer_one_has_not() {
        let scene = Scene::new();
        let hop = |version: &str| ClusterVersion {
            version: Param::Known(version.to_owned()),
            later: Param::Known(vec![NEW.to_owned(), "v1.35.1+rke2r1".to_owned()]),
        };
        let runs = |version: &str| {
            scene.edit("/api/v1/nodes/agent-1", |node| node["status"]["nodeInfo"]["kubeletVersion"] = version.into());
        };
        runs(NEW);
        scene.on("operator", hop(OLD)).satisfied().await;
        for other in ["v1.33.3+rke2r1", "v1.34.9+rke2r1", "v1.36.0+rke2r1"] {
            runs(other);
            assert_eq!(scene.on("operator", hop(OLD)).pending().await, format!("agent-1 runs {other}"));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn one_node_of_another_version_is_enough() {
        let scene = Scene::new();
        scene.on("operator", at(OLD)).satisfied().await;
        scene.edit("/api/v1/nodes/agent-1", |node| node["status"]["nodeInfo"]["kubeletVersion"] = NEW.into());
        assert_eq!(scene.on("server-0", at(OLD)).pending().await, format!("agent-1 runs {NEW}"));
        scene.edit("/api/v1/nodes/agent-0", |node| node["status"]["nodeInfo"]["kubeletVersion"] = NEW.into());
        assert_eq!(scene.on("server-0", at(OLD)).pending().await, format!("agent-0, agent-1 run {NEW}"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_cordon_or_a_fence_that_is_left_is_not_done() {
        let scene = Scene::new();
        scene.on("agent-0", Cordon {}).apply().await;
        assert_eq!(scene.on("operator", at(OLD)).pending().await, "agent-0 is still cordoned by rke2flow");
        let scene = Scene::new();
        scene.put("/apis/velero.io/v1/namespaces/velero/schedules/nightly", json!({ "spec": {} }));
        scene.on("operator", PauseSchedules { wait_for_running: Param::Known(true) }).apply().await;
        assert_eq!(scene.on("operator", at(OLD)).pending().await, "Schedule nightly is still paused");
    }
}
