//! The system-upgrade-controller of the small world: what becomes of a node as soon as it is handed to a Plan.

use serde_json::{Value, json};

use super::fake::State;
use super::{NEW, NOW, RUN, Scene};
use crate::actions::create_upgrade_plan::CreateUpgradePlan;
use crate::actions::stamp;
use crate::actions::upgrade_plan::{HANDED, Of};
use rke2flow_engine::duration::Span;
use rke2flow_engine::value::Param;

/// Where its Deployment is.
pub const CONTROLLER: &str = "/apis/apps/v1/namespaces/system-upgrade/deployments/system-upgrade-controller";
const NAMESPACE: &str = "system-upgrade";

/// What the controller does with a node that it is handed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Controller {
    /// It is not there.
    #[default]
    None,
    /// Its job is done, and the node restarts.
    Works,
    /// Its job says that it is done, and the disk is as it was.
    SaysSo,
    /// The node cannot pull the image.
    CannotPull,
    /// The container that replaces the binary never ends.
    Hangs,
    /// It does nothing.
    Sleeps,
}

/// A scene with a controller that runs.
pub fn scene() -> Scene {
    let scene = Scene::new();
    let pod = json!({ "serviceAccountName": NAMESPACE, "containers": [{ "image": "rancher/system-upgrade-controller:v0.15.2" }] });
    let deployment = json!({
        "metadata": { "generation": 1 },
        "spec": { "replicas": 1, "template": { "spec": pod } },
        "status": { "observedGeneration": 1, "updatedReplicas": 1, "availableReplicas": 1, "replicas": 1 },
    });
    scene.put(CONTROLLER, deployment);
    scene.put("/api/v1/namespaces/system-upgrade/serviceaccounts/system-upgrade", json!({}));
    scene.change(|state| state.changes.clear());
    scene
}

/// The same with both Plans of the run.
pub async fn with_plans(controller: Controller) -> Scene {
    let scene = scene();
    for of in [Of::Servers, Of::Agents] {
        let goal = CreateUpgradePlan {
            of,
            version: Param::Known(NEW.to_owned()),
            image: Param::default(),
            drain: Param::default(),
            drain_timeout: Param::Known(Span::from_secs(300)),
        };
        scene.on("operator", goal).apply().await;
    }
    scene.change(|state| state.controller = controller);
    scene
}

/// The path of the run's Plan.
pub fn plan(of: &str) -> String {
    format!("/apis/upgrade.cattle.io/v1/namespaces/{NAMESPACE}/plans/rke2flow-{RUN}-{of}")
}

/// The paths of the controller's jobs.
pub fn jobs(scene: &Scene) -> Vec<String> {
    scene.change(|state| state.objects.keys().filter(|path| path.contains("/jobs/apply-")).cloned().collect())
}

impl State {
    /// The controller has seen a node that somebody changed.
    pub fn controller_acts(&mut self, path: &str) {
        let (Some(host), node) = (path.strip_prefix("/api/v1/nodes/"), self.objects[path].clone()) else { return };
        let Some(plan) = node["metadata"]["labels"][HANDED].as_str() else { return };
        let job = format!("/apis/batch/v1/namespaces/{NAMESPACE}/jobs/apply-{plan}-on-{host}");
        if self.objects.contains_key(&job) || matches!(self.controller, Controller::None | Controller::Sleeps) {
            return;
        }
        let labels = json!({ "upgrade.cattle.io/plan": plan, "upgrade.cattle.io/node": host, "rke2flow.io/run": RUN });
        let status = match self.controller {
            Controller::Works | Controller::SaysSo => {
                let since = stamp(NOW - 70).to_string();
                json!({ "succeeded": 1, "conditions": [{ "type": "Complete", "status": "True", "lastTransitionTime": since }] })
            }
            _ => json!({ "active": 1 }),
        };
        let begun = stamp(NOW - 80).to_string();
        self.put(&job, json!({ "metadata": { "labels": labels, "creationTimestamp": begun }, "status": status }));
        self.node_and_pod(host, plan, &labels);
    }

    fn node_and_pod(&mut self, host: &str, plan: &str, labels: &Value) {
        let path = format!("/api/v1/nodes/{host}");
        let mut node = self.objects[&path].clone();
        let statuses = match self.controller {
            Controller::Works => {
                self.hosts.get_mut(host).unwrap().survey.installed = NEW.to_owned();
                node["spec"].as_object_mut().unwrap().remove("unschedulable");
                node["metadata"]["labels"][format!("plan.upgrade.cattle.io/{plan}")] = json!("hash");
                return self.put(&path, node);
            }
            Controller::CannotPull => {
                json!([{ "name": "upgrade", "state": { "waiting": { "reason": "ImagePullBackOff", "message": "no such host" } } }])
            }
            Controller::Hangs => json!([{ "name": "upgrade", "state": { "running": {} } }]),
            _ => return,
        };
        node["spec"]["unschedulable"] = json!(true);
        self.put(&path, node);
        let pod = json!({ "metadata": { "labels": labels }, "status": { "phase": "Pending", "containerStatuses": statuses } });
        self.put(&format!("/api/v1/namespaces/{NAMESPACE}/pods/apply-{plan}-on-{host}-abcde"), pod);
    }

    /// The pods of a deleted job go with it.
    pub fn pods_go(&mut self, job: &str) {
        let Some((_, name)) = job.rsplit_once("/jobs/") else { return };
        self.objects.retain(|path, _| !(path.contains("/pods/") && path.contains(name)));
    }
}
