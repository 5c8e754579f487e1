//! The System Upgrade Controller: its plans really upgrade nodes, also after a restore brought them back.
//!
//! Sources: SUC pkg/upgrade/handle_upgrade.go, handle_batch.go, pkg/upgrade/plan/plan.go, pkg/upgrade/job/job.go.

pub mod job;
pub mod pod;
mod replay;

use std::time::Duration;

use rke2flow_engine::cluster::Role;
use rke2flow_engine::id::HostName;
use serde_json::{Value, json};
use sha2::{Digest, Sha224, Sha256};

use crate::kube::select::labels_match;
use crate::kube::store::Key;
use crate::world::World;
use crate::world::durations as take;
use crate::world::event::Event;
use crate::world::version;

pub(crate) const GROUP: &str = "upgrade.cattle.io";
/// The controller's namespace.
pub const NAMESPACE: &str = "system-upgrade";
const CONTROLLER: &str = "system-upgrade-controller";
/// The account of its jobs.
const ACCOUNT: &str = "system-upgrade";
const PLANS: [(&str, Role); 2] = [("server-plan", Role::Server), ("agent-plan", Role::Agent)];

impl World {
    /// Whether the controller and its kinds are installed.
    pub(crate) fn has_upgrade_controller(&self) -> bool {
        self.spec.upgrade_controller || self.spec.upgrade_plan.is_some()
    }

    /// The controller; and two plans that follow a channel, as terraform modules write them.
    pub(crate) fn first_plans(&mut self) {
        self.first("", "namespaces", "", NAMESPACE, crate::kube::objects::namespace_object());
        let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {}});
        self.first("", "serviceaccounts", NAMESPACE, ACCOUNT, account);
        self.workload_object("Deployment", NAMESPACE, CONTROLLER, 1, "rancher/system-upgrade-controller:v0.15.2");
        let (key, stamp) = (controller_key(), self.stamp());
        self.planes[0].store.update(&key, &stamp, |found| {
            found["spec"]["template"]["spec"]["serviceAccountName"] = json!(ACCOUNT);
        });
        self.planes[0].store.update(&key, &stamp, |found| {
            found["status"]["observedGeneration"] = found["metadata"]["generation"].clone();
        });
        let Some(wanted) = self.spec.upgrade_plan.clone() else { return };
        let product = self.distribution().name;
        for (plan, role) in PLANS {
            let operator = if role == Role::Server { "Exists" } else { "DoesNotExist" };
            let (version, hash) = (version::tag(&wanted), hash(&version::tag(&wanted), ACCOUNT));
            let current = wanted == self.spec.version;
            let object = json!({
                "apiVersion": "upgrade.cattle.io/v1", "kind": "Plan", "metadata": {},
                "spec": {
                    "concurrency": 1, "cordon": true, "serviceAccountName": ACCOUNT,
                    "channel": format!("https://update.{product}.io/v1-release/channels/stable"),
                    "nodeSelector": {"matchExpressions": [
                        {"key": "node-role.kubernetes.io/control-plane", "operator": operator},
                    ]},
                    "upgrade": {"image": format!("rancher/{product}-upgrade")},
                },
                // One that follows what the nodes run has done its work long ago.
                "status": if current { json!({"latestVersion": version, "latestHash": hash}) } else { json!({}) },
            });
            self.first(GROUP, "plans", NAMESPACE, plan, object);
            let of_role = |name: &&HostName| current && self.host(name).role == role;
            let done: Vec<HostName> = self.names.iter().filter(of_role).cloned().collect();
            for name in done {
                let label = label_of(plan);
                self.planes[0].store.update(&Key::node(name.as_str()), &stamp, |node| {
                    node["metadata"]["labels"][&label] = json!(hash);
                });
            }
        }
    }

    /// The controller looks now and then, whatever happens.
    pub(crate) fn look_at_plans(&mut self, plane: usize) {
        self.plans_changed(plane);
        self.after(take::PLAN_RESYNC, Event::Plans { plane });
    }

    /// Something that the controller watches has changed: a plan, a node or a job.
    pub(crate) fn plan_object_changed(&mut self, plane: usize, key: &Key) {
        let watched =
            matches!((key.group.as_str(), key.plural.as_str()), (GROUP, "plans") | ("", "nodes") | ("batch", "jobs"));
        if watched && self.has_upgrade_controller() {
            self.after(take::PLAN_LOOK, Event::PlansNow { plane });
        }
    }

    /// Jobs first: one that is done frees its plan for the next node.
    pub(crate) fn plans_changed(&mut self, plane: usize) {
        let runs = self.planes[plane].store.get(&controller_key()).is_some_and(|found| found["spec"]["replicas"] != 0);
        if !self.serves(plane) || !runs {
            return;
        }
        self.handle_jobs(plane);
        let plans: Vec<Key> =
            self.planes[plane].store.list(GROUP, "plans", NAMESPACE).into_iter().map(|(key, _)| key.clone()).collect();
        for plan in plans {
            self.handle_plan(plane, &plan);
        }
    }

    /// One plan: its version, the nodes that are in turn, a job for each of them.
    fn handle_plan(&mut self, plane: usize, key: &Key) {
        let Some(mut plan) = self.planes[plane].store.get(key).cloned() else { return };
        let Some(version) = self.resolve(&plan) else { return };
        let account = plan["spec"]["serviceAccountName"].as_str().unwrap_or("default").to_owned();
        plan["status"]["latestHash"] = json!(hash(&version, &account));
        plan["status"]["latestVersion"] = json!(version);
        let nodes = self.in_turn(plane, &key.name, &plan);
        if nodes.is_empty() {
            plan["status"].as_object_mut().map(|status| status.remove("applying"));
        } else {
            plan["status"]["applying"] = json!(nodes);
        }
        let complete = if nodes.is_empty() { "True" } else { "False" };
        plan["status"]["conditions"] = json!([
            {"type": "LatestResolved", "status": "True", "reason": "Version"},
            {"type": "Validated", "status": "True", "reason": "PlanIsValid"},
            {"type": "Complete", "status": complete, "reason": if nodes.is_empty() { "Complete" } else { "SyncJob" }},
        ]);
        let stamp = self.stamp();
        if self.planes[plane].store.get(key) != Some(&plan) {
            self.planes[plane].store.put(key.clone(), plan.clone(), &stamp);
        }
        for node in nodes {
            self.make_job(plane, &key.name, &plan, &node);
        }
    }

    /// The version that a plan wants, as an image's tag. A channel is asked every 15 min, the first time soon.
    fn resolve(&mut self, plan: &Value) -> Option<String> {
        if let Some(version) = plan["spec"]["version"].as_str().filter(|version| !version.is_empty()) {
            return Some(version::tag(version));
        }
        plan["spec"]["channel"].as_str().filter(|channel| !channel.is_empty())?;
        let uid = plan["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
        let first = self.now + take::PLAN_FIRST;
        let next = *self.channels_asked.entry(uid.clone()).or_insert(first);
        if self.now >= next {
            self.channels_asked.insert(uid, self.now + take::PLAN_POLL);
            return self.spec.upgrade_plan.as_deref().map(version::tag);
        }
        plan["status"]["latestVersion"].as_str().map(str::to_owned)
    }

    /// Nodes that a plan selects and is not done with: those it acts on already, then others up to its concurrency, in
    /// an order that looks like chance (SUC pkg/upgrade/plan/plan.go).
    fn in_turn(&self, plane: usize, name: &str, plan: &Value) -> Vec<String> {
        let (label, hash) = (label_of(name), &plan["status"]["latestHash"]);
        // A plan without a selector selects nothing.
        let selector = &plan["spec"]["nodeSelector"];
        let fits = |node: &Value| {
            let labels = &node["metadata"]["labels"];
            let hostname = labels["kubernetes.io/hostname"].is_string();
            let done = labels[&label] == "disabled" || labels[&label] == *hash;
            selector.is_object() && hostname && !done && labels_match(selector, labels)
        };
        let acts =
            |node: &str| plan["status"]["applying"].as_array().is_some_and(|all| all.iter().any(|one| one == node));
        let chance = |node: &Value| {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let parts = [text(&node["metadata"]["uid"]), text(&plan["metadata"]["uid"]), text(hash)];
            Sha256::digest(parts.concat()).to_vec()
        };
        let mut found: Vec<(bool, Vec<u8>, String)> = self.planes[plane]
            .store
            .list("", "nodes", "")
            .into_iter()
            .filter(|(_, node)| fits(node))
            .map(|(key, node)| (!acts(&key.name), chance(node), key.name.clone()))
            .collect();
        found.sort();
        let concurrency = plan["spec"]["concurrency"].as_u64().unwrap_or(0) as usize;
        let acting = found.iter().filter(|(new, ..)| !new).count();
        let mut nodes: Vec<String> = found.into_iter().take(concurrency.max(acting)).map(|(_, _, name)| name).collect();
        nodes.sort();
        nodes
    }
}

/// The label of a node that a plan is done with.
pub(crate) fn label_of(plan: &str) -> String {
    format!("plan.upgrade.cattle.io/{plan}")
}

/// What marks a node as done: of the version and the account.
fn hash(version: &str, account: &str) -> String {
    Sha224::digest(format!("{version}{account}")).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn controller_key() -> Key {
    Key::new("apps", "deployments", NAMESPACE, CONTROLLER)
}

/// How long the controller keeps a job that has ended: its own manifest's value.
pub(crate) const KEEP_ENDED: Duration = Duration::from_secs(900);
