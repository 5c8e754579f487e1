//! A request to the Kubernetes API and its answer, as plain values.

use serde_json::{Value, json};

use crate::kube::store::Key;

/// A request as it came over the wire, or from the port in process.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct KubeHttp {
    /// `GET`, `POST`, `PUT`, `PATCH`, `DELETE`.
    pub method: String,
    /// `/api/v1/nodes/server-0`, without the query.
    pub path: String,
    /// `labelSelector=a%3Db&limit=50`, without the question mark.
    pub query: String,
    /// Content type of the body: decides how a PATCH is meant.
    pub content_type: String,
    /// The body.
    pub body: Vec<u8>,
    /// Who asks: the client certificate's common name.
    pub user: String,
}

/// The answer.
#[derive(Debug, Clone, PartialEq)]
pub struct KubeReply {
    /// HTTP status.
    pub status: u16,
    /// The body.
    pub body: KubeBody,
}

/// The body of an answer.
#[derive(Debug, Clone, PartialEq)]
pub enum KubeBody {
    /// An object, a list or a Status.
    Json(Value),
    /// Plain text, such as the answer of `/readyz`.
    Text(String),
    /// The events of a watch up to now, one JSON document per line; then the stream ends.
    Events(Vec<Value>),
}

impl KubeReply {
    /// A JSON answer.
    pub fn json(status: u16, body: Value) -> Self {
        Self { status, body: KubeBody::Json(body) }
    }

    /// A text.
    pub fn text(status: u16, body: &str) -> Self {
        Self { status, body: KubeBody::Text(body.to_owned()) }
    }

    /// A Status that says no.
    pub fn refused(code: u16, reason: &str, message: &str) -> Self {
        Self::json(code, failure(code, reason, message))
    }

    /// There is no such object.
    pub fn not_found(key: &Key) -> Self {
        let group = if key.group.is_empty() { String::new() } else { format!(".{}", key.group) };
        Self::refused(404, "NotFound", &format!("{}{group} \"{}\" not found", key.plural, key.name))
    }

    /// An object was removed.
    pub fn removed(key: &Key, object: &Value) -> Self {
        let details = json!({"name": key.name, "kind": key.plural, "uid": object["metadata"]["uid"]});
        Self::json(
            200,
            json!({"apiVersion": "v1", "kind": "Status", "metadata": {}, "status": "Success", "details": details}),
        )
    }

    /// The body's content type.
    pub fn content_type(&self) -> &'static str {
        match self.body {
            KubeBody::Text(_) => "text/plain; charset=utf-8",
            KubeBody::Json(_) | KubeBody::Events(_) => "application/json",
        }
    }

    /// The body as it goes over the wire.
    pub fn bytes(&self) -> Vec<u8> {
        match &self.body {
            KubeBody::Json(value) => value.to_string().into_bytes(),
            KubeBody::Text(text) => text.clone().into_bytes(),
            KubeBody::Events(events) => {
                events.iter().map(|event| format!("{event}\n")).collect::<String>().into_bytes()
            }
        }
    }
}

/// A Status object.
pub fn failure(code: u16, reason: &str, message: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Status", "metadata": {}, "status": "Failure",
        "message": message, "reason": reason, "code": code,
    })
}
