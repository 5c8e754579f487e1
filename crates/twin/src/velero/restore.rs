//! A restore: what exists is skipped without an error, volumes are filled only when claim and pod were made by it.

use std::time::Duration;

use serde_json::{Value, json};

use crate::host::archive::{gunzip, gzip};
use crate::kube::store::Key;
use crate::spec::VolumeSpec;
use crate::velero::backup::covers;
use crate::velero::{GROUP, NAMESPACE, PREFIX, Step, VeleroEvent};
use crate::world::World;
use crate::world::durations as take;
use crate::world::event::Event;

impl World {
    /// The next step of a restore.
    pub(crate) fn restore(&mut self, plane: usize, name: &str, step: Step) {
        let key = Key::new(GROUP, "restores", NAMESPACE, name);
        let Some(phase) = self.velero_phase(plane, &key) else { return };
        let next = match (step, phase.as_str()) {
            (Step::Begin, "" | "New") => self.restore_begins(plane, &key),
            (Step::Work, "InProgress") => self.restore_works(plane, &key),
            (Step::Finalize, "InProgress") => self.restore_finalizes(plane, &key),
            (Step::End, "Finalizing") => self.restore_ends(plane, &key),
            _ => None,
        };
        if let Some((delay, step)) = next {
            self.after(delay, Event::Velero { plane, what: VeleroEvent::Restore { name: name.to_owned(), step } });
        }
    }

    fn restore_begins(&mut self, plane: usize, key: &Key) -> Option<(Duration, Step)> {
        let busy =
            self.velero_objects(plane, "restores").iter().any(|(_, other)| other["status"]["phase"] == "InProgress");
        if busy {
            return Some((take::VELERO_PHASE, Step::Begin));
        }
        let backup = self.backup_of(plane, key);
        if self.planes[plane].store.get(&Key::new(GROUP, "backups", NAMESPACE, &backup)).is_none() {
            let error = format!("Error retrieving backup: backups.velero.io \"{backup}\" not found");
            self.velero_update(plane, key, json!({"phase": "FailedValidation", "validationErrors": [error]}));
            return None;
        }
        let stamp = self.stamp();
        self.velero_update(plane, key, json!({"phase": "InProgress", "startTimestamp": stamp}));
        Some((take::VELERO_ITEMS, Step::Work))
    }

    /// Objects that are missing are made; an existing one is at most a warning (V:pkg/restore/restore.go).
    fn restore_works(&mut self, plane: usize, key: &Key) -> Option<(Duration, Step)> {
        let backup = self.backup_of(plane, key);
        let spec = self.planes[plane].store.get(key).map(|restore| restore["spec"].clone()).unwrap_or_default();
        let stamp = self.stamp();
        let (mut warnings, mut gib) = (0, 0);
        for item in self.tarball(&backup) {
            let Ok(target) = serde_json::from_value::<Key>(item["key"].clone()) else { continue };
            if !covers(&spec, &target.namespace) || !includes(&spec, &target.plural) {
                continue;
            }
            if self.planes[plane].store.get(&target).is_some() {
                warnings += 1;
                continue;
            }
            if target.plural == "persistentvolumeclaims" {
                if let Some(volume) = self.volume_spec(&target) {
                    self.provision(plane, &volume);
                }
                continue;
            }
            let mut object = item["object"].clone();
            if target.plural == "pods" {
                object["metadata"]["ownerReferences"] = json!([]);
                object["metadata"]["labels"]["velero.io/restore-name"] = json!(key.name);
            }
            self.planes[plane].store.put(target.clone(), object, &stamp);
            if target.plural == "pods" {
                gib += self.restore_volumes_of(plane, key, &backup, &target);
            }
        }
        self.velero_update(plane, key, json!({"warnings": warnings, "errors": 0}));
        Some((take::VELERO_PHASE + take::VOLUME_RESTORE_PER_GIB * gib, Step::Finalize))
    }

    /// Volumes are restored only into a pod that this restore has made, and only from volume backups that exist.
    fn restore_volumes_of(&mut self, plane: usize, key: &Key, backup: &str, pod: &Key) -> u32 {
        let stamp = self.stamp();
        let mut gib = 0;
        for (pvb, object) in self.pvbs(plane, backup) {
            let of = &object["spec"]["pod"];
            let snapshot = object["status"]["snapshotID"].as_str().unwrap_or_default();
            if of["name"] != pod.name.as_str() || of["namespace"] != pod.namespace.as_str() || snapshot.is_empty() {
                continue;
            }
            let claim = object["spec"]["tags"]["pvc"].as_str().unwrap_or_default();
            let total = object["status"]["progress"]["totalBytes"].clone();
            let restore = json!({
                "apiVersion": "velero.io/v1", "kind": "PodVolumeRestore",
                "metadata": {"labels": {"velero.io/restore-name": key.name}, "annotations": {"twin/claim": claim}},
                "spec": {
                    "pod": {"kind": "Pod", "namespace": pod.namespace, "name": pod.name}, "volume": "data",
                    "snapshotID": snapshot, "sourceNamespace": pod.namespace, "uploaderType": "kopia",
                },
                "status": {"phase": "InProgress", "progress": {"totalBytes": total, "bytesDone": 0}},
            });
            let name = pvb.name.replacen(backup, &key.name, 1);
            self.planes[plane].store.put(Key::new(GROUP, "podvolumerestores", NAMESPACE, &name), restore, &stamp);
            gib += self.volume_spec(&Key::new("", "", &pod.namespace, claim)).map_or(0, |spec| spec.gib);
        }
        gib
    }

    fn restore_finalizes(&mut self, plane: usize, key: &Key) -> Option<(Duration, Step)> {
        for (pvr, object) in self.velero_objects(plane, "podvolumerestores") {
            if object["metadata"]["labels"]["velero.io/restore-name"] != key.name.as_str() {
                continue;
            }
            let namespace = object["spec"]["sourceNamespace"].as_str().unwrap_or_default();
            let claim = object["metadata"]["annotations"]["twin/claim"].as_str().unwrap_or_default();
            let snapshot = object["spec"]["snapshotID"].as_str().unwrap_or_default();
            let content = self.bucket.look(&self.spec.bucket, &format!("{PREFIX}/kopia/{namespace}/{snapshot}"));
            let handle = self.bound(plane, namespace, claim);
            let volume = handle.and_then(|handle| self.volumes.get_mut(&handle));
            let status = match (content, volume) {
                (Ok(Some(found)), Some(volume)) => {
                    volume.content = found.bytes.to_vec();
                    json!({"phase": "Completed", "progress": {"bytesDone": object["status"]["progress"]["totalBytes"]}})
                }
                _ => json!({"phase": "Failed", "message": "snapshot or volume not found"}),
            };
            self.velero_update(plane, &pvr, status);
        }
        self.velero_update(plane, key, json!({"phase": "Finalizing"}));
        Some((take::VELERO_PHASE, Step::End))
    }

    fn restore_ends(&mut self, plane: usize, key: &Key) -> Option<(Duration, Step)> {
        let stamp = self.stamp();
        self.velero_update(plane, key, json!({"phase": "Completed", "completionTimestamp": stamp}));
        let place = format!("{PREFIX}/restores/{0}/restore-{0}", key.name);
        self.put_object(&format!("{place}-logs.gz"), gzip(b"level=info msg=\"restore completed\"\n"));
        self.put_object(&format!("{place}-results.gz"), gzip(b"{\"errors\":{},\"warnings\":{}}"));
        None
    }

    fn backup_of(&self, plane: usize, key: &Key) -> String {
        let restore = self.planes[plane].store.get(key);
        restore.and_then(|restore| restore["spec"]["backupName"].as_str()).unwrap_or_default().to_owned()
    }

    fn tarball(&self, backup: &str) -> Vec<Value> {
        let key = format!("{PREFIX}/backups/{backup}/{backup}.tar.gz");
        let Ok(Some(found)) = self.bucket.look(&self.spec.bucket, &key) else { return Vec::new() };
        gunzip(&found.bytes).and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
    }

    fn volume_spec(&self, claim: &Key) -> Option<VolumeSpec> {
        let is = |spec: &&VolumeSpec| spec.namespace == claim.namespace && spec.claim == claim.name;
        self.spec.volumes.iter().find(is).cloned()
    }
}

fn includes(spec: &Value, plural: &str) -> bool {
    let listed =
        |field: &str| spec[field].as_array().is_some_and(|all| all.iter().any(|one| one == plural || one == "*"));
    let none = spec["includedResources"].as_array().is_none_or(Vec::is_empty);
    (none || listed("includedResources")) && !listed("excludedResources")
}
