//! Which kinds the API has, and how it says so.

use serde_json::{Value, json};

/// A kind of object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resource {
    /// Empty for core.
    pub group: &'static str,
    /// `v1`
    pub version: &'static str,
    /// `nodes`
    pub plural: &'static str,
    /// `Node`
    pub kind: &'static str,
    /// Whether it lives in a namespace.
    pub namespaced: bool,
}

const fn namespaced(group: &'static str, version: &'static str, plural: &'static str, kind: &'static str) -> Resource {
    Resource { group, version, plural, kind, namespaced: true }
}

const fn wide(group: &'static str, version: &'static str, plural: &'static str, kind: &'static str) -> Resource {
    Resource { group, version, plural, kind, namespaced: false }
}

/// Every kind that there is.
pub const RESOURCES: &[Resource] = &[
    wide("", "v1", "namespaces", "Namespace"),
    wide("", "v1", "nodes", "Node"),
    wide("", "v1", "persistentvolumes", "PersistentVolume"),
    namespaced("", "v1", "persistentvolumeclaims", "PersistentVolumeClaim"),
    namespaced("", "v1", "pods", "Pod"),
    namespaced("", "v1", "configmaps", "ConfigMap"),
    namespaced("", "v1", "secrets", "Secret"),
    namespaced("", "v1", "services", "Service"),
    namespaced("", "v1", "serviceaccounts", "ServiceAccount"),
    namespaced("", "v1", "events", "Event"),
    namespaced("apps", "v1", "deployments", "Deployment"),
    namespaced("apps", "v1", "daemonsets", "DaemonSet"),
    namespaced("apps", "v1", "statefulsets", "StatefulSet"),
    namespaced("apps", "v1", "replicasets", "ReplicaSet"),
    namespaced("batch", "v1", "jobs", "Job"),
    namespaced("batch", "v1", "cronjobs", "CronJob"),
    namespaced("policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget"),
    namespaced("coordination.k8s.io", "v1", "leases", "Lease"),
    namespaced("discovery.k8s.io", "v1", "endpointslices", "EndpointSlice"),
    wide("storage.k8s.io", "v1", "storageclasses", "StorageClass"),
    wide("storage.k8s.io", "v1", "volumeattachments", "VolumeAttachment"),
    wide("storage.k8s.io", "v1", "csidrivers", "CSIDriver"),
    wide("admissionregistration.k8s.io", "v1", "validatingwebhookconfigurations", "ValidatingWebhookConfiguration"),
    wide("admissionregistration.k8s.io", "v1", "mutatingwebhookconfigurations", "MutatingWebhookConfiguration"),
    wide("apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition"),
    wide("k3s.cattle.io", "v1", "etcdsnapshotfiles", "ETCDSnapshotFile"),
    namespaced("k3s.cattle.io", "v1", "addons", "Addon"),
    namespaced("helm.cattle.io", "v1", "helmcharts", "HelmChart"),
    namespaced("helm.cattle.io", "v1", "helmchartconfigs", "HelmChartConfig"),
    namespaced("upgrade.cattle.io", "v1", "plans", "Plan"),
    namespaced("longhorn.io", "v1beta2", "volumes", "Volume"),
    namespaced("velero.io", "v1", "backups", "Backup"),
    namespaced("velero.io", "v1", "restores", "Restore"),
    namespaced("velero.io", "v1", "schedules", "Schedule"),
    namespaced("velero.io", "v1", "backupstoragelocations", "BackupStorageLocation"),
    namespaced("velero.io", "v1", "podvolumebackups", "PodVolumeBackup"),
    namespaced("velero.io", "v1", "podvolumerestores", "PodVolumeRestore"),
    namespaced("velero.io", "v1", "backuprepositories", "BackupRepository"),
    namespaced("velero.io", "v1", "deletebackuprequests", "DeleteBackupRequest"),
    namespaced("velero.io", "v1", "serverstatusrequests", "ServerStatusRequest"),
];

/// Groups that are there only with what they belong to.
#[derive(Debug, Clone, Copy)]
pub struct Installed {
    /// Whether Velero is.
    pub velero: bool,
    /// Whether the upgrade controller is.
    pub plans: bool,
    /// Whether Longhorn is: it has a volume.
    pub longhorn: bool,
}

impl Installed {
    fn has(self, group: &str) -> bool {
        match group {
            "velero.io" => self.velero,
            "upgrade.cattle.io" => self.plans,
            "longhorn.io" => self.longhorn,
            _ => true,
        }
    }

    /// The kind of a group, version and plural; `None`: the server has no such resource.
    pub fn find(self, group: &str, version: &str, plural: &str) -> Option<&'static Resource> {
        let fits = |found: &&Resource| found.group == group && found.version == version && found.plural == plural;
        RESOURCES.iter().find(fits).filter(|found| self.has(found.group))
    }

    /// The answer of `/api`, `/apis` and what is below; `None` for anything else.
    pub fn answer(self, path: &str) -> Option<Value> {
        let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
        match parts.as_slice() {
            ["api"] => Some(json!({"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []})),
            ["apis"] => {
                let mut groups: Vec<&Resource> =
                    RESOURCES.iter().filter(|found| !found.group.is_empty() && self.has(found.group)).collect();
                groups.dedup_by_key(|found| found.group);
                let groups: Vec<Value> = groups.into_iter().map(group).collect();
                Some(json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}))
            }
            ["api", version] => self.resources("", version),
            ["apis", name] => RESOURCES.iter().find(|found| found.group == *name && self.has(name)).map(group),
            ["apis", name, version] => self.resources(name, version),
            _ => None,
        }
    }

    fn resources(self, group: &str, version: &str) -> Option<Value> {
        let fits = |found: &&Resource| found.group == group && found.version == version && self.has(group);
        let list: Vec<Value> = RESOURCES
            .iter()
            .filter(fits)
            .map(|found| {
                json!({
                    "name": found.plural, "singularName": found.kind.to_lowercase(), "namespaced": found.namespaced,
                    "kind": found.kind, "verbs": ["create", "delete", "get", "list", "patch", "update", "watch"],
                })
            })
            .collect();
        let name = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
        (!list.is_empty())
            .then(|| json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": name, "resources": list}))
    }
}

fn group(found: &Resource) -> Value {
    let version = json!({"groupVersion": format!("{}/{}", found.group, found.version), "version": found.version});
    json!({"kind": "APIGroup", "apiVersion": "v1", "name": found.group, "versions": [version], "preferredVersion": version})
}

impl Resource {
    /// `v1` or `apps/v1`.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.to_owned() } else { format!("{}/{}", self.group, self.version) }
    }
}
