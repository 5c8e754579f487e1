//! Health: the cluster is healthy: servers, etcd, nodes, system pods, health URLs.

use async_trait::async_trait;
use rke2flow_engine::action::{ActionInfo, Context, Failure, Place, Probe};
use rke2flow_engine::cluster::{Host, Role};
use rke2flow_engine::value::Facts;
use rke2flow_engine::value::{FactSpec, Param, ValueType};
use serde::{Deserialize, Serialize};

use crate::actions::hop::Hop;
use crate::actions::http_check;
use crate::actions::members::{server, voters};
use crate::actions::node_ready::staleness;
use crate::actions::{Clocks, Finding, Goal, LEASE_FRESH, World, info, known, moment, stamp};
use crate::kinds::{Lease, Node, Pod, Workload};

/// Goal: the cluster is healthy: servers, etcd, nodes, system pods, health URLs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Health {
    /// The version that every node must run; empty: any.
    #[serde(default)]
    pub version: Param<String>,
    /// Releases of later rounds of the same run: what runs one of them has this one behind it.
    #[serde(default)]
    pub later: Param<Vec<String>>,
    /// Leases must be renewed after this moment, RFC 3339; empty: within the last minute.
    #[serde(default)]
    pub since: Param<String>,
    /// Hosts that are lost: neither voters nor nodes are expected of them.
    #[serde(default)]
    pub lost: Param<Vec<String>>,
}

#[async_trait]
impl Goal for Health {
    const INFO: ActionInfo = ActionInfo {
        facts: &[FactSpec { name: "checks", kind: ValueType::List }],
        changes: false,
        ..info("Health", "the cluster is healthy: servers, etcd, nodes, system pods, health URLs", Place::Operator, 20)
    };

    async fn probe(&self, world: &World, _context: &Context) -> Result<Probe, Failure> {
        let findings = self.findings(world).await?;
        if findings.iter().any(Finding::failed) {
            return Ok(Probe::Pending(Finding::text(&findings)));
        }
        Ok(Probe::Satisfied(Facts::from([("checks".to_owned(), Finding::fact(&findings))])))
    }
}

impl Health {
    async fn findings(&self, world: &World) -> Result<Vec<Finding>, Failure> {
        let lost = known(&self.lost)?;
        let alive = |host: &&Host| !lost.iter().any(|name| name == host.name.as_str());
        let expected: Vec<&Host> = world.cluster().hosts.iter().filter(alive).collect();
        let mut surveys = world.surveys(expected.iter().copied()).await;
        let clocks = Clocks::of(world, &surveys);
        surveys.retain(|(host, _)| host.role == Role::Server);
        let mut findings: Vec<Finding> = surveys.iter().map(|(host, survey)| server(host, survey)).collect();
        findings.push(voters(&surveys));
        findings.push(match clocks {
            None => Finding::fail("nodes", "no server tells the time"),
            Some(clocks) => match self.nodes(world, &expected, &clocks).await {
                Ok(found) => found,
                Err(failure) => Finding::fail("nodes", failure.to_string()),
            },
        });
        findings.push(match system_pods(world, lost).await {
            Ok(found) => found,
            Err(failure) => Finding::fail("system pods", failure.to_string()),
        });
        for url in &world.cluster().health_urls {
            findings.push(match http_check::ask(world, url).await {
                Ok(answer) => Finding::pass(format!("http {url}"), answer),
                Err(why) => Finding::fail(format!("http {url}"), why),
            });
        }
        Ok(findings)
    }

    /// The exact set of nodes, each Ready by its own fresh word and of the version: a count would take ghosts for nodes.
    async fn nodes(&self, world: &World, expected: &[&Host], clocks: &Clocks) -> Result<Finding, Failure> {
        let (hop, restored) = (Hop::of(&self.version, &self.later)?, moment(&self.since)?);
        let version = hop.version;
        let fresh = stamp(clocks.now().as_second() - LEASE_FRESH.as_secs() as i64);
        let nodes: Vec<Node> = world.objects().list("/api/v1/nodes").await?.unwrap_or_default();
        let leases: Vec<Lease> = world.objects().list(Lease::NODES).await?.unwrap_or_default();
        let mut ill = Vec::new();
        for host in expected {
            let name = host.name.as_str();
            let Some(node) = nodes.iter().find(|node| node.metadata.name == name) else {
                ill.push(format!("{name} is missing"));
                continue;
            };
            let lease = leases.iter().find(|lease| lease.metadata.name == name);
            let fresh = clocks.by_its_own(name, fresh);
            let since = restored.map_or(fresh, |restored| clocks.since(name, restored).max(fresh));
            ill.extend(staleness(lease, since).map(|why| format!("{name}: {why}")));
            if !node.said_ready() {
                ill.push(format!("{name} is not ready"));
            }
            if !version.is_empty() && !hop.is_reached_by(node.version()) {
                ill.push(format!("{name} runs {}", node.version()));
            }
        }
        let named = |node: &Node| world.cluster().hosts.iter().any(|host| host.name.as_str() == node.metadata.name);
        let ghosts = nodes.iter().filter(|node| !named(node));
        ill.extend(ghosts.map(|node| format!("{} is not in the cluster file", node.metadata.name)));
        let suffix = if version.is_empty() { String::new() } else { format!(", all of {version}") };
        Ok(Finding::unless_missing("nodes", format!("{}/{} ready{suffix}", expected.len(), expected.len()), ill))
    }
}

/// Rollouts of kube-system, by generation: a count of running pods takes old and crashing ones for good (domain: §8).
async fn system_pods(world: &World, lost: &[String]) -> Result<Finding, Failure> {
    let path = |kind: &str| format!("/apis/apps/v1/namespaces/kube-system/{kind}");
    let deployments: Vec<Workload> = world.objects().list(&path("deployments")).await?.unwrap_or_default();
    let daemon_sets: Vec<Workload> = world.objects().list(&path("daemonsets")).await?.unwrap_or_default();
    let mut ill: Vec<String> = deployments.iter().filter_map(Workload::deployment_lacks).collect();
    let pods: Vec<Pod> = match lost {
        [] => Vec::new(),
        _ => world.objects().list(Pod::SYSTEM).await?.unwrap_or_default(),
    };
    ill.extend(daemon_sets.iter().filter_map(|set| set.daemon_set_lacks_beside(&pods, lost)));
    let count = deployments.len() + daemon_sets.len();
    if count == 0 {
        ill.push("kube-system has neither Deployments nor DaemonSets".to_owned());
    }
    Ok(Finding::unless_missing("system pods", format!("{count} rollouts complete"), ill))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actions::testing::{NEW, NOW, OLD, Scene, lease};
    use crate::answer::Survey;

    fn health(version: &str) -> Health {
        let version = Param::Known(version.to_owned());
        Health { version, later: Param::default(), since: Param::default(), lost: Param::default() }
    }

    fn with_url(status: u16) -> Scene {
        let scene = Scene::with("health_urls: [\"https://shop.test/heartbeat\"],");
        scene.change(|state| state.web.insert("https://shop.test/heartbeat".to_owned(), status));
        scene
    }

    #[tokio::test(start_paused = true)]
    async fn a_healthy_cluster_is_told_check_by_check() {
        let facts = with_url(200).on("operator", health(OLD)).satisfied().await;
        let checks: Vec<&str> = facts["checks"].as_array().unwrap().iter().filter_map(|check| check.as_str()).collect();
        insta::assert_snapshot!(checks.join("\n"));
    }

    #[tokio::test(start_paused = true)]
    async fn everything_that_is_ill_is_told_at_once() {
        let scene = with_url(502);
        scene.change(|state| state.hosts.get_mut("server-2").unwrap().silent = true);
        scene.survey("server-1", |survey| survey.etcd_health = "false".to_owned());
        scene.put(&Lease::path("agent-0"), lease(NOW - 300));
        scene.put("/api/v1/nodes/agent-9", serde_json::json!({}));
        scene.edit("/apis/apps/v1/namespaces/kube-system/daemonsets/rke2-canal", |set| {
            set["status"]["numberAvailable"] = 3.into()
        });
        insta::assert_snapshot!(scene.on("operator", health(NEW)).pending().await);
    }

    #[tokio::test(start_paused = true)]
    async fn a_lost_host_is_neither_expected_nor_a_ghost() {
        let scene = Scene::new();
        scene.change(|state| state.hosts.get_mut("server-2").unwrap().silent = true);
        for host in ["server-0", "server-1"] {
            scene.survey(host, |survey| survey.members.truncate(2));
        }
        scene.put(&Lease::path("server-2"), lease(NOW - 9000));
        let goal = || Health { lost: Param::Known(vec!["server-2".to_owned()]), ..health(OLD) };
        scene.on("operator", goal()).satisfied().await;
        // Its Node is there, so that a DaemonSet still wants a pod on it.
        let count = |available: i64| {
            scene.edit("/apis/apps/v1/namespaces/kube-system/daemonsets/rke2-canal", |set| {
                set["status"]["numberAvailable"] = available.into()
            });
        };
        let pod = |ready: &str| {
            let owner = serde_json::json!([{ "kind": "DaemonSet", "name": "rke2-canal" }]);
            scene.put(
                "/api/v1/namespaces/kube-system/pods/rke2-canal-gone",
                serde_json::json!({
                    "metadata": { "ownerReferences": owner }, "spec": { "nodeName": "server-2" },
                    "status": { "conditions": [{ "type": "Ready", "status": ready }] },
                }),
            );
        };
        count(4);
        assert!(scene.on("operator", goal()).pending().await.contains("4 of 5 pods available"));
        pod("False");
        scene.on("operator", goal()).satisfied().await;
        pod("True");
        assert!(scene.on("operator", goal()).pending().await.contains("3 of 4 pods available"));
        count(5);
        scene.on("operator", goal()).satisfied().await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_is_judged_by_its_own_nodes_clock() {
        let scene = Scene::new();
        let goal = || Health { since: Param::Known(stamp(NOW - 30).to_string()), ..health("") };
        // Ten minutes ahead: its lease out of the snapshot looks newer than the restore by every other clock.
        scene.survey("agent-0", |survey| (survey.epoch, survey.unit_active_since) = (NOW + 600, NOW + 575));
        scene.put(&Lease::path("agent-0"), lease(NOW + 560));
        let why = scene.on("operator", goal()).pending().await;
        assert!(why.contains("agent-0: the node's last sign of life"), "{why}");
        scene.put(&Lease::path("agent-0"), lease(NOW + 595));
        scene.on("operator", goal()).satisfied().await;
        // Ten minutes behind: its fresh lease looks stale by every other clock.
        scene.survey("agent-1", |survey| (survey.epoch, survey.unit_active_since) = (NOW - 600, NOW - 625));
        scene.put(&Lease::path("agent-1"), lease(NOW - 605));
        scene.on("operator", goal()).satisfied().await;
    }

    #[tokio::test(start_paused = true)]
    async fn every_server_must_tell_of_the_same_voters_and_of_no_others() {
        let ill = async |change: fn(&mut Survey)| {
            let scene = Scene::new();
            scene.survey("server-1", change);
            scene.on("operator", health("")).pending().await
        };
        assert!(
            ill(|survey| survey.members[2].learner = true).await.contains("server-1: server-2-00000002 is a learner")
        );
        assert!(
            ill(|survey| survey.members[2].name = "server-9-00000002".to_owned())
                .await
                .contains("server-2 is no member")
        );
        assert!(
            ill(|survey| survey.members[2].id = 7).await.contains("server-0 and server-1 tell of different members")
        );
        let moved = |survey: &mut Survey| survey.members[2].peer_urls = vec!["https://10.9.9.9:2380".to_owned()];
        assert!(ill(moved).await.contains("tell of different members"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_rollout_is_judged_by_its_generation() {
        let scene = Scene::new();
        let path = "/apis/apps/v1/namespaces/kube-system/deployments/rke2-coredns-rke2-coredns";
        scene.edit(path, |deployment| deployment["metadata"]["generation"] = 3.into());
        let why = scene.on("operator", health("")).pending().await;
        assert!(why.contains("generation 2 of 3 is observed"), "{why}");
    }
}
