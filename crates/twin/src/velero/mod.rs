//! The controllers of Velero: backups, restores, schedules, the storage location, and the volumes that they copy.

pub mod backup;
pub mod restore;
pub mod sync;
pub mod volume;

use serde_json::{Value, json};

use crate::kube::store::Key;
use crate::world::World;
use crate::world::durations as take;
use crate::world::event::Event;

pub use volume::Volume;

/// Velero's API group.
pub const GROUP: &str = "velero.io";
/// Velero's namespace.
pub const NAMESPACE: &str = "velero";
/// The prefix of its storage location in the bucket.
pub const PREFIX: &str = "velero";
/// The storage location.
pub const LOCATION: &str = "default";

/// Something that Velero does at a moment.
#[derive(Debug, Clone)]
pub enum VeleroEvent {
    /// The server's pod runs again.
    Start,
    /// Validation and sync of the location, and the schedules.
    Sync,
    /// The next step of a backup.
    Backup {
        /// Its name.
        name: String,
        /// Where it is.
        step: Step,
    },
    /// The next step of a restore.
    Restore {
        /// Its name.
        name: String,
        /// Where it is.
        step: Step,
    },
}

/// The steps of a backup or restore.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// It was seen.
    Begin,
    /// It works on objects and volumes.
    Work,
    /// Volumes are copied; what is left is written.
    Finalize,
    /// It ends.
    End,
}

impl World {
    /// One event of Velero; postponed while its server does not run.
    pub(crate) fn velero(&mut self, plane: usize, what: VeleroEvent) {
        if self.newest_reset().is_some_and(|newest| newest > plane) {
            return;
        }
        if !self.velero_runs(plane) {
            return self.after(take::VELERO_PHASE, Event::Velero { plane, what });
        }
        match what {
            VeleroEvent::Start => self.velero_restarted(plane),
            VeleroEvent::Sync => self.velero_sync(plane),
            VeleroEvent::Backup { name, step } => self.backup(plane, &name, step),
            VeleroEvent::Restore { name, step } => self.restore(plane, &name, step),
        }
    }

    /// Whether Velero's server runs: its API answers and some kubelet has its pod.
    fn velero_runs(&self, plane: usize) -> bool {
        let server = Key::new("apps", "deployments", NAMESPACE, "velero");
        let wanted = self.planes[plane].store.get(&server).is_some_and(|found| found["spec"]["replicas"] != 0);
        let kubelet = self.names.iter().any(|name| self.kubelet_reaches(name) == Some(plane));
        wanted && self.serves(plane) && kubelet
    }

    /// A new control plane serves: Velero's loop begins.
    pub(crate) fn velero_starts(&mut self, plane: usize) {
        if !self.spec.velero {
            return;
        }
        self.after(take::VELERO_SYNC, Event::Velero { plane, what: VeleroEvent::Sync });
        if self.spec.agents == 0 {
            self.velero_may_start();
        }
    }

    /// The first agent after a control plane's start brings Velero's pod back.
    pub(crate) fn velero_may_start(&mut self) {
        let Some(plane) = self.reached().filter(|plane| *plane > 0 && self.spec.velero) else { return };
        if self.velero_seen.insert(format!("started/{plane}")) {
            self.after(take::VELERO_START, Event::Velero { plane, what: VeleroEvent::Start });
        }
    }

    /// What a starting server finds in progress it marks as failed; what is new it takes up (V:pkg/cmd/server/server.go).
    pub(crate) fn velero_restarted(&mut self, plane: usize) {
        for plural in ["backups", "restores"] {
            for (key, object) in self.velero_objects(plane, plural) {
                match object["status"]["phase"].as_str().unwrap_or_default() {
                    "InProgress" => {
                        let what = plural.trim_end_matches('s');
                        let reason = format!(
                            "found a {what} with status \"InProgress\" during the server starting, mark it as \"Failed\""
                        );
                        self.velero_update(plane, &key, json!({"phase": "Failed", "failureReason": reason}));
                    }
                    "" | "New" => {
                        self.velero_seen.remove(&seen(plane, &object));
                        self.velero_changed(plane, &key);
                    }
                    "Finalizing" | "FinalizingPartiallyFailed" if plural == "backups" => {
                        let what = VeleroEvent::Backup { name: key.name.clone(), step: Step::End };
                        self.after(take::VELERO_PHASE, Event::Velero { plane, what });
                    }
                    _ => {}
                }
            }
        }
    }

    /// A client made or changed an object of Velero's.
    pub(crate) fn velero_changed(&mut self, plane: usize, key: &Key) {
        if key.group != GROUP || !self.spec.velero {
            return;
        }
        let Some(object) = self.planes[plane].store.get(key).cloned() else { return };
        let name = key.name.clone();
        let what = match key.plural.as_str() {
            "backups" => VeleroEvent::Backup { name, step: Step::Begin },
            "restores" => VeleroEvent::Restore { name, step: Step::Begin },
            "serverstatusrequests" if object["status"]["phase"] != "Processed" => {
                return self.velero_update(plane, key, json!({"phase": "Processed", "serverVersion": "v1.17.2"}));
            }
            "deletebackuprequests" if object["status"]["phase"] != "Processed" => {
                return self.delete_backup(plane, key, &object);
            }
            _ => return,
        };
        let phase = object["status"]["phase"].as_str().unwrap_or_default();
        if matches!(phase, "" | "New") && self.velero_seen.insert(seen(plane, &object)) {
            self.after(take::VELERO_PHASE, Event::Velero { plane, what });
        }
    }

    /// An object of Velero's was deleted: what it owns goes with it.
    pub(crate) fn velero_deleted(&mut self, plane: usize, key: &Key) {
        let (plural, label) = match key.plural.as_str() {
            "backups" => ("podvolumebackups", "velero.io/backup-name"),
            "restores" => ("podvolumerestores", "velero.io/restore-name"),
            _ => return,
        };
        for (owned, object) in self.velero_objects(plane, plural) {
            if object["metadata"]["labels"][label] == key.name.as_str() {
                self.planes[plane].store.remove(&owned);
            }
        }
    }

    fn delete_backup(&mut self, plane: usize, key: &Key, request: &Value) {
        let backup = request["spec"]["backupName"].as_str().unwrap_or_default().to_owned();
        let owned = Key::new(GROUP, "backups", NAMESPACE, &backup);
        self.planes[plane].store.remove(&owned);
        self.velero_deleted(plane, &owned);
        for object in self.bucket.keys(&self.spec.bucket, &format!("{PREFIX}/backups/{backup}/")) {
            self.bucket.remove(&self.spec.bucket, &object);
        }
        self.velero_update(plane, key, json!({"phase": "Processed", "errors": []}));
    }

    /// Objects of a kind.
    pub(crate) fn velero_objects(&self, plane: usize, plural: &str) -> Vec<(Key, Value)> {
        let found = self.planes[plane].store.list(GROUP, plural, NAMESPACE);
        found.into_iter().map(|(key, object)| (key.clone(), object.clone())).collect()
    }

    /// Merges into an object's status.
    pub(crate) fn velero_update(&mut self, plane: usize, key: &Key, status: Value) {
        let stamp = self.stamp();
        self.planes[plane].store.update(key, &stamp, |object| {
            crate::kube::change::merge_into(&mut object["status"], &status);
        });
    }

    /// The phase of an object; `None` when it is gone.
    pub(crate) fn velero_phase(&self, plane: usize, key: &Key) -> Option<String> {
        let object = self.planes[plane].store.get(key)?;
        Some(object["status"]["phase"].as_str().unwrap_or_default().to_owned())
    }
}

fn seen(plane: usize, object: &Value) -> String {
    format!("{plane}/{}", object["metadata"]["uid"].as_str().unwrap_or_default())
}
