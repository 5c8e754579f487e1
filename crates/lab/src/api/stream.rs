//! A watch: events of one kind as they happen, until the client goes, the member goes or the time is over.

use std::time::Duration;

use rke2flow_twin::kube::request::{KubeReply, failure};
use rke2flow_twin::kube::route::Route;
use rke2flow_twin::kube::select::{Query, selected};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::etcd::{Change, Etcd, EtcdError, Watch};
use super::objects::{failed, object, prefix};

/// The longest watch: kube-apiserver's `--min-request-timeout`.
const LONGEST: Duration = Duration::from_secs(1800);

/// The events of one watch.
pub struct Events {
    watch: Option<Watch>,
    query: Query,
    /// What was there when it began.
    first: Vec<Value>,
    ends: Instant,
}

impl Events {
    /// Begins behind the query's `resourceVersion`, or with everything that is there.
    pub async fn open(etcd: &Etcd, route: &Route, query: &Query) -> Result<Self, KubeReply> {
        let prefix = prefix(&route.key);
        let mut from: u64 = query.get("resourceVersion").parse().unwrap_or(0);
        let mut first = Vec::new();
        if from == 0 {
            let read = etcd.list(&prefix, 0).await.map_err(|error| failed(&error))?;
            from = read.revision;
            for entry in &read.entries {
                first.push(object(entry)?);
            }
            first.retain(|object| selected(query, object));
            first = first.into_iter().map(|object| event("ADDED", object)).collect();
        }
        let watch = etcd.watch(&prefix, from + 1).await.map_err(|error| failed(&error))?;
        let lasts = query.get("timeoutSeconds").parse().map_or(LONGEST, Duration::from_secs).min(LONGEST);
        Ok(Self { watch: Some(watch), query: query.clone(), first, ends: Instant::now() + lasts })
    }

    /// The next events, one JSON document per line; `None`: it is over.
    pub async fn next(&mut self) -> Option<Vec<u8>> {
        if !self.first.is_empty() {
            return Some(lines(std::mem::take(&mut self.first)));
        }
        loop {
            let watch = self.watch.as_mut()?;
            let changes = tokio::time::timeout_at(self.ends, watch.next()).await.ok()?;
            let events: Vec<Value> = match changes {
                Ok(None) => return None,
                Ok(Some(changes)) => changes.iter().filter_map(|change| self.seen(change)).collect(),
                Err(error) => {
                    self.watch = None;
                    vec![event("ERROR", status(&error))]
                }
            };
            if !events.is_empty() {
                return Some(lines(events));
            }
        }
    }

    /// A change as this watch sees it: what begins or ceases to fit the selectors comes or goes.
    fn seen(&self, change: &Change) -> Option<Value> {
        let fits = |found: &Value| selected(&self.query, found);
        let now = change.now.as_ref().and_then(|entry| object(entry).ok());
        let before = change.before.as_ref().and_then(|entry| object(entry).ok()).filter(fits);
        match (now.as_ref().filter(|now| fits(now)), before) {
            (Some(_), None) => Some(event("ADDED", now?)),
            (Some(_), Some(_)) => Some(event("MODIFIED", now?)),
            (None, Some(before)) => {
                let mut last = now.unwrap_or(before);
                last["metadata"]["resourceVersion"] = json!(change.revision.to_string());
                Some(event("DELETED", last))
            }
            (None, None) => None,
        }
    }
}

fn event(kind: &str, object: Value) -> Value {
    json!({"type": kind, "object": object})
}

fn status(error: &EtcdError) -> Value {
    match error {
        EtcdError::Compacted => failure(410, "Expired", "too old resource version"),
        other => failure(500, "InternalError", &other.to_string()),
    }
}

fn lines(events: Vec<Value>) -> Vec<u8> {
    events.iter().map(|event| format!("{event}\n")).collect::<String>().into_bytes()
}
