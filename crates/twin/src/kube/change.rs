//! What a request makes of an object, whatever holds it: validation, preconditions, patches, metadata.

use serde_json::{Value, json};

use crate::kube::request::KubeReply;
use crate::kube::route::Route;
use crate::kube::store::Key;

/// The key and the content of an object that a POST makes; `suffix` completes a `generateName`.
pub fn created(route: &Route, mut object: Value, suffix: impl FnOnce() -> String) -> Result<(Key, Value), KubeReply> {
    if !object.is_object() {
        return Err(KubeReply::refused(400, "BadRequest", "the body is not an object"));
    }
    let mut key = route.key.clone();
    key.name = match (object["metadata"]["name"].as_str(), object["metadata"]["generateName"].as_str()) {
        (Some(name), _) if !name.is_empty() => name.to_owned(),
        (_, Some(prefix)) => format!("{prefix}{}", suffix()),
        _ => {
            let why = "metadata.name: Required value: name or generateName is required";
            return Err(KubeReply::refused(422, "Invalid", why));
        }
    };
    if !valid_name(&key.name) {
        let why = format!("metadata.name: Invalid value: {:?}: a lowercase RFC 1123 subdomain is expected", key.name);
        return Err(KubeReply::refused(422, "Invalid", &why));
    }
    if route.resource.namespaced && key.namespace.is_empty() {
        return Err(KubeReply::refused(405, "MethodNotAllowed", "create needs a namespace"));
    }
    object["kind"] = json!(route.resource.kind);
    object["apiVersion"] = json!(route.resource.api_version());
    Ok((key, object))
}

/// The answer when an object of this name is there.
pub fn exists(key: &Key) -> KubeReply {
    KubeReply::refused(409, "AlreadyExists", &format!("{} \"{}\" already exists", key.plural, key.name))
}

/// The answer when an object's namespace is not there.
pub fn no_namespace(key: &Key) -> KubeReply {
    KubeReply::refused(404, "NotFound", &format!("namespaces \"{}\" not found", key.namespace))
}

/// What a PUT makes of an object.
pub fn replaced(route: &Route, before: &Value, mut object: Value) -> Result<Value, KubeReply> {
    if route.sub == "scale" {
        return merged(route, before, &json!({"spec": {"replicas": object["spec"]["replicas"]}}));
    }
    conflict(route, before, &object["metadata"])?;
    // A status subresource changes nothing else; kinds of Velero have none (V:config/crd/v1/bases).
    if route.sub == "status" {
        let new = object["status"].take();
        object = before.clone();
        object["status"] = new;
    }
    Ok(object)
}

/// What a PATCH makes of an object. A strategic merge differs from a merge in lists with keys only; nobody here patches
/// those.
pub fn patched(route: &Route, before: &Value, content_type: &str, patch: &Value) -> Result<Value, KubeReply> {
    if !content_type.starts_with("application/json-patch+json") {
        return merged(route, before, patch);
    }
    let mut object = before.clone();
    for operation in patch.as_array().into_iter().flatten() {
        apply_operation(&mut object, operation).map_err(|why| KubeReply::refused(422, "Invalid", &why))?;
    }
    Ok(object)
}

/// Whether a PATCH makes an object that is not there.
pub fn applies(content_type: &str) -> bool {
    content_type.starts_with("application/apply-patch")
}

fn merged(route: &Route, before: &Value, patch: &Value) -> Result<Value, KubeReply> {
    if !patch.is_object() {
        return Err(KubeReply::refused(400, "BadRequest", "a merge patch is an object"));
    }
    conflict(route, before, &patch["metadata"])?;
    let mut object = before.clone();
    merge_into(&mut object, patch);
    Ok(object)
}

/// Refuses when a uid or resourceVersion that was given is not the object's.
pub fn conflict(route: &Route, before: &Value, given: &Value) -> Result<(), KubeReply> {
    for field in ["uid", "resourceVersion"] {
        let wanted = given[field].as_str().filter(|wanted| !wanted.is_empty());
        if wanted.is_some_and(|wanted| before["metadata"][field] != wanted) {
            return Err(modified(&route.key));
        }
    }
    Ok(())
}

/// The answer when somebody else has written an object in between.
pub fn modified(key: &Key) -> KubeReply {
    let message = format!(
        "Operation cannot be fulfilled on {} \"{}\": the object has been modified; please apply your changes to the latest version and try again",
        key.plural, key.name
    );
    KubeReply::refused(409, "Conflict", &message)
}

/// Fills in the metadata that the server owns: those of a new object are made, those of one that was there are kept, and
/// its generation rises with its spec.
pub fn stamped(key: &Key, before: Option<&Value>, mut object: Value, uid: impl FnOnce() -> String, now: &str) -> Value {
    let generation = match before {
        Some(old) if old["spec"] != object["spec"] => old["metadata"]["generation"].as_u64().unwrap_or(1) + 1,
        Some(old) => old["metadata"]["generation"].as_u64().unwrap_or(1),
        None => 1,
    };
    let kept = before.map(|old| (old["metadata"]["uid"].clone(), old["metadata"]["creationTimestamp"].clone()));
    let (uid, created) = kept.unwrap_or_else(|| (json!(uid()), json!(now)));
    if !object["metadata"].is_object() {
        object["metadata"] = json!({});
    }
    let metadata = &mut object["metadata"];
    metadata["name"] = json!(key.name);
    if !key.namespace.is_empty() {
        metadata["namespace"] = json!(key.namespace);
    }
    metadata["uid"] = uid;
    metadata["creationTimestamp"] = created;
    metadata["generation"] = json!(generation);
    object
}

fn valid_name(name: &str) -> bool {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
    !name.is_empty() && name.len() <= 253 && name.chars().all(fits)
}

/// RFC 7386.
pub fn merge_into(target: &mut Value, patch: &Value) {
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
