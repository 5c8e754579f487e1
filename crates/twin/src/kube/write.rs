//! Requests that change objects: create, replace, patch, delete, with their preconditions.

use serde_json::{Value, json};

use crate::kube::request::KubeReply;
use crate::kube::serve::{Route, not_found, reply, status};
use crate::kube::store::Key;
use crate::world::World;

impl World {
    pub(crate) fn create(&mut self, plane: usize, route: &Route, mut object: Value) -> KubeReply {
        if !object.is_object() {
            return status(400, "BadRequest", "the body is not an object");
        }
        let mut key = route.key.clone();
        key.name = match (object["metadata"]["name"].as_str(), object["metadata"]["generateName"].as_str()) {
            (Some(name), _) if !name.is_empty() => name.to_owned(),
            (_, Some(prefix)) => format!("{prefix}{}", self.pod_suffix()),
            _ => return status(422, "Invalid", "metadata.name: Required value: name or generateName is required"),
        };
        if !valid_name(&key.name) {
            let message =
                format!("metadata.name: Invalid value: {:?}: a lowercase RFC 1123 subdomain is expected", key.name);
            return status(422, "Invalid", &message);
        }
        if route.resource.namespaced {
            if key.namespace.is_empty() {
                return status(405, "MethodNotAllowed", "create needs a namespace");
            }
            if self.planes[plane].store.get(&Key::new("", "namespaces", "", &key.namespace)).is_none() {
                return status(404, "NotFound", &format!("namespaces \"{}\" not found", key.namespace));
            }
        }
        if self.planes[plane].store.get(&key).is_some() {
            let message = format!("{} \"{}\" already exists", key.plural, key.name);
            return status(409, "AlreadyExists", &message);
        }
        object["kind"] = json!(route.resource.kind);
        object["apiVersion"] = json!(route.resource.api_version());
        let stamp = self.stamp();
        let created = self.planes[plane].store.put(key.clone(), object, &stamp);
        self.object_changed(plane, &key);
        reply(201, created)
    }

    pub(crate) fn replace(&mut self, plane: usize, route: &Route, object: Value) -> KubeReply {
        if route.sub == "scale" {
            return self.merge(plane, route, &json!({"spec": {"replicas": object["spec"]["replicas"]}}));
        }
        let Some(before) = self.planes[plane].store.get(&route.key) else { return not_found(route) };
        if let Some(conflict) = conflict(route, before, &object["metadata"]) {
            return conflict;
        }
        let mut object = object;
        // A status subresource changes nothing else; kinds of Velero have none (V:config/crd/v1/bases).
        if route.sub == "status" {
            let new = object["status"].take();
            object = before.clone();
            object["status"] = new;
        }
        let stamp = self.stamp();
        let replaced = self.planes[plane].store.put(route.key.clone(), object, &stamp);
        self.object_changed(plane, &route.key);
        reply(200, replaced)
    }

    pub(crate) fn patch(&mut self, plane: usize, route: &Route, content_type: &str, patch: Value) -> KubeReply {
        if content_type.starts_with("application/json-patch+json") {
            return self.json_patch(plane, route, &patch);
        }
        let applied = content_type.starts_with("application/apply-patch");
        if applied && self.planes[plane].store.get(&route.key).is_none() {
            let mut object = patch;
            object["metadata"]["name"] = json!(route.key.name);
            let collection = Route { key: Key { name: String::new(), ..route.key.clone() }, ..route.clone() };
            return self.create(plane, &collection, object);
        }
        // A strategic merge differs from a merge in lists with keys only; nobody here patches those.
        self.merge(plane, route, &patch)
    }

    fn merge(&mut self, plane: usize, route: &Route, patch: &Value) -> KubeReply {
        let Some(before) = self.planes[plane].store.get(&route.key) else { return not_found(route) };
        if !patch.is_object() {
            return status(400, "BadRequest", "a merge patch is an object");
        }
        if let Some(conflict) = conflict(route, before, &patch["metadata"]) {
            return conflict;
        }
        let mut object = before.clone();
        merge_into(&mut object, patch);
        self.put_changed(plane, route, object)
    }

    fn json_patch(&mut self, plane: usize, route: &Route, patch: &Value) -> KubeReply {
        let Some(before) = self.planes[plane].store.get(&route.key) else { return not_found(route) };
        let mut object = before.clone();
        for operation in patch.as_array().into_iter().flatten() {
            if let Err(why) = apply_operation(&mut object, operation) {
                return status(422, "Invalid", &why);
            }
        }
        self.put_changed(plane, route, object)
    }

    fn put_changed(&mut self, plane: usize, route: &Route, object: Value) -> KubeReply {
        let before = self.planes[plane].store.get(&route.key);
        if before == Some(&object) {
            return reply(200, object);
        }
        let stamp = self.stamp();
        let changed = self.planes[plane].store.put(route.key.clone(), object, &stamp);
        self.object_changed(plane, &route.key);
        reply(200, changed)
    }

    pub(crate) fn delete(&mut self, plane: usize, route: &Route, options: &Value) -> KubeReply {
        let Some(before) = self.planes[plane].store.get(&route.key) else { return not_found(route) };
        if let Some(conflict) = conflict(route, before, &options["preconditions"]) {
            return conflict;
        }
        if route.key.plural == "persistentvolumeclaims" && self.claim_in_use(plane, &route.key) {
            let stamp = self.stamp();
            let mut waiting = before.clone();
            waiting["metadata"]["deletionTimestamp"] = json!(stamp);
            waiting["metadata"]["finalizers"] = json!(["kubernetes.io/pvc-protection"]);
            return reply(200, self.planes[plane].store.put(route.key.clone(), waiting, &stamp));
        }
        let Some(object) = self.planes[plane].store.remove(&route.key) else { return not_found(route) };
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
            _ => {}
        }
        let uid = object["metadata"]["uid"].clone();
        reply(
            200,
            json!({
                "apiVersion": "v1", "kind": "Status", "metadata": {}, "status": "Success",
                "details": {"name": route.key.name, "kind": route.key.plural, "uid": uid},
            }),
        )
    }

    /// Deleting a live server's Node removes its etcd member (domain fact: K3S member_controller).
    fn node_deleted(&mut self, plane: usize, node: &str) {
        let lives = self.names.iter().any(|name| name.as_str() == node && self.runs(plane, name));
        if lives {
            self.planes[plane].members.retain(|member| member.host.as_str() != node);
            let name = self.names.iter().find(|name| name.as_str() == node).cloned();
            if let Some(pods) = name.and_then(|name| self.host_mut(&name).pods.as_mut()) {
                pods.etcd = None;
                pods.api = false;
            }
            self.settle_planes(crate::world::plane::Cause::Restart);
        }
    }

    /// Controllers notice what a client has changed.
    fn object_changed(&mut self, plane: usize, key: &Key) {
        self.workload_changed(plane, key);
        self.velero_changed(plane, key);
    }
}

fn valid_name(name: &str) -> bool {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
    !name.is_empty() && name.len() <= 253 && name.chars().all(fits)
}

/// The answer when a uid or resourceVersion that was given is not the object's.
fn conflict(route: &Route, before: &Value, given: &Value) -> Option<KubeReply> {
    for field in ["uid", "resourceVersion"] {
        let wanted = given[field].as_str().filter(|wanted| !wanted.is_empty());
        if wanted.is_some_and(|wanted| before["metadata"][field] != wanted) {
            let message = format!(
                "Operation cannot be fulfilled on {} \"{}\": the object has been modified; please apply your changes to the latest version and try again",
                route.key.plural, route.key.name
            );
            return Some(status(409, "Conflict", &message));
        }
    }
    None
}

/// RFC 7386.
pub(crate) fn merge_into(target: &mut Value, patch: &Value) {
    let Value::Object(changes) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (name, change) in changes {
        match (change, target.as_object_mut()) {
            (Value::Null, Some(object)) => drop(object.remove(name)),
            _ => merge_into(&mut target[name.as_str()], change),
        }
    }
}

fn apply_operation(object: &mut Value, operation: &Value) -> Result<(), String> {
    let path = operation["path"].as_str().ok_or("a JSON patch needs a path")?;
    let (parent, last) = path.rsplit_once('/').ok_or("a JSON patch's path begins with /")?;
    let last = last.replace("~1", "/").replace("~0", "~");
    let verb = operation["op"].as_str().unwrap_or_default();
    let found = object.pointer(path).cloned();
    if verb == "test" {
        return if found.as_ref() == Some(&operation["value"]) {
            Ok(())
        } else {
            Err(format!("test of {path} failed"))
        };
    }
    if found.is_none() && verb != "add" {
        return Err(format!("{path} does not exist"));
    }
    match (object.pointer_mut(parent), verb) {
        (Some(Value::Object(map)), "remove") => drop(map.remove(&last)),
        (Some(Value::Object(map)), "add" | "replace") => drop(map.insert(last, operation["value"].clone())),
        (Some(Value::Array(list)), "add") if last == "-" => list.push(operation["value"].clone()),
        (Some(Value::Array(list)), verb) => match (last.parse::<usize>(), verb) {
            (Ok(index), "remove") if index < list.len() => drop(list.remove(index)),
            (Ok(index), "replace") if index < list.len() => list[index] = operation["value"].clone(),
            (Ok(index), "add") if index <= list.len() => list.insert(index, operation["value"].clone()),
            _ => return Err(format!("{path} is not in the list")),
        },
        _ => return Err(format!("{path} does not exist")),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_merge_patch_removes_what_is_null_and_keeps_the_rest() {
        let mut object = json!({"a": {"b": 1, "c": 2}, "d": [1]});
        merge_into(&mut object, &json!({"a": {"b": null, "e": {"f": 3}}, "d": [2, 3]}));
        assert_eq!(object, json!({"a": {"c": 2, "e": {"f": 3}}, "d": [2, 3]}));
    }
}
