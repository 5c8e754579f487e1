//! Kinds of Velero, which acts on its own.

use serde::Deserialize;

use super::Meta;

/// A Schedule of Velero.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(default)]
pub struct Schedule {
    /// Its metadata.
    pub metadata: Meta,
    /// What is wanted.
    pub spec: ScheduleSpec,
}

/// What is wanted of a Schedule.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(default)]
pub struct ScheduleSpec {
    /// Whether it starts no backups.
    pub paused: bool,
}

/// A Backup, a Restore, a PodVolumeBackup or a PodVolumeRestore of Velero.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(default)]
pub struct VeleroJob {
    /// Its metadata.
    pub metadata: Meta,
    /// What is wanted.
    pub spec: VeleroJobSpec,
    /// How far it is.
    pub status: VeleroJobStatus,
}

/// What is wanted of a Velero job.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(default)]
pub struct VeleroJobSpec {
    /// The pod of a PodVolumeBackup.
    pub pod: PodRef,
}

/// A pod by name.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(default)]
pub struct PodRef {
    /// Its namespace.
    pub namespace: String,
}

/// How far a Velero job is.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct VeleroJobStatus {
    /// Empty at first; one that is not known here counts as running.
    pub phase: String,
    /// Why a Failed one failed.
    pub failure_reason: String,
    /// Why a FailedValidation one failed.
    pub validation_errors: Vec<String>,
    /// Number of errors.
    pub errors: i64,
    /// Number of warnings.
    pub warnings: i64,
}

/// Where a Velero job stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VeleroEnd {
    /// Completed without an error.
    Completed,
    /// On its way: its phase.
    Running(String),
    /// Ended otherwise: phase and reason.
    Failed(String),
}

impl VeleroJob {
    /// Where it stands.
    pub fn end(&self) -> VeleroEnd {
        let VeleroJobStatus { phase, failure_reason, validation_errors, errors, .. } = &self.status;
        match phase.as_str() {
            "Completed" if *errors == 0 => VeleroEnd::Completed,
            "Completed" | "PartiallyFailed" | "Failed" | "FailedValidation" | "Canceled" | "Deleting" => {
                let mut why = vec![format!("{phase}, {errors} errors")];
                why.extend(Some(failure_reason.clone()).filter(|reason| !reason.is_empty()));
                why.extend(validation_errors.iter().cloned());
                VeleroEnd::Failed(why.join("; "))
            }
            "" => VeleroEnd::Running("not seen by Velero yet".to_owned()),
            other => VeleroEnd::Running(other.to_owned()),
        }
    }
}
