//! What the judge wrote down while things happened.

use std::collections::BTreeSet;

use rke2flow_engine::id::HostName;
use serde_json::Value;

use crate::judge::{Violation, ViolationKind};
use crate::kube::plans;
use crate::kube::store::Store;
use crate::world::World;

/// Violations that were seen, and how things were at the beginning.
#[derive(Debug, Clone, Default)]
pub struct Evidence {
    /// Seen as they happened.
    pub violations: Vec<Violation>,
    /// Every unit of ours that was ever started.
    pub units_started: BTreeSet<(HostName, String)>,
    /// What keeps others from acting, as it was at the beginning.
    pub fences: BTreeSet<String>,
    /// The plans that were there at the beginning.
    pub plans: BTreeSet<String>,
}

impl World {
    /// Writes a violation down, once per kind, place and detail.
    pub(crate) fn violate(&mut self, kind: ViolationKind, host: Option<&HostName>, detail: &str) {
        let found = Violation { kind, when: self.now, host: host.cloned(), detail: detail.to_owned() };
        let known = |old: &Violation| old.kind == kind && old.host == found.host && old.detail == found.detail;
        if !self.evidence.violations.iter().any(known) {
            self.evidence.violations.push(found);
        }
    }

    /// Remembers which fences were up at the beginning: those were not put up by us.
    pub(crate) fn remember_fences(&mut self) {
        let Some(store) = self.reached().map(|plane| &self.planes[plane].store) else { return };
        let plans = names_of_plans(store);
        (self.evidence.fences, self.evidence.plans) = (fences(store, &plans), plans);
    }
}

/// Whether a plan is off that would take nodes to another version than they run: a fence that has to stay after a
/// rollback, or the controller undoes it within minutes.
fn keeps_an_upgrade_away(store: &Store, plan: &Value) -> bool {
    let annotation = &plan["metadata"]["annotations"]["rke2flow.io/was-node-selector"];
    let wanted = plan["spec"]["version"].as_str().unwrap_or_default();
    let runs = |node: &Value| node["status"]["nodeInfo"]["kubeletVersion"] == wanted;
    annotation.is_string() && store.list("", "nodes", "").into_iter().any(|(_, node)| !runs(node))
}

/// The names of the upgrade controller's plans.
fn names_of_plans(store: &Store) -> BTreeSet<String> {
    store.list(plans::GROUP, "plans", "").into_iter().map(|(key, _)| key.name.clone()).collect()
}

/// What is there of plans that were made on the way: they themselves, their jobs, their marks on nodes.
pub(crate) fn plans_left(store: &Store, before: &BTreeSet<String>) -> BTreeSet<String> {
    let mut left: BTreeSet<String> =
        names_of_plans(store).difference(before).map(|plan| format!("plan {plan} is still there")).collect();
    for (key, job) in store.list("batch", "jobs", "") {
        let plan = job["metadata"]["labels"][plans::job::OF_PLAN].as_str();
        if plan.is_some_and(|plan| !before.contains(plan)) {
            left.insert(format!("job {} is still there", key.name));
        }
    }
    for (key, node) in store.list("", "nodes", "") {
        for label in node["metadata"]["labels"].as_object().into_iter().flat_map(|labels| labels.keys()) {
            let of_plan = label.strip_prefix("plan.upgrade.cattle.io/").is_some_and(|plan| !before.contains(plan));
            if of_plan || label == "rke2flow.io/upgrade-plan" {
                left.insert(format!("node {} has the label {label}", key.name));
            }
        }
    }
    left
}

/// Nodes on which a plan acts just now: whatever they are, they are it for a moment.
fn acted_on(store: &Store) -> BTreeSet<String> {
    let plans = store.list(plans::GROUP, "plans", "").into_iter();
    let applying = |plan: &Value| plan["status"]["applying"].as_array().cloned().unwrap_or_default();
    plans.flat_map(|(_, plan)| applying(plan)).filter_map(|node| node.as_str().map(str::to_owned)).collect()
}

/// What keeps others from acting: cordons, paused schedules, plans of before that are off.
pub(crate) fn fences(store: &Store, before: &BTreeSet<String>) -> BTreeSet<String> {
    let mut up = BTreeSet::new();
    let acted_on = acted_on(store);
    for (key, node) in store.list("", "nodes", "") {
        if node["spec"]["unschedulable"] == true && !acted_on.contains(&key.name) {
            up.insert(format!("node {} is cordoned", key.name));
        }
        for (label, value) in node["metadata"]["labels"].as_object().into_iter().flatten() {
            if label.starts_with("plan.upgrade.cattle.io/") && value == "disabled" {
                up.insert(format!("node {} has {label}=disabled", key.name));
            }
        }
    }
    for (key, schedule) in store.list("velero.io", "schedules", "") {
        if schedule["spec"]["paused"] == true {
            up.insert(format!("schedule {} is paused", key.name));
        }
    }
    for (key, plan) in store.list(plans::GROUP, "plans", "") {
        if !before.contains(&key.name) || keeps_an_upgrade_away(store, plan) {
            continue;
        }
        let mut spec = plan["spec"].clone();
        if let Some(spec) = spec.as_object_mut() {
            // Which version a plan wants is its owner's business; whether it acts is the fence.
            spec.remove("version");
            spec.remove("channel");
        }
        up.insert(format!("plan {}: {}", key.name, Value::to_string(&spec)));
    }
    for (key, controller) in store.list("apps", "deployments", crate::kube::plans::NAMESPACE) {
        up.insert(format!("deployment {} has {} replicas", key.name, controller["spec"]["replicas"]));
    }
    up
}
