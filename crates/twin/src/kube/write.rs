//! Requests that change objects of a simulated cluster, and what its controllers make of the change.

use serde_json::{Value, json};

use crate::kube::change;
use crate::kube::request::KubeReply;
use crate::kube::route::Route;
use crate::kube::store::Key;
use crate::world::World;
use crate::world::plane::Cause;

impl World {
    pub(crate) fn create(&mut self, plane: usize, route: &Route, object: Value) -> KubeReply {
        let (key, object) = match change::created(route, object, || self.pod_suffix()) {
            Ok(made) => made,
            Err(refused) => return refused,
        };
        let store = &self.planes[plane].store;
        if route.resource.namespaced && store.get(&Key::new("", "namespaces", "", &key.namespace)).is_none() {
            return change::no_namespace(&key);
        }
        if store.get(&key).is_some() {
            return change::exists(&key);
        }
        let stamp = self.stamp();
        let created = self.planes[plane].store.put(key.clone(), object, &stamp);
        self.object_changed(plane, &key);
        KubeReply::json(201, created)
    }

    pub(crate) fn replace(&mut self, plane: usize, route: &Route, object: Value) -> KubeReply {
        let Some(before) = self.planes[plane].store.get(&route.key) else { return KubeReply::not_found(&route.key) };
        match change::replaced(route, before, object) {
            Ok(object) => self.put_changed(plane, route, object),
            Err(refused) => refused,
        }
    }

    pub(crate) fn patch(&mut self, plane: usize, route: &Route, content_type: &str, patch: Value) -> KubeReply {
        let Some(before) = self.planes[plane].store.get(&route.key) else {
            if !change::applies(content_type) {
                return KubeReply::not_found(&route.key);
            }
            let mut object = patch;
            object["metadata"]["name"] = json!(route.key.name);
            return self.create(plane, &route.collection(), object);
        };
        match change::patched(route, before, content_type, &patch) {
            Ok(object) => self.put_changed(plane, route, object),
            Err(refused) => refused,
        }
    }

    fn put_changed(&mut self, plane: usize, route: &Route, object: Value) -> KubeReply {
        let before = self.planes[plane].store.get(&route.key);
        if before == Some(&object) {
            return KubeReply::json(200, object);
        }
        let stamp = self.stamp();
        let changed = self.planes[plane].store.put(route.key.clone(), object, &stamp);
        self.object_changed(plane, &route.key);
        KubeReply::json(200, changed)
    }

    pub(crate) fn delete(&mut self, plane: usize, route: &Route, options: &Value) -> KubeReply {
        let Some(before) = self.planes[plane].store.get(&route.key) else { return KubeReply::not_found(&route.key) };
        if let Err(refused) = change::conflict(route, before, &options["preconditions"]) {
            return refused;
        }
        if route.key.plural == "persistentvolumeclaims" && self.claim_in_use(plane, &route.key) {
            let stamp = self.stamp();
            let mut waiting = before.clone();
            waiting["metadata"]["deletionTimestamp"] = json!(stamp);
            waiting["metadata"]["finalizers"] = json!(["kubernetes.io/pvc-protection"]);
            return KubeReply::json(200, self.planes[plane].store.put(route.key.clone(), waiting, &stamp));
        }
        let Some(object) = self.planes[plane].store.remove(&route.key) else { return KubeReply::not_found(&route.key) };
        match (route.key.group.as_str(), route.key.plural.as_str()) {
            ("", "pods") => self.pod_deleted(plane, &route.key, &object),
            ("", "nodes") => self.node_deleted(plane, &route.key.name),
            ("", "persistentvolumeclaims") => self.claim_deleted(plane, &object),
            ("apps", _) => {
                for pod in self.pods_of(plane, &route.key) {
                    self.planes[plane].store.remove(&pod);
                }
            }
            ("velero.io", _) => self.velero_deleted(plane, &route.key),
            ("batch", "jobs") => self.delete_pods_of(plane, &route.key),
            _ => {}
        }
        self.plan_object_changed(plane, &route.key);
        KubeReply::removed(&route.key, &object)
    }

    /// Deleting a server's Node removes its etcd member, dead or alive, and its password; a live server stops serving
    /// (domain fact: K3S member_controller).
    fn node_deleted(&mut self, plane: usize, node: &str) {
        let Some(name) = self.names.iter().find(|name| name.as_str() == node).cloned() else { return };
        let lives = self.runs(plane, &name);
        if self.planes[plane].members.iter().any(|member| member.host == name) {
            self.planes[plane].members.retain(|member| member.host != name);
            if lives && let Some(pods) = self.host_mut(&name).pods.as_mut() {
                pods.etcd = None;
                pods.api = false;
            }
            self.settle_planes(Cause::Restart);
        }
    }

    /// Controllers notice what a client has changed.
    fn object_changed(&mut self, plane: usize, key: &Key) {
        self.workload_changed(plane, key);
        self.velero_changed(plane, key);
        self.plan_object_changed(plane, key);
    }
}
