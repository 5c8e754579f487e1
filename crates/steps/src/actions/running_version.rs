//! RunningVersion: the node runs this version: kubelet, static pods, API server and etcd member.

use async_trait::async_trait;
use rke2flow_engine::action::{ActionInfo, Context, Failure, Place, Probe};
use rke2flow_engine::cluster::Role;
use rke2flow_engine::id::HostName;
use rke2flow_engine::value::Facts;
use rke2flow_engine::value::{FactSpec, Param, ValueType};
use serde::{Deserialize, Serialize};

use crate::actions::hop::Hop;
use crate::actions::node_ready::staleness;
use crate::actions::voter;
use crate::actions::{Goal, LEASE_FRESH, World, host_of, info, stamp, unless_missing};
use crate::answer::Survey;
use crate::kinds::Pod;

/// Goal: the node runs this version: kubelet, static pods, API server and etcd member.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunningVersion {
    /// `v1.33.4+rke2r1`
    pub version: Param<String>,
    /// Releases of later rounds of the same run: what runs one of them has this one behind it.
    #[serde(default)]
    pub later: Param<Vec<String>>,
}

#[async_trait]
impl Goal for RunningVersion {
    const INFO: ActionInfo = ActionInfo {
        facts: &[FactSpec { name: "version", kind: ValueType::Version }],
        changes: false,
        ..info(
            "RunningVersion",
            "the node runs this version: kubelet, static pods, API server and etcd member",
            Place::Host,
            30,
        )
    };

    async fn probe(&self, world: &World, context: &Context) -> Result<Probe, Failure> {
        let (host, hop) = (host_of(context)?, Hop::of(&self.version, &self.later)?);
        let survey = world.hosts().survey(host).await?;
        if survey.unit != "active" {
            let state = if survey.unit.is_empty() { "missing" } else { &survey.unit };
            return Ok(Probe::pending(format!("the unit is {state}")));
        }
        let (node, lease) = match world.node(host).await {
            Ok(seen) => seen,
            Err(failure) => return Ok(Probe::pending(format!("the API does not tell: {failure}"))),
        };
        let Some(node) = node else { return Ok(Probe::pending("the API has no such node")) };
        let fresh = stamp(survey.epoch - LEASE_FRESH.as_secs() as i64).max(stamp(survey.unit_active_since));
        let mut lacks: Vec<String> = staleness(lease.as_ref(), fresh).into_iter().collect();
        // A node of a later hop has to be whole as well: its static pods are compared with what it runs itself.
        let version = if hop.is_behind(node.version()) { node.version() } else { hop.version };
        if node.version() != version {
            lacks.push(format!("the node runs {}", node.version()));
        }
        if !node.said_ready() {
            lacks.push("the node says that it is not ready".to_owned());
        }
        if world.entry(host)?.role == Role::Server {
            lacks.extend(voter::lacks(host, &survey));
            lacks.extend(old_control_plane(world, host, &survey, version).await?);
        }
        Ok(match unless_missing(lacks) {
            Probe::Satisfied(_) => Probe::Satisfied(Facts::from([("version".to_owned(), version.into())])),
            other => other,
        })
    }
}

/// Static pods of Kubernetes itself; etcd and the cloud controller have versions of their own.
const STATIC_PODS: [&str; 3] = ["kube-apiserver", "kube-controller-manager", "kube-scheduler"];

/// What of the control plane is not of this version yet.
async fn old_control_plane(
    world: &World,
    host: &HostName,
    survey: &Survey,
    version: &str,
) -> Result<Vec<String>, Failure> {
    if world.distribution().static_pods {
        return old_static_pods(world, host, version).await;
    }
    // One process has them all; it is asked itself, as the API may be another server's.
    Ok(match survey.api_version.as_str() {
        told if told == version => Vec::new(),
        "" => vec!["its API server does not tell its version".to_owned()],
        told => vec![format!("its API server runs {told}")],
    })
}

/// Static pods that are not of this version yet: the kubelet's version flips before they do (R2#8269).
async fn old_static_pods(world: &World, host: &HostName, version: &str) -> Result<Vec<String>, Failure> {
    // Image tags have no `+`: rancher/hardened-kubernetes:v1.33.4-rke2r1-build20250814.
    let tag = version.replace('+', "-");
    let mut old = Vec::new();
    for name in STATIC_PODS {
        let path = format!("{}/{name}-{host}", Pod::SYSTEM);
        match world.objects().get::<Pod>(&path).await? {
            None => old.push(format!("there is no pod {name}-{host}")),
            Some(pod) => {
                let images = pod.spec.containers.iter().map(|container| container.image.as_str());
                let strange = images.filter(|image| !image.contains(&tag)).map(|image| format!("{name} is {image}"));
                old.extend(strange);
            }
        }
    }
    Ok(old)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actions::testing::{NEW, NOW, OLD, Scene, lease};
    use crate::kinds::Lease;

    fn running(version: &str) -> RunningVersion {
        RunningVersion { version: Param::Known(version.to_owned()), later: Param::default() }
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_runs_what_every_part_of_it_runs() {
        let scene = Scene::new();
        scene.on("server-0", running(OLD)).satisfied().await;
        scene.on("agent-0", running(OLD)).satisfied().await;
        let why = scene.on("agent-0", running(NEW)).pending().await;
        assert_eq!(why, format!("the node runs {OLD}"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_kubelet_beside_old_static_pods_is_half_an_upgrade() {
        let scene = Scene::new();
        scene.edit("/api/v1/nodes/server-0", |node| node["status"]["nodeInfo"]["kubeletVersion"] = NEW.into());
        let why = scene.on("server-0", running(NEW)).pending().await;
        assert!(why.starts_with("kube-apiserver is rancher/hardened-kubernetes:v1.33.4-rke2r1"), "{why}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_of_a_later_hop_is_done_when_all_of_it_is_of_that_hop() {
        let scene = Scene::new();
        let before = RunningVersion {
            version: Param::Known("v1.32.9+rke2r1".to_owned()),
            later: Param::Known(vec![OLD.to_owned(), NEW.to_owned()]),
        };
        assert_eq!(scene.on("server-0", before.clone()).satisfied().await["version"], OLD);
        scene.edit("/api/v1/nodes/server-0", |node| node["status"]["nodeInfo"]["kubeletVersion"] = NEW.into());
        assert!(scene.on("server-0", before).pending().await.starts_with("kube-apiserver is"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_control_plane_inside_of_one_process_is_asked_itself() {
        let scene = Scene::k3s();
        let bench = scene.on("server-0", running(OLD));
        bench.satisfied().await;
        scene.survey("server-0", |survey| survey.api_version = NEW.to_owned());
        assert_eq!(bench.pending().await, format!("its API server runs {NEW}"));
        scene.survey("server-0", |survey| survey.api_version.clear());
        assert_eq!(bench.pending().await, "its API server does not tell its version");
        scene.on("agent-0", running(OLD)).satisfied().await;
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_silent_node_said_last_counts_for_nothing() {
        let scene = Scene::new();
        scene.put(&Lease::path("agent-0"), lease(NOW - 90));
        assert!(scene.on("agent-0", running(OLD)).pending().await.contains("last sign of life"));
    }
}
