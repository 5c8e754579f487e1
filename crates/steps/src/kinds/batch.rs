//! Jobs: what is done once, and what is done by a clock.

use serde::Deserialize;

use super::{Condition, Meta};

/// A Job.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(default)]
pub struct Job {
    /// Its metadata.
    pub metadata: Meta,
    /// How far it is.
    pub status: JobStatus,
}

/// How far a Job is.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct JobStatus {
    /// Pods that failed.
    pub failed: i64,
    /// Pods that succeeded.
    pub succeeded: i64,
    /// `Complete`, `Failed`.
    pub conditions: Vec<Condition>,
}

impl Job {
    /// The Jobs of every namespace.
    pub const ALL: &str = "/apis/batch/v1/jobs";

    /// Its path.
    pub fn path(&self) -> String {
        format!("/apis/batch/v1/namespaces/{}/jobs/{}", self.metadata.namespace, self.metadata.name)
    }

    /// Whether it did what it is for.
    pub fn is_complete(&self) -> bool {
        self.status.succeeded > 0 || self.has("Complete")
    }

    /// Whether nothing more is done for it.
    pub fn has_ended(&self) -> bool {
        self.is_complete() || self.has("Failed")
    }

    /// The condition of this kind that holds.
    pub fn condition(&self, kind: &str) -> Option<&Condition> {
        self.status.conditions.iter().find(|condition| condition.kind == kind && condition.status == "True")
    }

    fn has(&self, kind: &str) -> bool {
        self.condition(kind).is_some()
    }
}

/// A CronJob.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(default)]
pub struct CronJob {
    /// Its metadata.
    pub metadata: Meta,
    /// What is wanted.
    pub spec: CronJobSpec,
}

/// What is wanted of a CronJob.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(default)]
pub struct CronJobSpec {
    /// Whether it starts nothing.
    pub suspend: bool,
}

impl CronJob {
    /// The CronJobs of every namespace.
    pub const ALL: &str = "/apis/batch/v1/cronjobs";
}
