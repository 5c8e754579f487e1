//! Requests: routing, reading, watching. What changes objects is in `write`.

use rke2flow_engine::id::HostName;
use serde_json::{Value, json};

use crate::kube::discovery::{Installed, Resource};
use crate::kube::request::{KubeBody, KubeHttp, KubeReply};
use crate::kube::select::{Query, selected};
use crate::kube::store::{Changed, Key};
use crate::world::World;
use crate::world::log::EntryKind;
use crate::world::version;

/// A watch returns so many events at most.
const WATCH_LIMIT_EVENTS: usize = 2_000;

/// What a path names.
#[derive(Debug, Clone)]
pub(crate) struct Route {
    pub resource: &'static Resource,
    /// Name is empty for a collection.
    pub key: Key,
    pub sub: String,
}

impl World {
    /// Answers a request to the API server of this host.
    pub fn kube(&mut self, name: &HostName, request: &KubeHttp) -> KubeReply {
        let kind = if request.method == "GET" { EntryKind::Read } else { EntryKind::Write };
        self.recorder.record(Some(name), kind, format!("kube {} {}", request.method, request.path), None);
        let plane = self.hosts.get(name).filter(|host| host.serves_api()).and_then(|host| host.running_plane());
        let Some(plane) = plane else { return text(503, "connection refused") };
        if !self.quorate(plane) {
            return match request.path.as_str() {
                "/livez" => text(200, "ok"),
                _ => text(500, "[-]etcd failed: reason withheld\netcdserver: no leader"),
            };
        }
        if let Some(reply) = self.about_the_server(name, &request.path) {
            return reply;
        }
        match self.route(&request.path) {
            Some(route) => self.object_request(plane, &route, request),
            None => status(404, "NotFound", "the server could not find the requested resource"),
        }
    }

    fn about_the_server(&self, name: &HostName, path: &str) -> Option<KubeReply> {
        let running = self.host(name).pods.as_ref().map(|pods| pods.version.clone()).unwrap_or_default();
        match path {
            "/readyz" | "/livez" | "/healthz" => Some(text(200, "ok")),
            "/version" => Some(reply(
                200,
                json!({
                    "major": "1", "minor": version::minor(&running).to_string(), "gitVersion": running,
                    "platform": "linux/amd64",
                }),
            )),
            _ => self.installed().answer(path).map(|found| reply(200, found)),
        }
    }

    fn installed(&self) -> Installed {
        Installed { velero: self.spec.velero, plans: self.spec.upgrade_plan.is_some() }
    }

    fn route(&self, path: &str) -> Option<Route> {
        let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
        let (group, version, rest) = match parts.as_slice() {
            ["api", version, rest @ ..] => ("", *version, rest),
            ["apis", group, version, rest @ ..] => (*group, *version, rest),
            _ => return None,
        };
        let (namespace, plural, name, sub) = match rest {
            ["namespaces", namespace, plural, name, sub @ ..] => (*namespace, *plural, *name, sub.join("/")),
            ["namespaces", namespace, "status" | "finalize"] => ("", "namespaces", *namespace, "status".to_owned()),
            ["namespaces", namespace, plural] => (*namespace, *plural, "", String::new()),
            [plural, name, sub @ ..] => ("", *plural, *name, sub.join("/")),
            [plural] => ("", *plural, "", String::new()),
            [] => return None,
        };
        let resource = self.installed().find(group, version, plural)?;
        Some(Route { resource, key: Key::new(group, plural, namespace, name), sub })
    }

    fn object_request(&mut self, plane: usize, route: &Route, request: &KubeHttp) -> KubeReply {
        let query = Query::parse(&request.query);
        let body = if request.body.is_empty() { Ok(Value::Null) } else { serde_json::from_slice(&request.body) };
        let Ok(body) = body else {
            return status(400, "BadRequest", "the body is not JSON");
        };
        match (request.method.as_str(), route.key.name.is_empty()) {
            ("GET", true) if query.is_set("watch") => self.watch(plane, route, &query),
            ("GET", true) => self.list(plane, route, &query),
            ("GET", false) if route.sub == "log" => text(200, ""),
            ("GET", false) if route.sub == "scale" => self.scale(plane, route),
            ("GET", false) => match self.planes[plane].store.get(&route.key) {
                Some(object) => reply(200, object.clone()),
                None => not_found(route),
            },
            ("POST", true) => self.create(plane, route, body),
            ("POST", false) if route.sub == "eviction" => self.delete(plane, route, &Value::Null),
            ("PUT", false) => self.replace(plane, route, body),
            ("PATCH", false) => self.patch(plane, route, &request.content_type, body),
            ("DELETE", false) => self.delete(plane, route, &body),
            _ => status(405, "MethodNotAllowed", "the server does not allow this method on the requested resource"),
        }
    }

    fn list(&self, plane: usize, route: &Route, query: &Query) -> KubeReply {
        let store = &self.planes[plane].store;
        let found = store.list(&route.key.group, &route.key.plural, &route.key.namespace);
        let items: Vec<&Value> =
            found.into_iter().map(|(_, object)| object).filter(|object| selected(query, object)).collect();
        reply(
            200,
            json!({
                "apiVersion": route.resource.api_version(), "kind": format!("{}List", route.resource.kind),
                "metadata": {"resourceVersion": store.revision().to_string()}, "items": items,
            }),
        )
    }

    fn watch(&self, plane: usize, route: &Route, query: &Query) -> KubeReply {
        let store = &self.planes[plane].store;
        let from = query.get("resourceVersion").parse().unwrap_or(0);
        let event = |kind: &str, object: &Value| json!({"type": kind, "object": object});
        let key = &route.key;
        let here = |found: &Key| {
            found.group == key.group
                && found.plural == key.plural
                && (key.namespace.is_empty() || found.namespace == key.namespace)
        };
        if from == 0 {
            let found = store.list(&key.group, &key.plural, &key.namespace);
            let events = found
                .into_iter()
                .filter(|(_, object)| selected(query, object))
                .map(|(_, object)| event("ADDED", object));
            return KubeReply { status: 200, body: KubeBody::Events(events.take(WATCH_LIMIT_EVENTS).collect()) };
        }
        let Some(changes) = store.since(from) else {
            let gone = failure(410, "Expired", "too old resource version");
            return KubeReply { status: 200, body: KubeBody::Events(vec![event("ERROR", &gone)]) };
        };
        let fits = |changed: &&&Changed| here(&changed.key) && selected(query, &changed.object);
        let events = changes.iter().filter(fits).map(|changed| event(changed.kind, &changed.object));
        KubeReply { status: 200, body: KubeBody::Events(events.take(WATCH_LIMIT_EVENTS).collect()) }
    }

    fn scale(&self, plane: usize, route: &Route) -> KubeReply {
        match self.planes[plane].store.get(&route.key) {
            Some(object) => reply(
                200,
                json!({
                    "apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": object["metadata"],
                    "spec": {"replicas": object["spec"]["replicas"]}, "status": {"replicas": object["status"]["replicas"]},
                }),
            ),
            None => not_found(route),
        }
    }
}

/// A JSON answer.
pub(crate) fn reply(status: u16, body: Value) -> KubeReply {
    KubeReply { status, body: KubeBody::Json(body) }
}

fn text(status: u16, body: &str) -> KubeReply {
    KubeReply { status, body: KubeBody::Text(body.to_owned()) }
}

/// A Status object.
pub(crate) fn failure(code: u16, reason: &str, message: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Status", "metadata": {}, "status": "Failure",
        "message": message, "reason": reason, "code": code,
    })
}

/// An answer that says no.
pub(crate) fn status(code: u16, reason: &str, message: &str) -> KubeReply {
    reply(code, failure(code, reason, message))
}

/// There is no such object.
pub(crate) fn not_found(route: &Route) -> KubeReply {
    let group = if route.key.group.is_empty() { String::new() } else { format!(".{}", route.key.group) };
    status(404, "NotFound", &format!("{}{group} \"{}\" not found", route.key.plural, route.key.name))
}
