//! What the system-upgrade-controller does on a node: its job there, and the pod of that job.

use jiff::Timestamp;
use rke2flow_engine::action::Failure;
use rke2flow_engine::id::HostName;

use crate::actions::World;
use crate::actions::upgrade_plan::{DONE_PREFIX, is_on};
use crate::kinds::{ContainerStatus, Job, Node, Pod, UpgradePlan};

/// Where a Plan's work on a node stands.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Work {
    /// The controller has made no job.
    Missing,
    /// On its way, in words; nothing on the host has been changed.
    Waits(String),
    /// The container that replaces the binary runs: whoever cuts it off may leave half a binary.
    Replaces(String),
    /// It does not go on by itself, or only by luck: why. Nothing on the host has been changed.
    Stuck(String),
    /// The controller has given it up: why.
    Failed(String),
    /// It says that it is done: the binary was replaced and the process told to end, no more than that (SUC#163). Since
    /// when, unless the job has been cleaned away.
    Complete(Option<Timestamp>),
}

/// A Plan's work on a node, with the jobs that are there for it.
pub(crate) async fn look(
    world: &World,
    plan: &UpgradePlan,
    node: &Node,
    host: &HostName,
) -> Result<(Work, Vec<Job>), Failure> {
    let (name, namespace) = (&plan.metadata.name, &plan.metadata.namespace);
    let query = format!("labelSelector=upgrade.cattle.io%2Fplan%3D{name}");
    let jobs: Vec<Job> =
        world.objects().list(&format!("/apis/batch/v1/namespaces/{namespace}/jobs?{query}")).await?.unwrap_or_default();
    let jobs: Vec<Job> = jobs.into_iter().filter(|job| is_on(&job.metadata, name, host)).collect();
    let Some(job) = jobs.iter().max_by_key(|job| job.metadata.creation_timestamp) else {
        let hash = node.metadata.labels.get(&format!("{DONE_PREFIX}{name}"));
        let done = hash.is_some_and(|hash| *hash == plan.status.latest_hash);
        return Ok((if done { Work::Complete(None) } else { Work::Missing }, jobs));
    };
    if job.is_complete() {
        let since = job.condition("Complete").and_then(|condition| condition.last_transition_time);
        return Ok((Work::Complete(since), jobs));
    }
    let pods: Vec<Pod> =
        world.objects().list(&format!("/api/v1/namespaces/{namespace}/pods?{query}")).await?.unwrap_or_default();
    let newest =
        pods.iter().filter(|pod| is_on(&pod.metadata, name, host)).max_by_key(|pod| pod.metadata.creation_timestamp);
    let told = newest.map(of_pod);
    if let Some(failed) = job.condition("Failed") {
        let pod = match told {
            Some(Work::Stuck(why)) => format!("; {why}"),
            _ => String::new(),
        };
        let why = format!("job {}: {} ({}){pod}", job.metadata.name, failed.reason, failed.message);
        return Ok((Work::Failed(why), jobs));
    }
    if job.status.failed >= FAILED_PODS_MAX {
        let last = if let Some(Work::Stuck(why)) = told { format!(", the last one: {why}") } else { String::new() };
        return Ok((
            Work::Failed(format!("{} pods of job {} have failed{last}", job.status.failed, job.metadata.name)),
            jobs,
        ));
    }
    let nothing = || Work::Waits(format!("job {} has no pod yet", job.metadata.name));
    Ok((told.unwrap_or_else(nothing), jobs))
}

/// The container of a job that replaces the binary (SUC pkg/upgrade/job/job.go).
const REPLACES: &str = "upgrade";
/// So many pods of a job may fail before it is taken to be one that never succeeds: the controller itself would try a
/// hundred times.
const FAILED_PODS_MAX: i64 = 5;
/// Reasons for which a container waits that do not pass quickly by themselves.
const STUCK: [&str; 9] = [
    "ErrImagePull",
    "ImagePullBackOff",
    "InvalidImageName",
    "ErrImageNeverPull",
    "RegistryUnavailable",
    "CreateContainerConfigError",
    "CreateContainerError",
    "RunContainerError",
    "CrashLoopBackOff",
];

/// What the pod of a job tells: the first of its containers that has not ended well decides.
fn of_pod(pod: &Pod) -> Work {
    let name = &pod.metadata.name;
    let all = pod.status.init_container_statuses.iter().chain(&pod.status.container_statuses);
    let unscheduled = pod.status.conditions.iter().find(|told| told.kind == "PodScheduled" && told.status == "False");
    if let Some(told) = unscheduled {
        return Work::Stuck(format!("pod {name} finds no place: {}", told.message));
    }
    let ended_well =
        |status: &&ContainerStatus| status.state.terminated.as_ref().is_some_and(|ended| ended.exit_code == 0);
    match all.into_iter().find(|status| !ended_well(status)) {
        Some(status) => of_container(name, status),
        None if pod.status.phase == "Failed" => Work::Stuck(format!("pod {name} failed: {}", pod.status.reason)),
        None => Work::Waits(format!("pod {name} is {}", pod.status.phase)),
    }
}

fn of_container(pod: &str, status: &ContainerStatus) -> Work {
    let container = &status.name;
    if let Some(ended) = &status.state.terminated {
        let why = [ended.reason.as_str(), ended.message.as_str()].join(" ");
        return Work::Stuck(format!("pod {pod}: container {container} ended with {}: {}", ended.exit_code, why.trim()));
    }
    if let Some(waiting) = &status.state.waiting {
        let why = format!("pod {pod}: container {container} waits: {} {}", waiting.reason, waiting.message);
        let why = why.trim().to_owned();
        return if STUCK.contains(&waiting.reason.as_str()) { Work::Stuck(why) } else { Work::Waits(why) };
    }
    match container.as_str() {
        REPLACES if status.state.running.is_some() => Work::Replaces(format!("pod {pod} replaces the binary")),
        "prepare" => Work::Waits(format!("pod {pod} waits for the servers' Plan")),
        "drain" => Work::Waits(format!("pod {pod} drains the node")),
        other => Work::Waits(format!("pod {pod}: container {other} runs")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn told(init: Value, main: Value) -> Work {
        let pod = json!({
            "metadata": { "name": "p" },
            "status": { "phase": "Pending", "initContainerStatuses": init, "containerStatuses": main },
        });
        of_pod(&serde_json::from_value(pod).unwrap())
    }

    #[test]
    fn the_first_container_that_has_not_ended_well_tells_how_far_a_job_is() {
        let ended = |name: &str, code: i64| json!({ "name": name, "state": { "terminated": { "exitCode": code, "reason": "Error" } } });
        let waits = |name: &str, reason: &str| json!({ "name": name, "state": { "waiting": { "reason": reason } } });
        let runs = |name: &str| json!({ "name": name, "state": { "running": {} } });
        let main = || json!([waits("upgrade", "PodInitializing")]);
        assert!(
            matches!(told(json!([runs("prepare")]), main()), Work::Waits(why) if why.contains("the servers' Plan"))
        );
        assert!(matches!(told(json!([runs("drain")]), main()), Work::Waits(why) if why.contains("drains")));
        assert!(
            matches!(told(json!([waits("cordon", "ImagePullBackOff")]), main()), Work::Stuck(why) if why.contains("container cordon waits: ImagePullBackOff"))
        );
        assert!(
            matches!(told(json!([ended("drain", 1)]), main()), Work::Stuck(why) if why.contains("container drain ended with 1: Error"))
        );
        assert!(matches!(told(json!([ended("cordon", 0)]), main()), Work::Waits(_)));
        assert!(matches!(told(json!([ended("cordon", 0)]), json!([runs("upgrade")])), Work::Replaces(_)));
        assert!(matches!(told(json!([]), json!([ended("upgrade", 1)])), Work::Stuck(_)));
    }
}
