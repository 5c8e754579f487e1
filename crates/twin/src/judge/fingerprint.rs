//! The world without what legitimately differs between two runs that came to the same end.

use serde_json::{Map, Value, json};

use crate::host::Host;
use crate::kube::store::{Key, Store};
use crate::world::World;

/// Kinds whose objects come and go with time.
const FLEETING: [&str; 4] = ["leases", "events", "etcdsnapshotfiles", "backuprepositories"];

impl World {
    /// The normalised world.
    pub fn fingerprint(&self) -> Value {
        let hosts: Map<String, Value> =
            self.names.iter().map(|name| (name.to_string(), self.host_print(self.host(name)))).collect();
        let plane = self.reached();
        let members = plane.map(|plane| {
            let mut members: Vec<_> =
                self.planes[plane].members.iter().map(|m| (m.host.to_string(), m.learner)).collect();
            members.sort();
            members
        });
        let objects = plane.map(|plane| objects(&self.planes[plane].store));
        json!({"hosts": hosts, "members": members, "objects": objects, "control_planes": self.planes.len()})
    }

    fn host_print(&self, host: &Host) -> Value {
        let disk = &host.disk;
        let newest = self.reached();
        json!({
            "powered": host.powered, "installed": host.installed, "running": host.service.running,
            "unit": host.service.state.as_str(), "kubelet": host.kubelet,
            "static_pods": host.pods.as_ref().map(|pods| pods.version.clone()),
            "member_of_the_cluster": host.running_plane().is_some() && host.running_plane() == newest,
            "hold": disk.hold, "hold_drop_in": disk.hold_drop_in, "server_override": disk.server_override.is_some(),
            "reset_flag": disk.reset_flag, "etcd": disk.etcd.is_some(), "tls": disk.tls.is_some(), "cred": disk.cred,
            "charts": disk.charts, "releases": disk.releases.keys().collect::<Vec<_>>(),
            "claim_released": host.claim.as_ref().map(|held| held.released),
        })
    }
}

fn objects(store: &Store) -> Map<String, Value> {
    let kept = |key: &Key, object: &Value| {
        let labels = &object["metadata"]["labels"];
        let scheduled = labels["velero.io/schedule-name"].is_string()
            || labels["velero.io/backup-name"].as_str().is_some_and(|name| name.starts_with("velero-six-hourly"));
        !FLEETING.contains(&key.plural.as_str()) && !key.name.starts_with("marker-") && !scheduled
    };
    let mut prints = Map::new();
    for (key, object) in store.all().filter(|(key, object)| kept(key, object)) {
        // Pods of controllers have names of chance: their number per owner and image counts.
        let owner = object["metadata"]["ownerReferences"][0]["name"].as_str().unwrap_or_default();
        if key.plural == "pods" {
            let image = object.pointer("/spec/containers/0/image").and_then(Value::as_str).unwrap_or_default();
            let name = format!("pods/{}/{owner} {image}", key.namespace);
            let count = prints.get(&name).and_then(Value::as_u64).unwrap_or(0);
            prints.insert(name, json!(count + 1));
        } else {
            prints.insert(format!("{}/{}/{}/{}", key.group, key.plural, key.namespace, key.name), print(object));
        }
    }
    prints
}

/// Spec, labels and what a status says in words; no times, uids, revisions.
fn print(object: &Value) -> Value {
    let conditions = object["status"]["conditions"].as_array();
    let conditions: Option<Vec<Value>> =
        conditions.map(|all| all.iter().map(|one| json!([one["type"], one["status"]])).collect());
    json!({
        "labels": object["metadata"]["labels"], "spec": object["spec"], "phase": object["status"]["phase"],
        "conditions": conditions, "version": object["status"]["nodeInfo"]["kubeletVersion"],
    })
}
