//! The System Upgrade Controller: its plans really upgrade nodes, also after a restore brought them back.

use rke2flow_engine::cluster::Role;
use rke2flow_engine::id::HostName;
use serde_json::{Value, json};

use crate::kube::select::labels_match;
use crate::kube::store::Key;
use crate::world::World;
use crate::world::durations as take;
use crate::world::event::Event;
use crate::world::plane::Cause;
use crate::world::version;

const GROUP: &str = "upgrade.cattle.io";
/// The controller's namespace.
pub const NAMESPACE: &str = "system-upgrade";
const CONTROLLER: &str = "system-upgrade-controller";
const PLANS: [(&str, Role); 2] = [("server-plan", Role::Server), ("agent-plan", Role::Agent)];

impl World {
    /// Two plans that follow a channel, as terraform modules write them.
    pub(crate) fn first_plans(&mut self) {
        self.first("", "namespaces", "", NAMESPACE, crate::kube::objects::namespace_object());
        self.workload_object("Deployment", NAMESPACE, CONTROLLER, 1, "rancher/system-upgrade-controller:v0.15.2");
        let product = self.distribution().name;
        for (plan, role) in PLANS {
            let operator = if role == Role::Server { "Exists" } else { "DoesNotExist" };
            let object = json!({
                "apiVersion": "upgrade.cattle.io/v1", "kind": "Plan", "metadata": {},
                "spec": {
                    "concurrency": 1, "cordon": true, "serviceAccountName": "system-upgrade",
                    "channel": format!("https://update.{product}.io/v1-release/channels/stable"),
                    "nodeSelector": {"matchExpressions": [
                        {"key": "node-role.kubernetes.io/control-plane", "operator": operator},
                    ]},
                    "upgrade": {"image": format!("rancher/{product}-upgrade")},
                },
                "status": {"applying": []},
            });
            self.first(GROUP, "plans", NAMESPACE, plan, object);
        }
    }

    /// The controller resolves each plan and starts at most one job for it; then it looks again later.
    pub(crate) fn look_at_plans(&mut self, plane: usize) {
        let next = Event::Plans { plane };
        let controller = Key::new("apps", "deployments", NAMESPACE, CONTROLLER);
        let runs = self.planes[plane].store.get(&controller).is_some_and(|found| found["spec"]["replicas"] != 0);
        if !self.serves(plane) || !runs {
            return self.after(take::PLAN_FIRST, next);
        }
        let plans: Vec<(String, Value)> = self.planes[plane]
            .store
            .list(GROUP, "plans", NAMESPACE)
            .into_iter()
            .map(|(key, plan)| (key.name.clone(), plan.clone()))
            .collect();
        let mut started = false;
        for (name, plan) in plans {
            let busy = plan["status"]["applying"].as_array().is_some_and(|applying| !applying.is_empty());
            let wanted = self.resolve(&plan);
            if busy || started {
                continue;
            }
            if let Some((version, node)) =
                wanted.and_then(|version| Some((version.clone(), self.node_for(plane, &name, &plan, &version)?)))
            {
                self.set_applying(plane, &name, json!([node.as_str()]), &version);
                self.after(take::PLAN_JOB, Event::PlanJob { plane, plan: name, node, version });
                started = true;
            }
        }
        self.after(if started { take::PLAN_FIRST } else { take::PLAN_POLL }, next);
    }

    /// The job copies the new binary over the old one and ends the process: done means "told to restart" (SUC#163).
    pub(crate) fn apply_plan(&mut self, plane: usize, plan: &str, node: &HostName, version: &str) {
        if !self.serves(plane) {
            return;
        }
        self.set_applying(plane, plan, json!([]), version);
        if self.reachable(node) && self.host(node).kubelet {
            version.clone_into(&mut self.host_mut(node).installed);
            self.stop_unit(node, Cause::Restart);
            self.start_unit(node);
        }
    }

    /// Jobs of plans that a restore brought back: their pods start as soon as their node's kubelet is there.
    pub(crate) fn jobs_go_on(&mut self, plane: usize) {
        let text = |job: &Value, label: &str| job["metadata"]["labels"][label].as_str().map(str::to_owned);
        let jobs = self.planes[plane].store.list("batch", "jobs", NAMESPACE);
        let open = jobs.into_iter().filter(|(_, job)| job["status"]["succeeded"].is_null());
        let found: Vec<_> = open
            .filter_map(|(key, job)| {
                let (node, version) = (text(job, "upgrade.cattle.io/node")?, text(job, "upgrade.cattle.io/version")?);
                text(job, "upgrade.cattle.io/plan")?;
                Some((key.clone(), HostName::new(node).ok()?, version))
            })
            .collect();
        for (job, node, version) in found {
            if self.hosts.contains_key(&node) {
                self.after(take::PLAN_JOB, Event::ReplayedJob { plane, job, node, version });
            }
        }
    }

    /// The pod of such a job does its work, unless somebody has deleted the job.
    pub(crate) fn replayed_job(&mut self, plane: usize, job: Key, node: HostName, version: String) {
        if self.planes[plane].store.get(&job).is_none() {
            return;
        }
        if !self.serves(plane) || self.kubelet_reaches(&node) != Some(plane) {
            return self.after(take::PLAN_JOB, Event::ReplayedJob { plane, job, node, version });
        }
        let stamp = self.stamp();
        self.planes[plane].store.update(&job, &stamp, |job| job["status"] = json!({"succeeded": 1}));
        self.host_mut(&node).installed = version.replace("-rke2", "+rke2").replace("-k3s", "+k3s");
        self.stop_unit(&node, Cause::Restart);
        self.start_unit(&node);
    }

    fn resolve(&self, plan: &Value) -> Option<String> {
        match plan["spec"]["version"].as_str() {
            Some(version) if !version.is_empty() => Some(version.to_owned()),
            _ => self.spec.upgrade_plan.clone(),
        }
    }

    fn node_for(&self, plane: usize, plan: &str, object: &Value, version: &str) -> Option<HostName> {
        let label = format!("plan.upgrade.cattle.io/{plan}");
        let store = &self.planes[plane].store;
        let fits = |node: &Value| {
            let labels = &node["metadata"]["labels"];
            labels[&label] != "disabled"
                && labels_match(&object["spec"]["nodeSelector"], labels)
                && node["status"]["nodeInfo"]["kubeletVersion"] != version
        };
        let found = store.list("", "nodes", "").into_iter().find(|(_, node)| fits(node))?;
        self.names.iter().find(|name| name.as_str() == found.0.name).cloned()
    }

    fn set_applying(&mut self, plane: usize, plan: &str, applying: Value, version: &str) {
        let stamp = self.stamp();
        let tag = version::tag(version);
        self.planes[plane].store.update(&Key::new(GROUP, "plans", NAMESPACE, plan), &stamp, |plan| {
            plan["status"] = json!({"applying": applying, "latestVersion": tag});
        });
    }
}
