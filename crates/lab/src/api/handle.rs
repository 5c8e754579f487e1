//! Requests to the API server: what is asked, of which object, and what becomes of it in etcd.

use jiff::{SignedDuration, Timestamp};
use rke2flow_twin::kube::change;
use rke2flow_twin::kube::discovery::Installed;
use rke2flow_twin::kube::request::{KubeHttp, KubeReply};
use rke2flow_twin::kube::route::{Route, scale};
use rke2flow_twin::kube::select::Query;
use rke2flow_twin::kube::store::Key;
use serde_json::{Value, json};

use super::etcd::Etcd;
use super::objects::{Dry, Made, Objects, failed, prefix, suffix};
use super::stream::Events;
use crate::process::ControlPlane;

/// How long a pod's kubelet has to end it, unless the pod or the request says otherwise.
const GRACE_SECONDS: i64 = 30;

/// Kinds whose status only the `status` subresource writes. A Node may bring one when it is made, as kubelets do.
const WITH_STATUS: [(&str, &str); 9] = [
    ("", "nodes"),
    ("", "pods"),
    ("", "persistentvolumeclaims"),
    ("", "persistentvolumes"),
    ("apps", "deployments"),
    ("apps", "daemonsets"),
    ("apps", "statefulsets"),
    ("apps", "replicasets"),
    ("batch", "jobs"),
];

/// One API server.
#[derive(Clone)]
pub struct Api {
    /// Whose it is.
    pub config: ControlPlane,
    /// What it serves.
    pub objects: Objects,
}

/// An answer.
pub enum Reply {
    /// Whole.
    Whole(KubeReply),
    /// A watch, as long as it lasts.
    Watch(Events),
}

impl Api {
    /// The API server of a control plane.
    pub fn new(config: ControlPlane) -> Self {
        let etcd = Etcd::new(&config.etcd);
        Self { config, objects: Objects { etcd } }
    }

    /// Answers a request whose sender is known.
    pub async fn answer(&self, request: &KubeHttp) -> Reply {
        if let Some(reply) = self.about_the_server(request).await {
            return Reply::Whole(reply);
        }
        let installed = match self.installed(&request.path).await {
            Ok(installed) => installed,
            Err(refused) => return Reply::Whole(refused),
        };
        if let Some(found) = installed.answer(&request.path) {
            return Reply::Whole(KubeReply::json(200, found));
        }
        let Some(route) = installed.route(&request.path) else {
            let why = "the server could not find the requested resource";
            return Reply::Whole(KubeReply::refused(404, "NotFound", why));
        };
        let query = Query::parse(&request.query);
        if request.method == "GET" && route.key.name.is_empty() && query.is_set("watch") {
            return self.watch(&route, &query).await;
        }
        Reply::Whole(self.object_request(&route, &query, request).await.unwrap_or_else(|refused| refused))
    }

    /// Groups of others are there once their CustomResourceDefinitions are.
    async fn installed(&self, path: &str) -> Result<Installed, KubeReply> {
        let whole = matches!(path.trim_matches('/'), "apis");
        let asks = |group: &str| whole || path.contains(group);
        if !asks("velero.io") && !asks("upgrade.cattle.io") {
            return Ok(Installed { velero: false, plans: false, longhorn: false });
        }
        let definitions = Key::new("apiextensions.k8s.io", "customresourcedefinitions", "", "");
        let read = self.objects.etcd.list(&prefix(&definitions), 0).await.map_err(|error| failed(&error))?;
        let has = |group: &str| read.entries.iter().any(|entry| entry.key.ends_with(&format!(".{group}")));
        Ok(Installed { velero: has("velero.io"), plans: has("upgrade.cattle.io"), longhorn: has("longhorn.io") })
    }

    async fn object_request(&self, route: &Route, query: &Query, request: &KubeHttp) -> Result<KubeReply, KubeReply> {
        let body = if request.body.is_empty() { Ok(Value::Null) } else { serde_json::from_slice(&request.body) };
        let body: Value = body.map_err(|_| KubeReply::refused(400, "BadRequest", "the body is not JSON"))?;
        let dry = if query.get("dryRun").is_empty() { Dry::No } else { Dry::Run };
        match (request.method.as_str(), route.key.name.is_empty()) {
            ("GET", true) => self.list(route, query).await,
            ("GET", false) if route.sub == "log" => Ok(KubeReply::text(200, "")),
            ("GET", false) => match self.objects.get(&route.key).await? {
                Some(object) if route.sub == "scale" => Ok(KubeReply::json(200, scale(&object))),
                Some(object) => Ok(KubeReply::json(200, object)),
                None => Err(KubeReply::not_found(&route.key)),
            },
            ("POST", true) => self.create(route, body, dry).await,
            ("POST", false) if route.sub == "eviction" => self.evict(route, &body, dry).await,
            ("PUT", false) => {
                let make = |before: &Value| {
                    change::replaced(route, before, body.clone()).map(|after| made(route, before, after))
                };
                self.objects.change(&route.key, dry, make).await.map(|object| KubeReply::json(200, object))
            }
            ("PATCH", false) => self.patch(route, &request.content_type, &body, dry).await,
            ("DELETE", false) => self.delete(route, query, &body, dry).await,
            _ => {
                let why = "the server does not allow this method on the requested resource";
                Err(KubeReply::refused(405, "MethodNotAllowed", why))
            }
        }
    }

    async fn create(&self, route: &Route, body: Value, dry: Dry) -> Result<KubeReply, KubeReply> {
        let (key, mut object) = change::created(route, body, suffix)?;
        if route.resource.namespaced {
            let namespace = Key::new("", "namespaces", "", &key.namespace);
            if self.objects.get(&namespace).await?.is_none() {
                return Err(change::no_namespace(&key));
            }
        }
        if has_status(&key) && key.plural != "nodes" {
            object["status"] = if key.plural == "pods" { json!({"phase": "Pending"}) } else { json!({}) };
        }
        if dry == Dry::Run {
            return match self.objects.get(&key).await? {
                Some(_) => Err(change::exists(&key)),
                None => Ok(KubeReply::json(201, object)),
            };
        }
        match self.objects.create(&key, object).await? {
            Some(created) => Ok(KubeReply::json(201, created)),
            None => Err(change::exists(&key)),
        }
    }

    async fn patch(&self, route: &Route, content_type: &str, patch: &Value, dry: Dry) -> Result<KubeReply, KubeReply> {
        let make = |before: &Value| {
            change::patched(route, before, content_type, patch).map(|after| made(route, before, after))
        };
        match self.objects.change(&route.key, dry, make).await {
            Err(refused) if refused.status == 404 && change::applies(content_type) => {
                let mut object = patch.clone();
                object["metadata"]["name"] = json!(route.key.name);
                self.create(&route.collection(), object, dry).await
            }
            changed => changed.map(|object| KubeReply::json(200, object)),
        }
    }

    async fn evict(&self, route: &Route, body: &Value, dry: Dry) -> Result<KubeReply, KubeReply> {
        let pod = Route { sub: String::new(), ..route.clone() };
        self.delete(&pod, &Query::default(), &body["deleteOptions"], dry).await?;
        let done = json!({"apiVersion": "v1", "kind": "Status", "metadata": {}, "status": "Success", "code": 201});
        Ok(KubeReply::json(201, done))
    }

    async fn delete(&self, route: &Route, query: &Query, body: &Value, dry: Dry) -> Result<KubeReply, KubeReply> {
        let asked = body["gracePeriodSeconds"].as_i64().or_else(|| query.get("gracePeriodSeconds").parse().ok());
        let make = |before: &Value| {
            change::conflict(route, before, &body["preconditions"])?;
            Ok(match ending(&route.key, before, asked) {
                Some(object) => Made::Object(object),
                None => Made::Nothing,
            })
        };
        let after = self.objects.change(&route.key, dry, make).await?;
        if route.key.plural == "namespaces" && route.key.group.is_empty() {
            self.empty(&route.key.name).await?;
        }
        let waits = after["metadata"]["deletionTimestamp"].is_string() && ending(&route.key, &after, asked).is_some();
        Ok(if waits { KubeReply::json(200, after) } else { KubeReply::removed(&route.key, &after) })
    }

    /// What is in a namespace goes with it.
    async fn empty(&self, namespace: &str) -> Result<(), KubeReply> {
        let all = self.objects.etcd.list("/registry/", 0).await.map_err(|error| failed(&error))?;
        let inside = all.entries.iter().filter(|entry| entry.key.split('/').nth(4) == Some(namespace));
        for entry in inside.filter(|entry| entry.key.split('/').count() == 6) {
            self.objects.etcd.delete_if(&entry.key, entry.revision).await.map_err(|error| failed(&error))?;
        }
        Ok(())
    }
}

fn has_status(key: &Key) -> bool {
    WITH_STATUS.contains(&(key.group.as_str(), key.plural.as_str()))
}

/// What a write makes of an object: the part that its path is about, and nothing of what the server owns.
fn made(route: &Route, before: &Value, mut after: Value) -> Made {
    if has_status(&route.key) {
        if route.sub == "status" {
            let mut object = before.clone();
            object["status"] = after["status"].take();
            after = object;
        } else {
            set(&mut after, "status", &before["status"]);
        }
    }
    let deleted = &before["metadata"]["deletionTimestamp"];
    if let Some(metadata) = after.get_mut("metadata") {
        set(metadata, "deletionTimestamp", deleted);
    }
    let finalized = deleted.is_string() && has_finalizers(before) && !has_finalizers(&after);
    if finalized { Made::Nothing } else { Made::Object(after) }
}

fn set(object: &mut Value, field: &str, value: &Value) {
    match object.as_object_mut() {
        Some(fields) if value.is_null() => drop(fields.remove(field)),
        Some(fields) => drop(fields.insert(field.to_owned(), value.clone())),
        None => {}
    }
}

/// What a deletion leaves for a while: a pod until its kubelet has ended it, and what others still have to finish.
fn ending(key: &Key, before: &Value, asked: Option<i64>) -> Option<Value> {
    let over = matches!(before["status"]["phase"].as_str(), Some("Succeeded" | "Failed"));
    let runs = key.group.is_empty() && key.plural == "pods" && before["spec"]["nodeName"].is_string() && !over;
    let grace = asked.or_else(|| before["spec"]["terminationGracePeriodSeconds"].as_i64()).unwrap_or(GRACE_SECONDS);
    let grace = if runs { grace } else { 0 };
    if grace == 0 && !has_finalizers(before) {
        return None;
    }
    let mut object = before.clone();
    if !object["metadata"]["deletionTimestamp"].is_string() {
        let end = Timestamp::now() + SignedDuration::from_secs(grace);
        object["metadata"]["deletionTimestamp"] = json!(end.strftime("%Y-%m-%dT%H:%M:%SZ").to_string());
        object["metadata"]["deletionGracePeriodSeconds"] = json!(grace);
    }
    Some(object)
}

fn has_finalizers(object: &Value) -> bool {
    object["metadata"]["finalizers"].as_array().is_some_and(|finalizers| !finalizers.is_empty())
}
