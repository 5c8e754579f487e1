//! Objects of the Kubernetes API: read with all their pages, created once, changed only as they were seen.

use std::sync::Arc;

use rke2flow_engine::action::{Failure, FailureClass};
use rke2flow_engine::id::HostName;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::kinds::Meta;
use crate::ports::{KubeApi, KubeRequest, KubeResponse, KubeVerb};

/// Objects per page of a list.
const PAGE: usize = 500;
/// Pages of a list that are read before it is given up: 50,000 objects.
const PAGES_MAX: usize = 100;
/// How often a list is begun whose next page has expired in the meantime.
const LISTS_MAX: usize = 3;
/// How much of an API's refusal is shown, in characters.
const SHOWN_CHARS: usize = 300;

/// The objects of one cluster, through any healthy server or through a certain one.
#[derive(Clone)]
pub struct Objects {
    port: Arc<dyn KubeApi>,
    server: Option<HostName>,
}

/// A page of a collection.
#[derive(Debug, Clone, PartialEq)]
pub struct Page<T> {
    /// Its objects.
    pub items: Vec<T>,
    /// What the next page is asked for by; empty: there is none.
    pub next: String,
    /// How many objects come after it; `None`: the API does not tell.
    pub remaining: Option<u64>,
}

/// What became of a creation.
#[derive(Debug, Clone, PartialEq)]
pub enum Created {
    /// It is new: the object as stored.
    New(Value),
    /// There is one of this name already.
    Exists,
}

/// What became of an eviction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Evicted {
    /// The pod ends, or is gone.
    Accepted,
    /// A disruption budget does not allow it now: its words.
    Blocked(String),
}

impl Objects {
    /// Through any healthy server.
    pub fn new(port: Arc<dyn KubeApi>) -> Self {
        Self { port, server: None }
    }

    /// Through this server's own API server.
    pub fn of_server(&self, server: &HostName) -> Self {
        Self { port: self.port.clone(), server: Some(server.clone()) }
    }

    /// One object; `None`: there is none.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<Option<T>, Failure> {
        let response = self.call(KubeVerb::Get, path, Value::Null).await?;
        match response.status {
            404 => Ok(None),
            _ => read(path, success("read", path, response)?).map(Some),
        }
    }

    /// Every object of a collection, page by page; `None`: the API does not serve this kind.
    ///
    /// A page's token does not survive etcd's compaction, nor a restore of etcd: then the list begins again.
    pub async fn list<T: DeserializeOwned>(&self, path: &str) -> Result<Option<Vec<T>>, Failure> {
        let mut items = Vec::new();
        let mut token = String::new();
        let mut begun = 1;
        let separator = if path.contains('?') { '&' } else { '?' };
        for _ in 0..PAGES_MAX {
            let page = format!("{path}{separator}limit={PAGE}{token}");
            let response = self.call(KubeVerb::Get, &page, Value::Null).await?;
            if response.status == 404 {
                return Ok(None);
            }
            if response.status == 410 && !token.is_empty() && begun < LISTS_MAX {
                (items, token, begun) = (Vec::new(), String::new(), begun + 1);
                continue;
            }
            let mut body = success("list", path, response)?;
            if let Value::Array(found) = body["items"].take() {
                for item in found {
                    items.push(read(path, item)?);
                }
            }
            match body["metadata"]["continue"].as_str() {
                Some(next) if !next.is_empty() => token = format!("&continue={next}"),
                _ => return Ok(Some(items)),
            }
        }
        Err(Failure::permanent(format!("cannot list {path}: it has more than {} objects", PAGE * PAGES_MAX)))
    }

    /// The revision that the datastore has now, as a list tells it (kubernetes.io docs, API concepts).
    pub async fn revision(&self) -> Result<u64, Failure> {
        let path = "/api/v1/namespaces?limit=1";
        let body = success("list", path, self.call(KubeVerb::Get, path, Value::Null).await?)?;
        let told = body["metadata"]["resourceVersion"].as_str().unwrap_or_default();
        told.parse().map_err(|_| Failure::permanent(format!("the API tells `{told}` as the datastore's revision")))
    }

    /// One page of a collection; `None`: the API does not serve this kind. `next` is a page's own, empty for the first.
    pub async fn page<T: DeserializeOwned>(
        &self,
        path: &str,
        limit: usize,
        next: &str,
    ) -> Result<Option<Page<T>>, Failure> {
        let separator = if path.contains('?') { '&' } else { '?' };
        let from = if next.is_empty() { String::new() } else { format!("&continue={next}") };
        let response = self.call(KubeVerb::Get, &format!("{path}{separator}limit={limit}{from}"), Value::Null).await?;
        if response.status == 404 {
            return Ok(None);
        }
        let mut body = success("list", path, response)?;
        let items = match body["items"].take() {
            Value::Array(found) => found.into_iter().map(|item| read(path, item)).collect::<Result<_, _>>()?,
            _ => Vec::new(),
        };
        let next = body["metadata"]["continue"].as_str().unwrap_or_default().to_owned();
        Ok(Some(Page { items, next, remaining: body["metadata"]["remainingItemCount"].as_u64() }))
    }

    /// Creates an object; never replaces one.
    pub async fn create(&self, path: &str, body: Value) -> Result<Created, Failure> {
        let response = self.call(KubeVerb::Create, path, body).await?;
        match response.status {
            409 => Ok(Created::Exists),
            _ => success("create an object in", path, response).map(Created::New),
        }
    }

    /// Merges `change` into the object as it was seen: another uid or version refuses, and the caller looks again.
    pub async fn patch(&self, path: &str, seen: &Meta, mut change: Value) -> Result<(), Failure> {
        change["metadata"]["uid"] = json!(seen.uid);
        change["metadata"]["resourceVersion"] = json!(seen.resource_version);
        let response = self.call(KubeVerb::MergePatch, path, change).await?;
        success("change", path, response).map(drop)
    }

    /// Deletes the object with this uid; one that is gone already is fine.
    pub async fn delete(&self, path: &str, seen: &Meta) -> Result<(), Failure> {
        let body = json!({
            "apiVersion": "v1", "kind": "DeleteOptions",
            "preconditions": { "uid": seen.uid },
            "propagationPolicy": "Background",
        });
        let response = self.call(KubeVerb::Delete, path, body).await?;
        match response.status {
            404 => Ok(()),
            _ => success("delete", path, response).map(drop),
        }
    }

    /// Evicts the pod with this uid, as its disruption budgets allow (kubernetes.io docs, API-initiated eviction).
    pub async fn evict(&self, path: &str, seen: &Meta) -> Result<Evicted, Failure> {
        let body = json!({
            "apiVersion": "policy/v1", "kind": "Eviction",
            "metadata": { "name": seen.name, "namespace": seen.namespace },
            "deleteOptions": { "preconditions": { "uid": seen.uid } },
        });
        let response = self.call(KubeVerb::Create, &format!("{path}/eviction"), body).await?;
        match response.status {
            404 => Ok(Evicted::Accepted),
            429 => {
                let cause = response.body["details"]["causes"][0]["message"].as_str();
                let said = cause.or(response.body["message"].as_str()).unwrap_or("it is asked to try again later");
                Ok(Evicted::Blocked(said.chars().take(SHOWN_CHARS).collect()))
            }
            // Another pod has come under its name: that one has done nothing wrong.
            409 => Ok(Evicted::Accepted),
            _ => success("evict", path, response).map(|_| Evicted::Accepted),
        }
    }

    /// A text of the API, such as a pod's log; empty when there is none.
    pub async fn text(&self, path: &str) -> Result<String, Failure> {
        let response = self.call(KubeVerb::Get, path, Value::Null).await?;
        Ok(match (response.status, response.body) {
            (200, Value::String(text)) => text,
            (200, Value::Null) | (400.., _) => String::new(),
            (_, body) => body.to_string(),
        })
    }

    async fn call(&self, verb: KubeVerb, path: &str, body: Value) -> Result<KubeResponse, Failure> {
        let request = KubeRequest { verb, path: path.to_owned(), body };
        Ok(self.port.call(self.server.as_ref(), &request).await?)
    }
}

fn success(what: &str, path: &str, response: KubeResponse) -> Result<Value, Failure> {
    let class = match response.status {
        200..=299 => return Ok(response.body),
        401 | 403 => FailureClass::Refused,
        // A conflict passes when the caller has looked again, and so does a page or a version that has expired.
        409 | 410 | 429 | 500.. => FailureClass::Transient,
        _ => FailureClass::Permanent,
    };
    let said = match &response.body {
        Value::String(text) => text.clone(),
        body => body["message"].as_str().map_or_else(|| body.to_string(), str::to_owned),
    };
    let said: String = said.chars().take(SHOWN_CHARS).collect();
    Err(Failure::of(class, format!("cannot {what} {path}")).observed(format!("HTTP {}: {said}", response.status)))
}

fn read<T: DeserializeOwned>(path: &str, body: Value) -> Result<T, Failure> {
    serde_json::from_value(body)
        .map_err(|error| Failure::permanent(format!("cannot understand {path}")).observed(error.to_string()))
}
