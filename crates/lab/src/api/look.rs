//! What the API server tells of itself and lists: health, version, pages of objects.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use rke2flow_twin::kube::request::{KubeHttp, KubeReply};
use rke2flow_twin::kube::route::Route;
use rke2flow_twin::kube::select::{Query, selected};
use serde_json::{Value, json};

use super::handle::{Api, Reply};
use super::objects::{failed, object, prefix};
use super::stream::Events;

/// Checks of a real API server's `/readyz` that nothing here can make fail.
const ALWAYS: [&str; 4] = ["ping", "log", "informer-sync", "poststarthook/start-apiextensions-controllers"];

/// Where a list goes on.
struct Page {
    revision: u64,
    after: String,
}

impl Api {
    /// `/readyz`, `/livez`, `/healthz`, `/version`; `None` for anything else.
    pub(super) async fn about_the_server(&self, request: &KubeHttp) -> Option<KubeReply> {
        match request.path.as_str() {
            "/readyz" | "/livez" | "/healthz" => {
                Some(self.health(request.path.trim_start_matches('/'), &Query::parse(&request.query)).await)
            }
            "/version" => Some(KubeReply::json(200, self.version())),
            _ => None,
        }
    }

    /// Healthy is who reads with etcd's quorum.
    async fn health(&self, check: &str, query: &Query) -> KubeReply {
        let etcd = self.objects.etcd.get("/registry/health").await.err();
        let verbose = query.has("verbose");
        let mut lines: Vec<String> = ALWAYS.iter().map(|name| format!("[+]{name} ok")).collect();
        lines.insert(
            2,
            match &etcd {
                None => "[+]etcd ok".to_owned(),
                Some(_) => "[-]etcd failed: reason withheld".to_owned(),
            },
        );
        match etcd {
            None if !verbose => KubeReply::text(200, "ok"),
            None => KubeReply::text(200, &format!("{}\n{check} check passed\n", lines.join("\n"))),
            Some(why) => {
                tracing::warn!(%why, "etcd does not answer");
                KubeReply::text(500, &format!("{}\n{check} check failed\n", lines.join("\n")))
            }
        }
    }

    fn version(&self) -> Value {
        let running = &self.config.version;
        let minor = running.split('.').nth(1).unwrap_or_default();
        json!({"major": "1", "minor": minor, "gitVersion": running, "platform": "linux/amd64"})
    }

    pub(super) async fn list(&self, route: &Route, query: &Query) -> Result<KubeReply, KubeReply> {
        let page = match query.get("continue") {
            "" => Page { revision: 0, after: String::new() },
            token => Page::read(token).ok_or_else(|| {
                KubeReply::refused(400, "BadRequest", "continue key is not valid: encoded key is not valid")
            })?,
        };
        let read = self.objects.etcd.list(&prefix(&route.key), page.revision).await.map_err(|error| failed(&error))?;
        let at = if page.revision == 0 { read.revision } else { page.revision };
        let limit = query.get("limit").parse().ok().filter(|limit| *limit > 0).unwrap_or(usize::MAX);
        let mut items: Vec<Value> = Vec::new();
        let (mut last, mut more) = ("", 0);
        for entry in read.entries.iter().filter(|entry| entry.key > page.after) {
            let object = object(entry)?;
            if !selected(query, &object) {
                continue;
            }
            if items.len() == limit {
                more += 1;
                continue;
            }
            last = &entry.key;
            items.push(object);
        }
        let mut metadata = json!({"resourceVersion": at.to_string()});
        if more > 0 {
            metadata["continue"] = json!(Page { revision: at, after: last.to_owned() }.token());
            metadata["remainingItemCount"] = json!(more);
        }
        Ok(KubeReply::json(200, route.listed(items, metadata)))
    }

    pub(super) async fn watch(&self, route: &Route, query: &Query) -> Reply {
        if query.is_set("sendInitialEvents") {
            let why = "sendInitialEvents: Forbidden: sendInitialEvents is forbidden for watch unless the WatchList \
                       feature gate is enabled";
            return Reply::Whole(KubeReply::refused(422, "Invalid", why));
        }
        match Events::open(&self.objects.etcd, route, query).await {
            Ok(events) => Reply::Watch(events),
            Err(refused) => Reply::Whole(refused),
        }
    }
}

impl Page {
    fn read(token: &str) -> Option<Self> {
        let text = String::from_utf8(BASE64.decode(token).ok()?).ok()?;
        let (revision, after) = text.split_once(' ')?;
        Some(Self { revision: revision.parse().ok().filter(|revision| *revision > 0)?, after: after.to_owned() })
    }

    fn token(&self) -> String {
        BASE64.encode(format!("{} {}", self.revision, self.after))
    }
}
