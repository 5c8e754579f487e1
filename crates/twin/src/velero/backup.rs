//! A backup: its phases, its volumes, and what it writes into the bucket in which order.

use std::time::Duration;

use serde_json::{Value, json};

use crate::host::archive::gzip;
use crate::kube::store::Key;
use crate::spec::{Fault, VolumeSpec};
use crate::velero::{GROUP, LOCATION, NAMESPACE, PREFIX, Step, VeleroEvent};
use crate::world::World;
use crate::world::durations as take;
use crate::world::event::Event;

impl World {
    /// The next step of a backup.
    pub(crate) fn backup(&mut self, plane: usize, name: &str, step: Step) {
        let key = Key::new(GROUP, "backups", NAMESPACE, name);
        let Some(phase) = self.velero_phase(plane, &key) else { return };
        let next = match (step, phase.as_str()) {
            (Step::Begin, "" | "New") => self.backup_begins(plane, &key),
            (Step::Work, "New") => self.backup_works(plane, &key),
            (Step::Finalize, "InProgress") => self.backup_finalizes(plane, &key),
            (Step::End, "Finalizing" | "FinalizingPartiallyFailed") => self.backup_ends(plane, &key, &phase),
            _ => None,
        };
        if let Some((delay, step)) = next {
            self.after(delay, Event::Velero { plane, what: VeleroEvent::Backup { name: name.to_owned(), step } });
        }
    }

    fn backup_begins(&mut self, plane: usize, key: &Key) -> Option<(Duration, Step)> {
        let location = Key::new(GROUP, "backupstoragelocations", NAMESPACE, LOCATION);
        if self.velero_phase(plane, &location).as_deref() != Some("Available") {
            let error = json!({"phase": "FailedValidation", "validationErrors": ["backup can't be created because BackupStorageLocation default is in Unavailable status"]});
            self.velero_update(plane, key, error);
            return None;
        }
        let stamp = self.stamp();
        self.planes[plane].store.update(key, &stamp, |backup| {
            // Velero fills the spec: compare only what you set.
            for (field, value) in [
                ("storageLocation", json!(LOCATION)),
                ("ttl", json!("720h0m0s")),
                ("defaultVolumesToFsBackup", json!(true)),
            ] {
                if backup["spec"][field].is_null() {
                    backup["spec"][field] = value;
                }
            }
            backup["metadata"]["labels"]["velero.io/storage-location"] = json!(LOCATION);
            backup["status"] = json!({"phase": "New", "version": 1});
        });
        Some((take::VELERO_PHASE, Step::Work))
    }

    fn backup_works(&mut self, plane: usize, key: &Key) -> Option<(Duration, Step)> {
        let busy =
            self.velero_objects(plane, "backups").iter().any(|(_, other)| other["status"]["phase"] == "InProgress");
        if busy {
            return Some((take::VELERO_PHASE, Step::Work));
        }
        let stamp = self.stamp();
        let json_key = format!("{PREFIX}/backups/{}/velero-backup.json", key.name);
        if matches!(self.bucket.look(&self.spec.bucket, &json_key), Ok(Some(_))) {
            let reason = "backup already exists in object storage";
            self.velero_update(
                plane,
                key,
                json!({"phase": "Failed", "startTimestamp": stamp, "failureReason": reason}),
            );
            return None;
        }
        self.velero_update(plane, key, json!({"phase": "InProgress", "startTimestamp": stamp}));
        let volumes = self.volumes_of(plane, key);
        let gib: u32 = volumes.iter().map(|spec| spec.gib).sum();
        for spec in volumes {
            let backup = self.planes[plane].store.get(key).cloned().unwrap_or_default();
            let object = self.pod_volume_backup(&backup, &spec);
            let name = format!("{}-{:05x}", key.name, spec.claim.len() * 7919 + spec.namespace.len());
            self.planes[plane].store.put(Key::new(GROUP, "podvolumebackups", NAMESPACE, &name), object, &stamp);
        }
        Some((take::VELERO_ITEMS + take::VOLUME_BACKUP_PER_GIB * gib, Step::Finalize))
    }

    /// The volumes that a backup covers: those of its namespaces whose claims exist.
    fn volumes_of(&self, plane: usize, key: &Key) -> Vec<VolumeSpec> {
        let backup = self.planes[plane].store.get(key).cloned().unwrap_or_default();
        let included = |spec: &&VolumeSpec| {
            covers(&backup["spec"], &spec.namespace) && self.bound(plane, &spec.namespace, &spec.claim).is_some()
        };
        self.spec.volumes.iter().filter(included).cloned().collect()
    }

    fn pod_volume_backup(&self, backup: &Value, spec: &VolumeSpec) -> Value {
        let name = &backup["metadata"]["name"];
        let bytes = u64::from(spec.gib) << 30;
        json!({
            "apiVersion": "velero.io/v1", "kind": "PodVolumeBackup",
            "metadata": {
                "labels": {"velero.io/backup-name": name, "velero.io/backup-uid": backup["metadata"]["uid"]},
                "annotations": {"velero.io/pvc-name": spec.claim},
            },
            "spec": {
                "pod": {"kind": "Pod", "namespace": spec.namespace, "name": format!("{}-0", super::volume::owner(&spec.claim))},
                "volume": "data", "backupStorageLocation": LOCATION, "uploaderType": "kopia",
                "tags": {"pvc": spec.claim},
            },
            "status": {"phase": "InProgress", "progress": {"totalBytes": bytes, "bytesDone": 0}},
        })
    }

    fn backup_finalizes(&mut self, plane: usize, key: &Key) -> Option<(Duration, Step)> {
        let partial =
            self.strikes(|fault| if let Fault::VeleroPartiallyFails(times) = fault { Some(times) } else { None });
        let stamp = self.stamp();
        for (pvb, object) in self.pvbs(plane, &key.name) {
            let namespace = object["spec"]["pod"]["namespace"].as_str().unwrap_or_default().to_owned();
            let claim = object["spec"]["tags"]["pvc"].as_str().unwrap_or_default().to_owned();
            let volume = self.bound(plane, &namespace, &claim).and_then(|handle| self.volumes.get(&handle).cloned());
            let content = volume.map(|volume| volume.content).unwrap_or_default();
            if partial {
                self.velero_update(plane, &pvb, json!({"phase": "Failed", "message": "data path backup failed"}));
                continue;
            }
            // An empty volume completes with no snapshot: nothing can be restored from it.
            let id = if content.is_empty() {
                String::new()
            } else {
                format!("k{}", &crate::host::look::hex(pvb.name.as_bytes())[..32])
            };
            if !id.is_empty() {
                self.put_object(&format!("{PREFIX}/kopia/{namespace}/{id}"), content);
            }
            let done = object["status"]["progress"]["totalBytes"].clone();
            let status = json!({"phase": "Completed", "snapshotID": id, "completionTimestamp": stamp, "progress": {"bytesDone": done}});
            self.velero_update(plane, &pvb, status);
        }
        let phase = if partial { "FinalizingPartiallyFailed" } else { "Finalizing" };
        self.velero_update(plane, key, json!({"phase": phase, "errors": u32::from(partial), "warnings": 0}));
        self.write_backup(plane, key);
        Some((take::VELERO_PHASE, Step::End))
    }

    fn backup_ends(&mut self, plane: usize, key: &Key, phase: &str) -> Option<(Duration, Step)> {
        let end = if phase == "Finalizing" { "Completed" } else { "PartiallyFailed" };
        let stamp = self.stamp();
        self.velero_update(plane, key, json!({"phase": end, "completionTimestamp": stamp}));
        self.write_metadata(plane, key);
        None
    }

    /// Log, then the object, then the tarball, then the rest (V:pkg/persistence/object_store.go PutBackup).
    fn write_backup(&mut self, plane: usize, key: &Key) {
        let name = &key.name;
        let place = format!("{PREFIX}/backups/{name}");
        let backup = self.planes[plane].store.get(key).cloned().unwrap_or_default();
        let pvbs: Vec<Value> = self.pvbs(plane, name).into_iter().map(|(_, object)| object).collect();
        let items = self.backed_up(plane, &backup["spec"]);
        let info: Vec<Value> = pvbs.iter().map(volume_info).collect();
        self.put_object(&format!("{place}/{name}-logs.gz"), gzip(b"level=info msg=\"Backup completed\"\n"));
        self.write_metadata(plane, key);
        let rest = [
            (".tar.gz", json!(items)),
            ("-podvolumebackups.json.gz", json!(pvbs)),
            ("-volumeinfo.json.gz", json!(info)),
            ("-resource-list.json.gz", json!({})),
            ("-results.gz", json!({"errors": {}, "warnings": {}})),
            ("-itemoperations.json.gz", json!([])),
        ];
        for (suffix, value) in rest {
            self.put_object(&format!("{place}/{name}{suffix}"), gzip(value.to_string().as_bytes()));
        }
    }

    fn write_metadata(&mut self, plane: usize, key: &Key) {
        let backup = self.planes[plane].store.get(key).cloned().unwrap_or_default();
        let bytes = backup.to_string().into_bytes();
        self.put_object(&format!("{PREFIX}/backups/{}/velero-backup.json", key.name), bytes);
    }

    /// The objects of a backup's namespaces that a restore would bring back.
    fn backed_up(&self, plane: usize, spec: &Value) -> Vec<Value> {
        let kinds = ["configmaps", "services", "pods", "persistentvolumeclaims", "statefulsets", "deployments"];
        let taken = |key: &Key| kinds.contains(&key.plural.as_str()) && covers(spec, &key.namespace);
        let found = self.planes[plane].store.all().filter(|(key, _)| taken(key));
        found.map(|(key, object)| json!({"key": key, "object": object})).collect()
    }

    /// The volume backups of a backup.
    pub(crate) fn pvbs(&self, plane: usize, backup: &str) -> Vec<(Key, Value)> {
        let mut found = self.velero_objects(plane, "podvolumebackups");
        found.retain(|(_, object)| object["metadata"]["labels"]["velero.io/backup-name"] == backup);
        found
    }

    pub(crate) fn put_object(&self, key: &str, bytes: Vec<u8>) {
        let stored = self.bucket.store(&self.spec.bucket, key, bytes, Default::default(), "application/octet-stream");
        // The twin's own bucket exists, and its objects are small.
        debug_assert!(stored.is_ok(), "cannot store {key}: {stored:?}");
    }
}

/// Whether a spec's namespaces include one.
pub(crate) fn covers(spec: &Value, namespace: &str) -> bool {
    let has =
        |field: &str| spec[field].as_array().is_some_and(|all| all.iter().any(|one| one == namespace || one == "*"));
    let none = spec["includedNamespaces"].as_array().is_none_or(Vec::is_empty);
    (none || has("includedNamespaces")) && !has("excludedNamespaces")
}

fn volume_info(pvb: &Value) -> Value {
    json!({
        "pvcName": pvb["spec"]["tags"]["pvc"], "pvcNamespace": pvb["spec"]["pod"]["namespace"],
        "backupMethod": "PodVolumeBackup", "skipped": false,
        "result": if pvb["status"]["phase"] == "Completed" { "succeeded" } else { "failed" },
        "pvbInfo": {
            "podName": pvb["spec"]["pod"]["name"], "podNamespace": pvb["spec"]["pod"]["namespace"], "volumeName": "data",
            "snapshotHandle": pvb["status"]["snapshotID"], "size": pvb["status"]["progress"]["totalBytes"],
        },
    })
}
