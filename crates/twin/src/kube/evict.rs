//! Evictions: a pod is deleted when the disruption budget that covers it allows that.

use serde_json::{Value, json};

use crate::kube::change;
use crate::kube::request::KubeReply;
use crate::kube::route::Route;
use crate::kube::store::Key;
use crate::world::World;

impl World {
    /// Evicts a pod (kubernetes pkg/registry/core/pod/storage/eviction.go).
    pub(crate) fn evict_pod(&mut self, plane: usize, route: &Route, body: &Value) -> KubeReply {
        let Some(pod) = self.planes[plane].store.get(&route.key) else { return KubeReply::not_found(&route.key) };
        let options = &body["deleteOptions"];
        if let Err(refused) = change::conflict(route, pod, &options["preconditions"]) {
            return refused;
        }
        match self.budgets_of(plane, pod).as_slice() {
            [] => {}
            [budget] => {
                let (healthy, needed) = self.disruption(plane, budget);
                if is_ready(pod) && healthy <= needed {
                    return too_many(&budget.name, healthy, needed);
                }
            }
            _ => {
                let why =
                    "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.";
                return KubeReply::refused(500, "InternalError", why);
            }
        }
        match self.delete(plane, &Route { sub: String::new(), ..route.clone() }, options) {
            deleted if deleted.status >= 400 => deleted,
            _ => {
                KubeReply::json(201, json!({"apiVersion": "v1", "kind": "Status", "metadata": {}, "status": "Success"}))
            }
        }
    }

    /// The budgets whose selector fits a pod.
    fn budgets_of(&self, plane: usize, pod: &Value) -> Vec<Key> {
        let namespace = pod["metadata"]["namespace"].as_str().unwrap_or_default();
        let budgets = self.planes[plane].store.list("policy", "poddisruptionbudgets", namespace);
        budgets.into_iter().filter(|(_, budget)| covers(budget, pod)).map(|(key, _)| key.clone()).collect()
    }

    /// How many pods of a budget are healthy, and how many have to be.
    fn disruption(&self, plane: usize, key: &Key) -> (u64, u64) {
        let store = &self.planes[plane].store;
        let Some(budget) = store.get(key) else { return (0, 0) };
        let pods: Vec<&Value> = store
            .list("", "pods", &key.namespace)
            .into_iter()
            .map(|(_, pod)| pod)
            .filter(|pod| covers(budget, pod))
            .collect();
        let healthy = pods.iter().filter(|pod| is_ready(pod)).count() as u64;
        let expected = self.wanted(plane, &key.namespace, budget).max(healthy);
        let spec = &budget["spec"];
        let needed = match amount(&spec["maxUnavailable"], expected) {
            Some(unavailable) => expected.saturating_sub(unavailable),
            None => amount(&spec["minAvailable"], expected).unwrap_or(1),
        };
        (healthy, needed)
    }

    /// How many pods the workloads that a budget covers want.
    fn wanted(&self, plane: usize, namespace: &str, budget: &Value) -> u64 {
        let store = &self.planes[plane].store;
        let of = |plural: &str| {
            let found = store.list("apps", plural, namespace).into_iter();
            let covered = found.filter(|(_, workload)| covers(budget, &workload["spec"]["template"]));
            covered.map(|(_, workload)| workload["spec"]["replicas"].as_u64().unwrap_or(1)).sum::<u64>()
        };
        of("deployments") + of("statefulsets")
    }
}

fn covers(budget: &Value, object: &Value) -> bool {
    let wanted = budget["spec"]["selector"]["matchLabels"].as_object();
    wanted.is_some_and(|wanted| wanted.iter().all(|(name, value)| object["metadata"]["labels"][name] == *value))
}

fn is_ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array();
    conditions.is_some_and(|all| all.iter().any(|one| one["type"] == "Ready" && one["status"] == "True"))
}

/// A number, or a share of what is expected, rounded up.
fn amount(value: &Value, expected: u64) -> Option<u64> {
    let share = |text: &str| text.strip_suffix('%')?.parse::<u64>().ok();
    value.as_u64().or_else(|| share(value.as_str()?).map(|percent| (expected * percent).div_ceil(100)))
}

fn too_many(budget: &str, healthy: u64, needed: u64) -> KubeReply {
    let cause = format!("The disruption budget {budget} needs {needed} healthy pods and has {healthy} currently");
    KubeReply::json(
        429,
        json!({
            "apiVersion": "v1", "kind": "Status", "metadata": {}, "status": "Failure", "reason": "TooManyRequests",
            "message": "Cannot evict pod as it would violate the pod's disruption budget.", "code": 429,
            "details": {"causes": [{"reason": "DisruptionBudget", "message": cause}]},
        }),
    )
}
