//! The pod of an upgrade job: pulls, prepares, cordons, replaces the binary and tells the process to end
//! (rke2-upgrade scripts/upgrade.sh).

use rke2flow_engine::id::HostName;
use serde_json::{Value, json};

use super::job::{OF_JOB, OF_PLAN, ended};
use super::{GROUP, NAMESPACE};
use crate::kube::store::Key;
use crate::spec::{Fault, JobTrouble};
use crate::world::World;
use crate::world::durations as take;
use crate::world::event::Event;
use crate::world::plane::Cause;
use crate::world::version;

/// How far the pod of an upgrade job is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PodStep {
    /// Its images are on the node, or are tried again.
    Pull,
    /// `prepare` looks whether the servers' plan is done.
    Prepare,
    /// `kubectl cordon` or `kubectl drain`.
    Cordon,
    /// `upgrade` begins.
    Upgrade,
    /// `upgrade` has replaced the binary and ends the process.
    Replace,
    /// The kubelet tells that the pod has ended.
    Told,
}

impl World {
    /// The first pod of a job, or the next one after a failed one.
    pub(crate) fn job_pod(&mut self, plane: usize, job: &Key) {
        let Some(object) = self.planes[plane].store.get(job).cloned() else { return };
        if ended(&object).is_some() {
            return;
        }
        let again = Event::JobPod { plane, job: job.clone() };
        let Some(node) = self.node_of(&object).filter(|node| self.kubelet_reaches(node) == Some(plane)) else {
            return self.after(take::PLAN_RETRY, again);
        };
        let mut labels = object["metadata"]["labels"].clone();
        labels[OF_JOB] = json!(job.name);
        let spec = &self.planes[plane].store.get(&plan_key(&object)).cloned().unwrap_or_default()["spec"];
        let mut init: Vec<&str> = Vec::new();
        init.extend(spec["prepare"].is_object().then_some("prepare"));
        let drains = spec["drain"].is_object();
        init.extend((drains || spec["cordon"] == true).then_some(if drains { "drain" } else { "cordon" }));
        let waiting = |name: &str| json!({"name": name, "state": {"waiting": {"reason": "PodInitializing"}}});
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {
                "labels": labels,
                "ownerReferences": [{"apiVersion": "batch/v1", "kind": "Job", "name": job.name, "controller": true, "uid": object["metadata"]["uid"]}],
            },
            "spec": {"nodeName": node.as_str(), "containers": object["spec"]["template"]["spec"]["containers"]},
            "status": {
                "phase": "Pending",
                "initContainerStatuses": init.iter().map(|name| waiting(name)).collect::<Vec<_>>(),
                "containerStatuses": [waiting("upgrade")],
            },
        });
        let key = Key::pod(NAMESPACE, &format!("{}-{}", job.name, self.pod_suffix()));
        let stamp = self.stamp();
        self.planes[plane].store.put(key.clone(), pod, &stamp);
        self.after(take::PLAN_PULL, Event::JobStep { plane, job: job.clone(), pod: key, step: PodStep::Pull });
    }

    /// The next step of a pod. One that was deleted does nothing more; one whose node is away waits for it.
    pub(crate) fn job_step(&mut self, plane: usize, job: Key, pod: Key, step: PodStep) {
        let objects = (self.planes[plane].store.get(&job).cloned(), self.planes[plane].store.get(&pod).cloned());
        let (Some(object), Some(found)) = objects else { return };
        let Some(node) = self.node_of(&object) else { return };
        let again = |world: &mut Self, step: PodStep| {
            world.after(take::PLAN_RETRY, Event::JobStep { plane, job: job.clone(), pod: pod.clone(), step });
        };
        if self.kubelet_reaches(&node) != Some(plane) {
            return again(self, step);
        }
        let names = container_names(&found);
        let has = |name: &str| names.iter().any(|found| found == name);
        let next = match step {
            PodStep::Pull if self.job_trouble(&node, JobTrouble::CannotPull) => {
                let first = names.first().cloned().unwrap_or_default();
                let why =
                    json!({"waiting": {"reason": "ImagePullBackOff", "message": "Back-off pulling image: not found"}});
                self.container(plane, &pod, &first, why);
                return again(self, PodStep::Pull);
            }
            PodStep::Pull if has("prepare") => PodStep::Prepare,
            PodStep::Prepare if !self.servers_are_done(plane, &object) => {
                self.container(plane, &pod, "prepare", json!({"running": {}}));
                return again(self, PodStep::Prepare);
            }
            PodStep::Pull | PodStep::Prepare => {
                self.container(plane, &pod, "prepare", done());
                PodStep::Cordon
            }
            PodStep::Cordon => {
                for name in ["cordon", "drain"].into_iter().filter(|name| has(name)) {
                    self.cordon_by_job(plane, &node);
                    self.container(plane, &pod, name, done());
                }
                PodStep::Upgrade
            }
            PodStep::Upgrade => {
                self.container(plane, &pod, "upgrade", json!({"running": {}}));
                PodStep::Replace
            }
            PodStep::Replace => return self.replace_binary(plane, &job, &pod, &node, &object),
            PodStep::Told => return self.job_done(plane, &job, &pod),
        };
        self.after(take::PLAN_CONTAINER, Event::JobStep { plane, job, pod, step: next });
    }

    /// `upgrade`: the binary is replaced, then the process is told to end, kubelet and containerd with it. A binary that
    /// has been replaced already ends the script at once: nothing is restarted.
    fn replace_binary(&mut self, plane: usize, job: &Key, pod: &Key, node: &HostName, object: &Value) {
        let tag = object["metadata"]["labels"]["upgrade.cattle.io/version"].as_str().unwrap_or_default();
        let wanted = version::untag(tag);
        if self.job_trouble(node, JobTrouble::Fails) {
            return self.pod_fails(plane, job, pod);
        }
        if self.host(node).installed == wanted {
            return self.job_done(plane, job, pod);
        }
        self.host_mut(node).installed = wanted;
        if self.job_trouble(node, JobTrouble::CutOff) {
            return self.pod_fails(plane, job, pod);
        }
        let early = self.job_trouble(node, JobTrouble::EndsEarly);
        self.stop_unit(node, Cause::Restart);
        self.start_unit(node);
        if early && self.serves(plane) {
            return self.job_done(plane, job, pod);
        }
        let (job, pod) = (job.clone(), pod.clone());
        self.after(take::PLAN_RETRY, Event::JobStep { plane, job, pod, step: PodStep::Told });
    }

    fn job_done(&mut self, plane: usize, job: &Key, pod: &Key) {
        self.container(plane, pod, "upgrade", done());
        let stamp = self.stamp();
        self.planes[plane].store.update(pod, &stamp, |pod| pod["status"]["phase"] = json!("Succeeded"));
        self.job_ends(plane, job, "Complete", "CompletionsReached", "Reached expected number of succeeded pods");
    }

    /// A failed pod is followed by another one, a hundred times at most.
    fn pod_fails(&mut self, plane: usize, job: &Key, pod: &Key) {
        let why = json!({"terminated": {"exitCode": 1, "reason": "Error"}});
        self.container(plane, pod, "upgrade", why);
        let stamp = self.stamp();
        self.planes[plane].store.update(pod, &stamp, |pod| pod["status"]["phase"] = json!("Failed"));
        self.planes[plane].store.update(job, &stamp, |job| {
            let failed = job["status"]["failed"].as_u64().unwrap_or(0) + 1;
            job["status"]["failed"] = json!(failed);
        });
        self.after(take::PLAN_RETRY, Event::JobPod { plane, job: job.clone() });
    }

    /// `prepare`: the servers' plan acts on no node, and every node with the label of a master runs the version. Where
    /// no node has that label any more (since RKE2 1.34, rke2#7042), it waits for ever.
    fn servers_are_done(&self, plane: usize, job: &Value) -> bool {
        let store = &self.planes[plane].store;
        let plan = store.get(&plan_key(job));
        let servers = plan.and_then(|plan| plan["spec"]["prepare"]["args"][1].as_str());
        let Some(servers) = servers.and_then(|name| store.get(&Key::new(GROUP, "plans", NAMESPACE, name))) else {
            return false;
        };
        let idle = servers["status"]["applying"].as_array().is_none_or(Vec::is_empty);
        let tag = &job["metadata"]["labels"]["upgrade.cattle.io/version"];
        let version =
            |node: &Value| version::tag(node["status"]["nodeInfo"]["kubeletVersion"].as_str().unwrap_or_default());
        let nodes = store.list("", "nodes", "");
        let mut masters = nodes
            .into_iter()
            .filter(|(_, node)| node["metadata"]["labels"]["node-role.kubernetes.io/master"].is_string())
            .peekable();
        idle && masters.peek().is_some() && masters.all(|(_, node)| *tag == version(node))
    }

    fn cordon_by_job(&mut self, plane: usize, node: &HostName) {
        let stamp = self.stamp();
        let key = Key::node(node.as_str());
        if self.planes[plane].store.get(&key).is_some_and(|node| node["spec"]["unschedulable"] != true) {
            self.planes[plane].store.update(&key, &stamp, |node| node["spec"]["unschedulable"] = json!(true));
        }
    }

    /// A container of a pod is as it is now.
    fn container(&mut self, plane: usize, pod: &Key, name: &str, state: Value) {
        let stamp = self.stamp();
        self.planes[plane].store.update(pod, &stamp, |pod| {
            for list in ["initContainerStatuses", "containerStatuses"] {
                let all = pod["status"][list].as_array_mut().into_iter().flatten();
                all.filter(|status| status["name"] == name).for_each(|status| status["state"] = state.clone());
            }
        });
    }

    fn node_of(&self, job: &Value) -> Option<HostName> {
        let name = job["metadata"]["labels"]["upgrade.cattle.io/node"].as_str()?;
        self.names.iter().find(|host| host.as_str() == name).cloned()
    }

    fn job_trouble(&mut self, node: &HostName, kind: JobTrouble) -> bool {
        self.strikes(|fault| match fault {
            Fault::UpgradeJob { host, trouble, times } if host == node && *trouble == kind => Some(times),
            _ => None,
        })
    }
}

fn done() -> Value {
    json!({"terminated": {"exitCode": 0, "reason": "Completed"}})
}

fn plan_key(job: &Value) -> Key {
    Key::new(GROUP, "plans", NAMESPACE, job["metadata"]["labels"][OF_PLAN].as_str().unwrap_or_default())
}

/// The names of a pod's containers, those that run first first.
fn container_names(pod: &Value) -> Vec<String> {
    let of = |list: &str| pod["status"][list].as_array().cloned().unwrap_or_default();
    let all = of("initContainerStatuses").into_iter().chain(of("containerStatuses"));
    all.filter_map(|status| status["name"].as_str().map(str::to_owned)).collect()
}
