//! Persistent volumes: declared large, with a few real bytes, and claims that use them.

use serde_json::{Value, json};

use crate::kube::objects;
use crate::kube::store::Key;
use crate::spec::VolumeSpec;
use crate::velero::{GROUP, LOCATION, NAMESPACE, PREFIX};
use crate::world::World;

/// A volume of the cloud.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// The claim that it was made for.
    pub spec: VolumeSpec,
    /// Its id in the cloud.
    pub handle: String,
    /// What is on it.
    pub content: Vec<u8>,
}

impl Volume {
    /// The workload writes.
    pub fn write(&mut self, number: u64) {
        self.content = format!("{}/{} {number}", self.spec.namespace, self.spec.claim).into_bytes();
    }

    /// Its PersistentVolume.
    pub fn name(&self) -> String {
        format!("pvc-{}", self.handle)
    }
}

/// The StatefulSet that uses a claim: `data-db-0` belongs to `db`.
pub fn owner(claim: &str) -> String {
    claim.trim_start_matches("data-").trim_end_matches("-0").to_owned()
}

/// Key of a volume among the twin's: `<namespace>/<claim>`.
pub fn place(namespace: &str, claim: &str) -> String {
    format!("{namespace}/{claim}")
}

impl World {
    /// The claims, volumes and their workloads that are there at the beginning.
    pub(crate) fn first_volumes(&mut self) {
        let class = json!({
            "apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
            "provisioner": "csi.twin", "reclaimPolicy": "Delete",
        });
        self.first("storage.k8s.io", "storageclasses", "", "twin-volumes", class);
        let driver = json!({"apiVersion": "storage.k8s.io/v1", "kind": "CSIDriver", "metadata": {}, "spec": {}});
        self.first("storage.k8s.io", "csidrivers", "", "csi.twin", driver);
        for spec in self.spec.volumes.clone() {
            self.first("", "namespaces", "", &spec.namespace, objects::namespace_object());
            self.provision(0, &spec);
            self.workload_object("StatefulSet", &spec.namespace, &owner(&spec.claim), 1, "postgres:17");
        }
    }

    /// What Velero brings: its workloads, location, schedule.
    pub(crate) fn first_velero(&mut self) {
        self.first("", "namespaces", "", NAMESPACE, objects::namespace_object());
        self.workload_object("Deployment", NAMESPACE, "velero", 1, "velero/velero:v1.17.2");
        self.workload_object("DaemonSet", NAMESPACE, "node-agent", self.names.len() as u64, "velero/velero:v1.17.2");
        let stamp = self.stamp();
        let location = json!({
            "apiVersion": "velero.io/v1", "kind": "BackupStorageLocation", "metadata": {},
            "spec": {"provider": "aws", "default": true, "objectStorage": {"bucket": self.spec.bucket, "prefix": PREFIX}},
            "status": {"phase": "Available", "lastSyncedTime": stamp, "lastValidationTime": stamp},
        });
        self.first(GROUP, "backupstoragelocations", NAMESPACE, LOCATION, location);
        let schedule = json!({
            "apiVersion": "velero.io/v1", "kind": "Schedule", "metadata": {},
            "spec": {"schedule": "0 */6 * * *", "paused": false, "template": {"ttl": "720h0m0s", "includedNamespaces": ["*"]}},
            "status": {"phase": "Enabled", "lastBackup": stamp},
        });
        self.first(GROUP, "schedules", NAMESPACE, "velero-six-hourly", schedule);
    }

    /// Makes an empty volume and binds the claim to it.
    pub(crate) fn provision(&mut self, plane: usize, spec: &VolumeSpec) -> String {
        let stamp = self.stamp();
        let handle = format!("{}{:04}", spec.claim.len(), self.volumes.len() as u64 * 7 + self.pods_made);
        self.pods_made += 1;
        let volume = Volume { spec: spec.clone(), handle: handle.clone(), content: Vec::new() };
        let size = format!("{}Gi", spec.gib);
        let persistent = json!({
            "apiVersion": "v1", "kind": "PersistentVolume", "metadata": {},
            "spec": {
                "capacity": {"storage": size}, "accessModes": ["ReadWriteOnce"], "storageClassName": "twin-volumes",
                "persistentVolumeReclaimPolicy": "Delete",
                "claimRef": {"namespace": spec.namespace, "name": spec.claim},
                "csi": {"driver": "csi.twin", "volumeHandle": handle},
            },
            "status": {"phase": "Bound"},
        });
        let claim = json!({
            "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {},
            "spec": {
                "accessModes": ["ReadWriteOnce"], "storageClassName": "twin-volumes", "volumeName": volume.name(),
                "resources": {"requests": {"storage": size}},
            },
            "status": {"phase": "Bound", "capacity": {"storage": size}},
        });
        let store = &mut self.planes[plane].store;
        store.put(Key::new("", "persistentvolumes", "", &volume.name()), persistent, &stamp);
        store.put(Key::new("", "persistentvolumeclaims", &spec.namespace, &spec.claim), claim, &stamp);
        self.volumes.insert(handle.clone(), volume);
        handle
    }

    /// The volume that a claim is bound to.
    pub(crate) fn bound(&self, plane: usize, namespace: &str, claim: &str) -> Option<String> {
        let store = &self.planes[plane].store;
        let claim = store.get(&Key::new("", "persistentvolumeclaims", namespace, claim))?;
        let volume = store.get(&Key::new("", "persistentvolumes", "", claim["spec"]["volumeName"].as_str()?))?;
        Some(volume["spec"]["csi"]["volumeHandle"].as_str()?.to_owned())
    }

    /// The claims that a pod of a StatefulSet uses, as its spec has them.
    pub(crate) fn mounts(&self, namespace: &str, pod: &str) -> Option<Value> {
        let uses = |spec: &&VolumeSpec| spec.namespace == namespace && format!("{}-0", owner(&spec.claim)) == pod;
        let spec = self.spec.volumes.iter().find(uses)?;
        Some(json!([{"name": "data", "persistentVolumeClaim": {"claimName": spec.claim}}]))
    }

    /// Volumes whose pod runs, by handle.
    pub(crate) fn mounted(&self, plane: usize) -> Vec<String> {
        let runs = |spec: &&VolumeSpec| {
            let pod = Key::pod(&spec.namespace, &format!("{}-0", owner(&spec.claim)));
            self.planes[plane].store.get(&pod).is_some_and(|pod| pod["status"]["phase"] == "Running")
        };
        let specs = self.spec.volumes.iter().filter(runs);
        specs.filter_map(|spec| self.bound(plane, &spec.namespace, &spec.claim)).collect()
    }

    /// Whether a pod uses a claim: then its deletion waits.
    pub(crate) fn claim_in_use(&self, plane: usize, claim: &Key) -> bool {
        let uses = |pod: &Value| pod["spec"]["volumes"][0]["persistentVolumeClaim"]["claimName"] == claim.name.as_str();
        self.planes[plane].store.list("", "pods", &claim.namespace).iter().any(|(_, pod)| uses(pod))
    }

    /// Claims that wait for their pod to go are gone when it is.
    pub(crate) fn release_claims(&mut self, plane: usize, namespace: &str) {
        let claims = self.planes[plane].store.list("", "persistentvolumeclaims", namespace);
        let waiting = |object: &Value| object["metadata"]["deletionTimestamp"].is_string();
        let waiting: Vec<Key> =
            claims.into_iter().filter(|(_, object)| waiting(object)).map(|(key, _)| key.clone()).collect();
        for key in waiting.into_iter().filter(|key| !self.claim_in_use(plane, key)).collect::<Vec<_>>() {
            if let Some(object) = self.planes[plane].store.remove(&key) {
                self.claim_deleted(plane, &object);
            }
        }
    }

    /// A claim is gone: its volume is destroyed unless the policy retains it.
    pub(crate) fn claim_deleted(&mut self, plane: usize, claim: &Value) {
        let key = Key::new("", "persistentvolumes", "", claim["spec"]["volumeName"].as_str().unwrap_or_default());
        let Some(volume) = self.planes[plane].store.get(&key).cloned() else { return };
        if volume["spec"]["persistentVolumeReclaimPolicy"] == "Retain" {
            let stamp = self.stamp();
            self.planes[plane].store.update(&key, &stamp, |volume| volume["status"]["phase"] = json!("Released"));
        } else {
            self.planes[plane].store.remove(&key);
            self.volumes.remove(volume["spec"]["csi"]["volumeHandle"].as_str().unwrap_or_default());
        }
    }
}
