//! Jobs of plans that come back with a snapshot: nobody asks the controller before their pods start.

use rke2flow_engine::id::HostName;
use serde_json::{Value, json};

use super::NAMESPACE;
use crate::kube::store::Key;
use crate::world::World;
use crate::world::durations as take;
use crate::world::event::Event;
use crate::world::plane::Cause;

impl World {
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
        self.host_mut(&node).installed = crate::world::version::untag(&version);
        self.stop_unit(&node, Cause::Restart);
        self.start_unit(&node);
    }
}
