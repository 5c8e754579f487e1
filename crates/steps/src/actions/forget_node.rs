//! ForgetNode: the cluster remembers nothing of the host's former life that keeps it from joining.

use async_trait::async_trait;
use rke2flow_engine::action::{ActionInfo, Applied, Context, Failure, Place, Probe};
use rke2flow_engine::id::HostName;
use rke2flow_engine::value::Param;
use serde::{Deserialize, Serialize};

use crate::actions::kill_node::what_runs;
use crate::actions::voter::{is_member_of, lacks};
use crate::actions::{Goal, World, host_of, info, noted, restored, unless_missing};
use crate::answer::Member;
use crate::kinds::{AnyKind, Node};

/// Goal: the cluster remembers nothing of the host's former life that keeps it from joining.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ForgetNode {
    /// A healthy server; the cluster file's when empty.
    #[serde(default)]
    pub server: Param<String>,
}

#[async_trait]
impl Goal for ForgetNode {
    const INFO: ActionInfo = info(
        "ForgetNode",
        "the cluster remembers nothing of the host's former life that keeps it from joining",
        Place::Host,
        5,
    );

    async fn probe(&self, world: &World, context: &Context) -> Result<Probe, Failure> {
        let (host, server) = (host_of(context)?, restored(world, &self.server)?);
        let mut left: Vec<String> = Vec::new();
        if !what_runs(&world.survey(context).await?).is_empty() {
            left.push("its node runs".to_owned());
        }
        if let Some(member) = member(world, &server, host).await? {
            left.push(format!("{} is still a member of etcd", member.name));
        }
        if world.objects().of_server(&server).get::<AnyKind>(&password(world, host)).await?.is_some() {
            left.push("its node password is still there".to_owned());
        }
        Ok(unless_missing(left))
    }

    async fn apply(&self, world: &World, context: &Context) -> Result<Applied, Failure> {
        let (host, server) = (host_of(context)?, restored(world, &self.server)?);
        let running = what_runs(&world.survey(context).await?);
        if !running.is_empty() {
            let what = format!("cannot forget {host} while its node runs: a living member would leave etcd");
            return Err(Failure::permanent(what).observed(running.join("; ")));
        }
        let objects = world.objects().of_server(&server);
        let changes = world.changes(context).through(&objects);
        if let Some(member) = member(world, &server, host).await? {
            keeps_quorum(world, &server, &member).await?;
            let node: Option<Node> = objects.get(&Node::path(host.as_str())).await?;
            let Some(node) = node else {
                let what = format!("{} is a member of etcd and has no Node to be removed with", member.name);
                let next = format!("on {server}: etcdctl member remove {}, then resume", member.name);
                return Err(Failure::permanent(what).next(next));
            };
            // The supervisor's own controller removes the member of a Node that is deleted, by the name and address that
            // the Node is annotated with (K3S pkg/etcd/member_controller.go): no certificate of etcd leaves the server.
            changes.delete(&Node::path(host.as_str()), &node.metadata).await?;
        }
        // A machine that was made anew has another password: `Node password rejected` (R2#7372). One that is the same
        // brings its own, and the secret is written again.
        if let Some(found) = objects.get::<AnyKind>(&password(world, host)).await? {
            changes.delete(&password(world, host), &found.metadata).await?;
        }
        Ok(noted(format!("{host} may join anew")))
    }
}

fn password(world: &World, host: &HostName) -> String {
    world.distribution().node_password(host.as_str())
}

/// The host's entry in etcd, as that server tells.
async fn member(world: &World, server: &HostName, host: &HostName) -> Result<Option<Member>, Failure> {
    let members = world.hosts().survey(server).await?.members;
    Ok(members.into_iter().find(|member| is_member_of(&member.name, host)))
}

/// Never remove a voter when the rest could not go on: the removal itself needs a quorum of those that are there now.
async fn keeps_quorum(world: &World, server: &HostName, leaving: &Member) -> Result<(), Failure> {
    if leaving.learner {
        return Ok(());
    }
    let members = world.hosts().survey(server).await?.members;
    let voters: Vec<&Member> = members.iter().filter(|member| !member.learner).collect();
    let healthy = world.surveys(world.servers()).await.into_iter().filter(|(host, survey)| {
        let votes = voters.iter().any(|voter| is_member_of(&voter.name, &host.name) && voter.name != leaving.name);
        votes && survey.as_ref().is_ok_and(|survey| lacks(&host.name, survey).is_empty())
    });
    let healthy = healthy.count();
    if healthy * 2 > voters.len() {
        return Ok(());
    }
    let what = format!("cannot remove {}: etcd would lose its quorum", leaving.name);
    Err(Failure::permanent(what).observed(format!("{healthy} other voters of {} are healthy", voters.len())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actions::testing::Scene;
    use crate::distribution::Traits;
    use rke2flow_engine::cluster::Distribution;
    use serde_json::json;

    fn forget() -> ForgetNode {
        ForgetNode { server: Param::Known("server-0".to_owned()) }
    }

    fn secret() -> String {
        Traits::of(Distribution::Rke2).node_password("server-2")
    }

    #[tokio::test(start_paused = true)]
    async fn forgetting_takes_the_password_and_leaves_the_node_of_one_that_is_no_member() {
        let scene = Scene::new();
        scene.kill(&["server-2"]);
        scene.survey("server-0", |survey| survey.members.truncate(2));
        scene.put(&secret(), json!({}));
        scene.on("server-2", forget()).idempotent().await;
        assert!(scene.object("/api/v1/nodes/server-2").is_some());
        assert_eq!(scene.object(&secret()), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_dead_member_leaves_with_its_node() {
        let scene = Scene::new();
        scene.kill(&["server-2"]);
        let bench = scene.on("server-2", forget());
        assert!(bench.pending().await.contains("is still a member of etcd"));
        bench.apply().await;
        assert_eq!(scene.object("/api/v1/nodes/server-2"), None);
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_forgotten_of_a_living_node_or_at_the_cost_of_the_quorum() {
        let scene = Scene::new();
        let failure = scene.on("server-2", forget()).failure_of_apply().await;
        assert!(failure.what.contains("while its node runs"), "{failure}");
        scene.kill(&["server-1", "server-2"]);
        let failure = scene.on("server-2", forget()).failure_of_apply().await;
        assert!(failure.what.contains("would lose its quorum"), "{failure}");
        assert!(scene.object("/api/v1/nodes/server-2").is_some());
    }
}
