//! Jobs of the System Upgrade Controller: made for a node that is in turn, judged when they have ended.

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{KEEP_ENDED, NAMESPACE, label_of};
use crate::kube::store::Key;
use crate::world::World;
use crate::world::durations as take;
use crate::world::event::Event;

/// The label of what the controller makes for a plan.
pub(crate) const OF_PLAN: &str = "upgrade.cattle.io/plan";
const OF_NODE: &str = "upgrade.cattle.io/node";
const CONTROLLER: &str = "upgrade.cattle.io/controller";
/// The label of a job's pods.
pub(crate) const OF_JOB: &str = "batch.kubernetes.io/job-name";

impl World {
    /// A job for a node, unless there is one of its name.
    pub(crate) fn make_job(&mut self, plane: usize, name: &str, plan: &Value, node: &str) {
        let status = &plan["status"];
        let hash = status["latestHash"].as_str().unwrap_or_default();
        let key = Key::new("batch", "jobs", NAMESPACE, &short(&format!("apply-{name}-on-{node}-with-{hash}")));
        if self.planes[plane].store.get(&key).is_some() {
            return;
        }
        let mut labels = json!({
            CONTROLLER: "system-upgrade-controller",
            "upgrade.cattle.io/exclusive": plan["spec"]["exclusive"].as_bool().unwrap_or(false).to_string(),
            OF_PLAN: name, OF_NODE: node,
            "upgrade.cattle.io/version": status["latestVersion"],
            label_of(name): hash,
        });
        // A plan's own labels go on to its jobs, those of the controller's do not.
        for (label, value) in plan["metadata"]["labels"].as_object().into_iter().flatten() {
            if !label.contains("cattle.io/") {
                labels[label] = value.clone();
            }
        }
        let image = format!(
            "{}:{}",
            plan["spec"]["upgrade"]["image"].as_str().unwrap_or_default(),
            status["latestVersion"].as_str().unwrap_or_default()
        );
        let deadline = plan["spec"]["jobActiveDeadlineSecs"].as_u64().unwrap_or(DEADLINE_SECONDS);
        let job = json!({
            "apiVersion": "batch/v1", "kind": "Job", "metadata": {"labels": labels},
            "spec": {
                "backoffLimit": 99, "activeDeadlineSeconds": deadline, "completions": 1, "parallelism": 1,
                "ttlSecondsAfterFinished": KEEP_ENDED.as_secs(),
                "template": {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "upgrade", "image": image}]}},
            },
            "status": {"active": 1},
        });
        let stamp = self.stamp();
        let made = self.planes[plane].store.put(key.clone(), job, &stamp);
        let uid = made["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
        self.after(std::time::Duration::from_secs(deadline), Event::JobDeadline { plane, job: key.clone(), uid });
        self.after(take::PLAN_LOOK, Event::JobPod { plane, job: key });
    }

    /// What the controller makes of each of its jobs.
    pub(crate) fn handle_jobs(&mut self, plane: usize) {
        let jobs = self.planes[plane].store.list("batch", "jobs", NAMESPACE);
        let jobs: Vec<(Key, Value)> = jobs
            .into_iter()
            .filter(|(_, job)| job["metadata"]["labels"][CONTROLLER].is_string())
            .map(|(key, job)| (key.clone(), job.clone()))
            .collect();
        for (key, job) in jobs {
            self.handle_job(plane, &key, &job);
        }
    }

    fn handle_job(&mut self, plane: usize, key: &Key, job: &Value) {
        let labels = &job["metadata"]["labels"];
        let (plan, node) = (labels[OF_PLAN].as_str().unwrap_or_default(), labels[OF_NODE].as_str().unwrap_or_default());
        let plan_key = Key::new(super::GROUP, "plans", NAMESPACE, plan);
        let Some(object) = self.planes[plane].store.get(&plan_key).cloned() else { return self.delete_job(plane, key) };
        let other_version = labels["upgrade.cattle.io/version"] != object["status"]["latestVersion"];
        if other_version || self.planes[plane].store.get(&Key::node(node)).is_none() {
            return self.delete_job(plane, key);
        }
        let since = self.jobs_ended.get(job["metadata"]["uid"].as_str().unwrap_or_default()).copied();
        if since.is_some_and(|since| self.now >= since + KEEP_ENDED) {
            return self.delete_job(plane, key);
        }
        let applying = object["status"]["applying"].as_array().is_some_and(|all| all.iter().any(|one| one == node));
        match ended(job) {
            Some("Complete") => self.node_done(plane, plan, &object, node, &labels[label_of(plan)]),
            Some(_) => {}
            // It runs out of turn.
            None if !applying => self.delete_job(plane, key),
            None => {}
        }
    }

    /// The node gets its mark, and whoever had cordoned it: it is schedulable again.
    fn node_done(&mut self, plane: usize, plan: &str, object: &Value, node: &str, hash: &Value) {
        let (key, label) = (Key::node(node), label_of(plan));
        let cordons = object["spec"]["cordon"] == true || object["spec"]["drain"].is_object();
        let Some(found) = self.planes[plane].store.get(&key) else { return };
        let done = found["metadata"]["labels"][&label] == *hash;
        if done {
            return;
        }
        let stamp = self.stamp();
        self.planes[plane].store.update(&key, &stamp, |node| {
            node["metadata"]["labels"][&label] = hash.clone();
            if cordons && let Some(spec) = node["spec"].as_object_mut() {
                spec.remove("unschedulable");
            }
        });
    }

    /// A job has ended: so many seconds later the controller cleans it away.
    pub(crate) fn job_ends(&mut self, plane: usize, key: &Key, kind: &str, reason: &str, message: &str) {
        let (stamp, now) = (self.stamp(), self.now);
        let mut uid = String::new();
        self.planes[plane].store.update(key, &stamp, |job| {
            job["metadata"]["uid"].as_str().unwrap_or_default().clone_into(&mut uid);
            let failed = job["status"]["failed"].clone();
            job["status"] = json!({"conditions": [
                {"type": kind, "status": "True", "reason": reason, "message": message, "lastTransitionTime": stamp},
            ]});
            if kind == "Complete" {
                job["status"]["succeeded"] = json!(1);
                job["status"]["completionTime"] = json!(stamp);
            }
            if !failed.is_null() {
                job["status"]["failed"] = failed;
            }
        });
        self.jobs_ended.insert(uid, now);
        self.after(take::PLAN_LOOK, Event::PlansNow { plane });
    }

    /// A job that took too long is given up, its pods with it.
    pub(crate) fn job_deadline(&mut self, plane: usize, key: &Key, uid: &str) {
        let open = |job: &Value| job["metadata"]["uid"] == uid && ended(job).is_none();
        if self.planes[plane].store.get(key).is_some_and(open) {
            self.delete_pods_of(plane, key);
            self.job_ends(plane, key, "Failed", "DeadlineExceeded", "Job was active longer than specified deadline");
        }
    }

    fn delete_job(&mut self, plane: usize, key: &Key) {
        self.planes[plane].store.remove(key);
        self.delete_pods_of(plane, key);
    }

    /// With a job its pods go.
    pub(crate) fn delete_pods_of(&mut self, plane: usize, job: &Key) {
        for pod in self.pods_of_job(plane, job) {
            self.planes[plane].store.remove(&pod);
        }
    }

    /// The pods of a job.
    pub(crate) fn pods_of_job(&self, plane: usize, job: &Key) -> Vec<Key> {
        let pods = self.planes[plane].store.list("", "pods", &job.namespace);
        let of = |pod: &Value| pod["metadata"]["labels"][OF_JOB] == job.name.as_str();
        pods.into_iter().filter(|(_, pod)| of(pod)).map(|(key, _)| key.clone()).collect()
    }
}

/// What the controller's manifest gives a job whose plan does not say.
const DEADLINE_SECONDS: u64 = 900;

/// `Complete` or `Failed`; `None` while it goes on.
pub(crate) fn ended(job: &Value) -> Option<&str> {
    let holds = |condition: &&Value| condition["status"] == "True";
    job["status"]["conditions"].as_array()?.iter().find(holds)?["type"].as_str()
}

/// Names have 63 characters at most; what is too long ends in a digest (wrangler pkg/name).
fn short(name: &str) -> String {
    if name.len() < 64 {
        return name.to_owned();
    }
    let digest: String = Sha256::digest(name).iter().take(3).map(|byte| format!("{byte:02x}")).collect();
    format!("{}-{}", &name[..57], &digest[..5])
}
