//! Requests to a simulated cluster: reading, watching. What changes objects is in `write`.

use rke2flow_engine::id::HostName;
use serde_json::{Value, json};

use crate::kube::discovery::Installed;
use crate::kube::request::{KubeBody, KubeHttp, KubeReply, failure};
use crate::kube::route::{Route, scale};
use crate::kube::select::{Query, selected};
use crate::kube::store::{Changed, Key};
use crate::world::World;
use crate::world::log::EntryKind;
use crate::world::plane::Plane;
use crate::world::version;

/// A watch returns so many events at most.
const WATCH_LIMIT_EVENTS: usize = 2_000;

impl World {
    /// Answers a request to the API server of this host.
    pub fn kube(&mut self, name: &HostName, request: &KubeHttp) -> KubeReply {
        let kind = if request.method == "GET" { EntryKind::Read } else { EntryKind::Write };
        self.recorder.record(Some(name), kind, format!("kube {} {}", request.method, request.path), None);
        let plane = self.hosts.get(name).filter(|host| host.serves_api()).and_then(|host| host.running_plane());
        let Some(plane) = plane else { return KubeReply::text(503, "connection refused") };
        if !self.quorate(plane) {
            return match request.path.as_str() {
                "/livez" => KubeReply::text(200, "ok"),
                _ => KubeReply::text(500, "[-]etcd failed: reason withheld\netcdserver: no leader"),
            };
        }
        if let Some(reply) = self.about_the_server(name, &request.path) {
            return reply;
        }
        match self.installed().route(&request.path) {
            Some(route) => self.object_request(plane, &route, request),
            None => KubeReply::refused(404, "NotFound", "the server could not find the requested resource"),
        }
    }

    fn about_the_server(&self, name: &HostName, path: &str) -> Option<KubeReply> {
        let running = self.host(name).pods.as_ref().map(|pods| pods.version.clone()).unwrap_or_default();
        match path {
            "/readyz" | "/livez" | "/healthz" => Some(KubeReply::text(200, "ok")),
            "/version" => Some(KubeReply::json(
                200,
                json!({
                    "major": "1", "minor": version::minor(&running).to_string(), "gitVersion": running,
                    "platform": "linux/amd64",
                }),
            )),
            _ => self.installed().answer(path).map(|found| KubeReply::json(200, found)),
        }
    }

    fn installed(&self) -> Installed {
        let has = |plane: &Plane| !plane.store.list("longhorn.io", "volumes", "").is_empty();
        let longhorn = self.planes.iter().any(has);
        Installed { velero: self.spec.velero, plans: self.has_upgrade_controller(), longhorn }
    }

    fn object_request(&mut self, plane: usize, route: &Route, request: &KubeHttp) -> KubeReply {
        let query = Query::parse(&request.query);
        let body = if request.body.is_empty() { Ok(Value::Null) } else { serde_json::from_slice(&request.body) };
        let Ok(body) = body else {
            return KubeReply::refused(400, "BadRequest", "the body is not JSON");
        };
        if request.method != "GET" && !self.planes[plane].alarm.is_empty() {
            return KubeReply::text(500, "etcdserver: mvcc: database space exceeded");
        }
        match (request.method.as_str(), route.key.name.is_empty()) {
            ("GET", true) if query.is_set("watch") => self.watch(plane, route, &query),
            ("GET", true) => self.list(plane, route, &query),
            ("GET", false) if route.sub == "log" => KubeReply::text(200, ""),
            ("GET", false) if route.sub == "scale" => self.scale(plane, route),
            ("GET", false) => match self.planes[plane].store.get(&route.key) {
                Some(object) => KubeReply::json(200, object.clone()),
                None => KubeReply::not_found(&route.key),
            },
            ("POST", true) => self.create(plane, route, body),
            ("POST", false) if route.sub == "eviction" => self.evict_pod(plane, route, &body),
            ("PUT", false) => self.replace(plane, route, body),
            ("PATCH", false) => self.patch(plane, route, &request.content_type, body),
            ("DELETE", false) => self.delete(plane, route, &body),
            _ => KubeReply::refused(
                405,
                "MethodNotAllowed",
                "the server does not allow this method on the requested resource",
            ),
        }
    }

    fn list(&self, plane: usize, route: &Route, query: &Query) -> KubeReply {
        let store = &self.planes[plane].store;
        let found = store.list(&route.key.group, &route.key.plural, &route.key.namespace);
        let items = found.into_iter().map(|(_, object)| object).filter(|object| selected(query, object)).cloned();
        KubeReply::json(200, route.listed(items.collect(), json!({"resourceVersion": store.revision().to_string()})))
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
            Some(object) => KubeReply::json(200, scale(object)),
            None => KubeReply::not_found(&route.key),
        }
    }
}
