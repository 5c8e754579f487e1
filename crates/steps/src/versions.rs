//! What runs where, as hosts and the API tell it now: what a person needs to know of a run that was given up halfway.

use std::collections::BTreeMap;

use rke2flow_engine::action::Failure;
use rke2flow_engine::cluster::{Host, Role};

use crate::actions::{World, voter};
use crate::answer::Survey;
use crate::kinds::Node;
use crate::ports::Access;

/// What runs on each host, in few lines: hosts of which the same is true share one. A host that does not answer is told
/// as well, and one that is not as it should be with why.
pub async fn running(access: &Access) -> Vec<String> {
    let world = World::new(access.clone());
    let alive = world.cluster().hosts.iter().filter(|host| !world.access().lost.contains(&host.name));
    let (surveys, nodes) = futures::future::join(world.surveys(alive), nodes(&world)).await;
    let mut lines: Vec<(String, Vec<&str>)> = Vec::new();
    for (host, survey) in &surveys {
        let told = told(host, survey, nodes.as_ref());
        match lines.iter_mut().find(|(known, _)| *known == told) {
            Some((_, hosts)) => hosts.push(host.name.as_str()),
            None => lines.push((told, vec![host.name.as_str()])),
        }
    }
    lines.into_iter().map(|(told, hosts)| format!("{}: {told}", hosts.join(", "))).collect()
}

/// The nodes by name; the reason when the API does not tell.
async fn nodes(world: &World) -> Result<BTreeMap<String, Node>, Failure> {
    let nodes: Vec<Node> = world.objects().list("/api/v1/nodes").await?.unwrap_or_default();
    Ok(nodes.into_iter().map(|node| (node.metadata.name.clone(), node)).collect())
}

fn told(host: &Host, survey: &Result<Survey, Failure>, nodes: Result<&BTreeMap<String, Node>, &Failure>) -> String {
    let survey = match survey {
        Ok(survey) => survey,
        Err(failure) => return failure.to_string(),
    };
    let node = nodes.map(|nodes| nodes.get(host.name.as_str()));
    let mut parts = vec![match node {
        Ok(Some(node)) => format!("runs {}", node.version()),
        Ok(None) => "the API has no such node".to_owned(),
        Err(failure) => format!("what runs is not known: {failure}"),
    }];
    if let Ok(Some(node)) = node {
        if node.version() != survey.installed {
            parts.push(format!("{} is installed", survey.installed));
        }
        if node.spec.unschedulable {
            parts.push("cordoned".to_owned());
        }
    }
    if survey.hold || survey.hold_drop_in {
        parts.push("held down".to_owned());
    }
    let named = format!("{}: ", host.name);
    match host.role {
        Role::Server => {
            let lacks = voter::lacks(&host.name, survey);
            let well = if lacks.is_empty() { vec!["votes in etcd".to_owned()] } else { lacks };
            parts.extend(well.into_iter().map(|lack| lack.replace(&named, "")));
        }
        Role::Agent if survey.unit != "active" => parts.push(format!("the unit is {}", survey.unit)),
        Role::Agent => {}
    }
    parts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actions::testing::{NEW, OLD, Scene};

    #[tokio::test(start_paused = true)]
    async fn hosts_are_told_by_what_runs_on_them_and_by_what_is_wrong_with_them() {
        let scene = Scene::new();
        assert_eq!(
            running(scene.access()).await,
            [
                format!("server-0, server-1, server-2: runs {OLD}, votes in etcd"),
                format!("agent-0, agent-1: runs {OLD}")
            ]
        );
        scene.edit("/api/v1/nodes/server-1", |node| node["status"]["nodeInfo"]["kubeletVersion"] = NEW.into());
        scene.survey("server-1", |survey| survey.installed = NEW.to_owned());
        scene.survey("server-2", |survey| (survey.unit, survey.installed) = ("activating".to_owned(), NEW.to_owned()));
        scene.edit("/api/v1/nodes/server-2", |node| node["spec"]["unschedulable"] = true.into());
        scene.change(|state| state.hosts.get_mut("agent-1").unwrap().silent = true);
        let told = running(scene.access()).await;
        assert_eq!(told[0], format!("server-0: runs {OLD}, votes in etcd"));
        assert_eq!(told[1], format!("server-1: runs {NEW}, votes in etcd"));
        assert_eq!(told[2], format!("server-2: runs {OLD}, {NEW} is installed, cordoned, the unit is activating"));
        assert_eq!(told[3], format!("agent-0: runs {OLD}"));
        assert!(told[4].starts_with("agent-1: cannot reach agent-1"), "{told:?}");
    }
}
