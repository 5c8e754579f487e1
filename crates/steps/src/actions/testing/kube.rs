//! The API of the small world: objects by path, merge patches with preconditions.

use async_trait::async_trait;
use rke2flow_engine::id::HostName;
use serde_json::{Value, json};

use super::fake::{Fake, State};
use crate::ports::{AccessError, KubeApi, KubeRequest, KubeResponse, KubeVerb};

#[async_trait]
impl KubeApi for Fake {
    async fn call(&self, _server: Option<&HostName>, request: &KubeRequest) -> Result<KubeResponse, AccessError> {
        let mut state = self.state.lock().unwrap();
        if state.api_down {
            let why = "connection refused".to_owned();
            return Err(AccessError::Unreachable { whom: "the API".to_owned(), why });
        }
        let path = request.path.split('?').next().unwrap();
        let refuse = |status: u16| Ok(refused(status));
        if !matches!(request.verb, KubeVerb::Get) {
            state.changes.push(format!("{:?} {path}", request.verb));
        }
        match request.verb {
            KubeVerb::Get if request.path.contains('?') && !path.ends_with("/log") => {
                let items: Vec<&Value> =
                    state.objects.iter().filter(|(at, _)| is_in(at, path)).map(|(_, body)| body).collect();
                Ok(KubeResponse {
                    status: 200,
                    body: json!({ "items": items, "metadata": { "resourceVersion": state.revision() } }),
                })
            }
            KubeVerb::Get => match state.objects.get(path) {
                Some(body) => Ok(KubeResponse { status: 200, body: body.clone() }),
                None => refuse(404),
            },
            KubeVerb::Create if path.ends_with("/eviction") => Ok(evict(&mut state, path, &request.body)),
            KubeVerb::Create => {
                let at = format!("{path}/{}", request.body["metadata"]["name"].as_str().unwrap());
                if state.objects.contains_key(&at) {
                    return refuse(409);
                }
                let mut body = request.body.clone();
                seen_by_its_controller(&at, &mut body);
                state.put(&at, body);
                Ok(KubeResponse { status: 201, body: state.objects[&at].clone() })
            }
            KubeVerb::MergePatch => {
                let Some(body) = state.objects.get(path) else { return refuse(404) };
                let same = |field: &str| body["metadata"][field] == request.body["metadata"][field];
                if !same("uid") || !same("resourceVersion") {
                    return refuse(409);
                }
                let mut body = body.clone();
                merge(&mut body, &request.body);
                state.put(path, body);
                let answer = state.objects[path].clone();
                state.controller_acts(path);
                Ok(KubeResponse { status: 200, body: answer })
            }
            KubeVerb::Delete => {
                let Some(body) = state.objects.get(path) else { return refuse(404) };
                if body["metadata"]["uid"] != request.body["preconditions"]["uid"] {
                    return refuse(409);
                }
                state.objects.remove(path);
                state.pods_go(path);
                Ok(KubeResponse { status: 200, body: Value::Null })
            }
            KubeVerb::Replace => panic!("objects are never replaced"),
        }
    }
}

fn refused(status: u16) -> KubeResponse {
    KubeResponse { status, body: json!({ "message": "refused by the test" }) }
}

/// Evicts a pod, unless the budget of the small world forbids it; one that is ending goes on ending.
fn evict(state: &mut State, path: &str, eviction: &Value) -> KubeResponse {
    let pod = path.trim_end_matches("/eviction");
    if !state.budget.is_empty() {
        let causes = json!({ "causes": [{ "reason": "DisruptionBudget", "message": state.budget }] });
        return KubeResponse { status: 429, body: json!({ "message": "Cannot evict", "details": causes }) };
    }
    let Some(body) = state.objects.get(pod) else { return refused(404) };
    if body["metadata"]["uid"] != eviction["deleteOptions"]["preconditions"]["uid"] {
        return refused(409);
    }
    if body["metadata"]["deletionTimestamp"].is_null() {
        state.objects.remove(pod);
    }
    KubeResponse { status: 201, body: json!({ "status": "Success" }) }
}

/// What the controller of a new object says of it at once.
fn seen_by_its_controller(at: &str, body: &mut Value) {
    if at.contains("/backups/") || at.contains("/restores/") {
        body["status"] = json!({ "phase": "Completed" });
    }
    if at.contains("/plans/") {
        let tag = body["spec"]["version"].as_str().unwrap_or_default().replace('+', "-");
        body["status"] = json!({ "latestVersion": tag, "latestHash": "hash" });
    }
}

/// Whether an object is in a collection, of one namespace or of all.
fn is_in(object: &str, collection: &str) -> bool {
    let Some((of, _)) = object.rsplit_once('/') else { return false };
    let every_namespace = || {
        let (before, rest) = of.split_once("/namespaces/")?;
        Some(format!("{before}/{}", rest.split_once('/')?.1))
    };
    of == collection || every_namespace().as_deref() == Some(collection)
}

fn merge(target: &mut Value, change: &Value) {
    let Value::Object(fields) = change else { return *target = change.clone() };
    if !target.is_object() {
        *target = json!({});
    }
    for (name, value) in fields {
        match value {
            Value::Null => drop(target.as_object_mut().unwrap().remove(name)),
            value => merge(&mut target[name.as_str()], value),
        }
    }
}
