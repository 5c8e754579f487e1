//! The storage location's loop: validation, sync of backups by name only, and schedules that come due.

use std::time::Duration;

use serde_json::{Value, json};

use crate::host::archive::gunzip;
use crate::kube::store::Key;
use crate::velero::{GROUP, LOCATION, NAMESPACE, PREFIX, VeleroEvent};
use crate::world::World;
use crate::world::durations as take;
use crate::world::event::Event;

/// Between two backups of the schedule (`0 */6 * * *`).
const SCHEDULE_PERIOD: Duration = Duration::from_secs(6 * 3600);
/// How long the schedule's last backup was ago when the twin began.
const SCHEDULE_AGE: Duration = Duration::from_secs(5 * 3600);

impl World {
    /// Once a minute.
    pub(crate) fn velero_sync(&mut self, plane: usize) {
        let stamp = self.stamp();
        let location = Key::new(GROUP, "backupstoragelocations", NAMESPACE, LOCATION);
        let phase = if self.bucket.has_bucket(&self.spec.bucket) { "Available" } else { "Unavailable" };
        self.velero_update(
            plane,
            &location,
            json!({"phase": phase, "lastValidationTime": stamp, "lastSyncedTime": stamp}),
        );
        if phase == "Available" {
            self.sync_backups(plane);
        }
        self.run_schedules(plane);
        self.after(take::VELERO_SYNC, Event::Velero { plane, what: VeleroEvent::Sync });
    }

    /// Backups of the bucket that have no object of their name get one; one that exists is never refreshed.
    fn sync_backups(&mut self, plane: usize) {
        let stamp = self.stamp();
        let suffix = "/velero-backup.json";
        for object in self.bucket.keys(&self.spec.bucket, &format!("{PREFIX}/backups/")) {
            let Some(name) = object.strip_suffix(suffix).and_then(|path| path.rsplit('/').next()) else { continue };
            let key = Key::new(GROUP, "backups", NAMESPACE, name);
            if self.planes[plane].store.get(&key).is_some() {
                continue;
            }
            let Some(backup) = self.bucket_json(&object) else { continue };
            if !matches!(backup["status"]["phase"].as_str(), Some("Completed" | "PartiallyFailed")) {
                continue;
            }
            let synced = self.planes[plane].store.put(key, backup, &stamp);
            let list = format!("{PREFIX}/backups/{name}/{name}-podvolumebackups.json.gz");
            for mut pvb in self.bucket_json(&list).and_then(|list| list.as_array().cloned()).unwrap_or_default() {
                pvb["metadata"]["labels"]["velero.io/backup-uid"] = synced["metadata"]["uid"].clone();
                let pvb_name = pvb["metadata"]["name"].as_str().unwrap_or_default().to_owned();
                let pvb_key = Key::new(GROUP, "podvolumebackups", NAMESPACE, &pvb_name);
                if self.planes[plane].store.get(&pvb_key).is_none() {
                    self.planes[plane].store.put(pvb_key, pvb, &stamp);
                }
            }
        }
    }

    fn bucket_json(&self, key: &str) -> Option<Value> {
        let found = self.bucket.look(&self.spec.bucket, key).ok().flatten()?;
        let bytes = if key.ends_with(".gz") { gunzip(&found.bytes)? } else { found.bytes.to_vec() };
        serde_json::from_slice(&bytes).ok()
    }

    /// A schedule is due when its last backup, by its own status, is old: also after a restore took that status back.
    fn run_schedules(&mut self, plane: usize) {
        let stamp = self.stamp();
        for (key, schedule) in self.velero_objects(plane, "schedules") {
            let last = schedule["metadata"]["annotations"]["twin/last-ms"].as_str().and_then(|ms| ms.parse().ok());
            let age = last.map_or(self.now + SCHEDULE_AGE, |ms| self.now.saturating_sub(Duration::from_millis(ms)));
            if schedule["spec"]["paused"] == true || age < SCHEDULE_PERIOD {
                continue;
            }
            let name = format!("{}-{}", key.name, self.date(self.now).strftime("%Y%m%d%H%M%S"));
            let backup = json!({
                "apiVersion": "velero.io/v1", "kind": "Backup",
                "metadata": {"labels": {"velero.io/schedule-name": key.name}}, "spec": schedule["spec"]["template"],
            });
            let target = Key::new(GROUP, "backups", NAMESPACE, &name);
            self.planes[plane].store.put(target.clone(), backup, &stamp);
            self.velero_changed(plane, &target);
            let ms = self.now.as_millis().to_string();
            self.planes[plane].store.update(&key, &stamp, |schedule| {
                schedule["metadata"]["annotations"]["twin/last-ms"] = json!(ms);
                schedule["status"]["lastBackup"] = json!(stamp);
            });
        }
    }
}
