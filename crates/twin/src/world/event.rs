//! What happens by itself at a moment, and who handles it.

use rke2flow_engine::id::HostName;
use serde_json::Value;

use crate::host::service::StartStep;
use crate::kube::plans::pod::PodStep;
use crate::kube::store::Key;
use crate::velero::VeleroEvent;
use crate::world::World;

/// Something that is due at a moment of cluster time.
#[derive(Debug, Clone)]
pub enum Event {
    /// A stage of a detached unit has run long enough.
    Stage {
        /// Where.
        host: HostName,
        /// The unit.
        unit: String,
        /// Index of the stage.
        index: usize,
    },
    /// A starting node gets to its next step. Ignored when the unit was started or stopped since.
    Start {
        /// Where.
        host: HostName,
        /// Which start.
        generation: u64,
        /// The step.
        step: StartStep,
    },
    /// The leader gives up a learner that has stalled.
    Evict {
        /// The control plane.
        plane: usize,
        /// The learner's name.
        member: String,
    },
    /// The static pods of a server's new version run.
    StaticPods {
        /// Where.
        host: HostName,
        /// Which start.
        generation: u64,
    },
    /// The host loses its power.
    PowerOff {
        /// Which.
        host: HostName,
        /// When it comes back, in seconds.
        back_after_seconds: Option<u64>,
    },
    /// The host has power again and starts what is enabled.
    Boot(HostName),
    /// A controller replaces a pod.
    Pod {
        /// The control plane.
        plane: usize,
        /// Namespace and name.
        key: Key,
        /// The pod.
        pod: Value,
    },
    /// The jobs of the shipped charts have ended.
    Charts {
        /// The control plane.
        plane: usize,
        /// The version that shipped them.
        version: String,
    },
    /// A workload object has rolled out.
    Rollout {
        /// The control plane.
        plane: usize,
        /// The object.
        key: Key,
    },
    /// The upgrade controller looks at its plans.
    Plans {
        /// The control plane.
        plane: usize,
    },
    /// The upgrade controller has seen a change.
    PlansNow {
        /// The control plane.
        plane: usize,
    },
    /// An upgrade job gets a pod.
    JobPod {
        /// The control plane.
        plane: usize,
        /// The job.
        job: Key,
    },
    /// The pod of an upgrade job gets on.
    JobStep {
        /// The control plane.
        plane: usize,
        /// The job.
        job: Key,
        /// The pod.
        pod: Key,
        /// What comes next.
        step: PodStep,
    },
    /// An upgrade job has had its time.
    JobDeadline {
        /// The control plane.
        plane: usize,
        /// The job.
        job: Key,
        /// Which job of this name.
        uid: String,
    },
    /// The pod of an upgrade job out of a snapshot does its work.
    ReplayedJob {
        /// The control plane.
        plane: usize,
        /// The job.
        job: Key,
        /// The node.
        node: HostName,
        /// The version, as an image's tag.
        version: String,
    },
    /// Something of Velero.
    Velero {
        /// The control plane.
        plane: usize,
        /// What.
        what: VeleroEvent,
    },
    /// The workload writes.
    Write,
}

impl World {
    /// Lets one event happen.
    pub(crate) fn happen(&mut self, event: Event) {
        match event {
            Event::Stage { host, unit, index } => self.run_stage(&host, &unit, index),
            Event::Start { host, generation, step } => self.continue_start(&host, generation, step),
            Event::Evict { plane, member } => self.evict(plane, &member),
            Event::StaticPods { host, generation } => self.static_pods_run(&host, generation),
            Event::PowerOff { host, back_after_seconds } => self.power_off(&host, back_after_seconds),
            Event::Boot(host) => self.boot(&host),
            Event::Pod { plane, key, pod } => self.pod_starts(plane, key, pod),
            Event::Charts { plane, version } => self.charts_done(plane, &version),
            Event::Rollout { plane, key } => self.rolled_out(plane, &key),
            Event::Plans { plane } => self.look_at_plans(plane),
            Event::PlansNow { plane } => self.plans_changed(plane),
            Event::JobPod { plane, job } => self.job_pod(plane, &job),
            Event::JobStep { plane, job, pod, step } => self.job_step(plane, job, pod, step),
            Event::JobDeadline { plane, job, uid } => self.job_deadline(plane, &job, &uid),
            Event::ReplayedJob { plane, job, node, version } => self.replayed_job(plane, job, node, version),
            Event::Velero { plane, what } => self.velero(plane, what),
            Event::Write => self.workload_writes(),
        }
    }
}
