//! What a path of the API names, and how what is there is shown.

use serde_json::{Value, json};

use crate::kube::discovery::{Installed, Resource};
use crate::kube::store::Key;

/// What a path names.
#[derive(Debug, Clone)]
pub struct Route {
    /// Its kind.
    pub resource: &'static Resource,
    /// Its place; the name is empty for a collection.
    pub key: Key,
    /// `status`, `eviction`, `scale`; empty for the object itself.
    pub sub: String,
}

impl Installed {
    /// What a path names; `None`: the server has no such resource.
    pub fn route(self, path: &str) -> Option<Route> {
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
        let resource = self.find(group, version, plural)?;
        Some(Route { resource, key: Key::new(group, plural, namespace, name), sub })
    }
}

impl Route {
    /// The collection that an object is in.
    pub fn collection(&self) -> Self {
        Self { key: Key { name: String::new(), ..self.key.clone() }, sub: String::new(), ..self.clone() }
    }

    /// A list of objects of this kind.
    pub fn listed(&self, items: Vec<Value>, metadata: Value) -> Value {
        json!({
            "apiVersion": self.resource.api_version(), "kind": format!("{}List", self.resource.kind),
            "metadata": metadata, "items": items,
        })
    }
}

/// The `scale` subresource of a workload.
pub fn scale(object: &Value) -> Value {
    json!({
        "apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": object["metadata"],
        "spec": {"replicas": object["spec"]["replicas"]}, "status": {"replicas": object["status"]["replicas"]},
    })
}
