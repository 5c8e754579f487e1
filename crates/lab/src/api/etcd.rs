//! etcd through its JSON gateway: the values of one member, read and written with its quorum.
//!
//! The gateway speaks for gRPC: bytes are base64, 64-bit numbers are texts, fields that are zero are left out.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::{Bytes, BytesMut};
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};

/// A request that has not been answered after this has no quorum behind it: etcd itself gives up after seven seconds.
pub const DEADLINE: Duration = Duration::from_secs(5);
/// The largest answer.
const ANSWER_BYTES: usize = 256 << 20;
/// The longest line of a watch: one batch of events.
const LINE_BYTES: usize = 64 << 20;

/// Why etcd did not do it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EtcdError {
    /// No answer in time: a write may have happened or not.
    #[error("etcdserver: request timed out")]
    TimedOut,
    /// The member does not answer at all, or broke off: a write may have happened or not.
    #[error("etcd cannot be reached: {0}")]
    Unreachable(String),
    /// The revision that was asked for is no longer kept.
    #[error("etcdserver: mvcc: required revision has been compacted")]
    Compacted,
    /// etcd said no.
    #[error("{0}")]
    Refused(String),
}

/// A value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its key.
    pub key: String,
    /// What it holds.
    pub value: Vec<u8>,
    /// The revision that wrote it.
    pub revision: u64,
}

/// The answer to a read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Read {
    /// The revision of the whole store that it was read at.
    pub revision: u64,
    /// What was found, in the order of keys.
    pub entries: Vec<Entry>,
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The revision that made it.
    pub revision: u64,
    /// What the key holds now; `None`: it was removed.
    pub now: Option<Entry>,
    /// What it held before; `None`: it is new.
    pub before: Option<Entry>,
}

/// One member, as its clients reach it.
#[derive(Clone)]
pub struct Etcd {
    client: Client<HttpConnector, Full<Bytes>>,
    endpoint: String,
}

impl Etcd {
    /// The member at `http://127.0.0.1:2379`. Nothing is connected yet.
    pub fn new(endpoint: &str) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(DEADLINE));
        connector.set_nodelay(true);
        let client = Client::builder(TokioExecutor::new()).build(connector);
        Self { client, endpoint: endpoint.trim_end_matches('/').to_owned() }
    }

    /// One value, as the quorum has it.
    pub async fn get(&self, key: &str) -> Result<Read, EtcdError> {
        self.ask("kv/range", json!({"key": encode(key)})).await.and_then(|answer| read(&answer))
    }

    /// Every value whose key begins with `prefix`; as it was at a revision, unless that is 0.
    pub async fn list(&self, prefix: &str, revision: u64) -> Result<Read, EtcdError> {
        let body =
            json!({"key": encode(prefix), "range_end": encode(&after(prefix)), "revision": revision.to_string()});
        self.ask("kv/range", body).await.and_then(|answer| read(&answer))
    }

    /// Writes a value if `revision` still is the one that wrote it (0: it is not there); the new revision, or `None` when
    /// somebody else was first.
    pub async fn put_if(&self, key: &str, revision: u64, value: &[u8]) -> Result<Option<u64>, EtcdError> {
        let put = json!({"request_put": {"key": encode(key), "value": BASE64.encode(value)}});
        self.transact(key, revision, put).await
    }

    /// Removes a value if `revision` still is the one that wrote it.
    pub async fn delete_if(&self, key: &str, revision: u64) -> Result<Option<u64>, EtcdError> {
        self.transact(key, revision, json!({"request_delete_range": {"key": encode(key)}})).await
    }

    /// Forgets what was before a revision.
    pub async fn compact(&self, revision: u64) -> Result<(), EtcdError> {
        self.ask("kv/compaction", json!({"revision": revision.to_string()})).await.map(drop)
    }

    /// The members, as etcd tells them: `ID`, `name`, `peerURLs`, `clientURLs`, `isLearner`.
    pub async fn members(&self) -> Result<Vec<Value>, EtcdError> {
        let answer = self.ask("cluster/member/list", json!({})).await?;
        Ok(answer["members"].as_array().cloned().unwrap_or_default())
    }

    /// Any other call: `cluster/member/add`, `maintenance/status`.
    pub async fn ask(&self, call: &str, body: Value) -> Result<Value, EtcdError> {
        let asking = async {
            let answer = self.send(call, body).await?;
            let status = answer.status();
            let bytes = Limited::new(answer.into_body(), ANSWER_BYTES).collect().await.map_err(unreachable)?;
            let answer: Value = serde_json::from_slice(&bytes.to_bytes()).map_err(|error| unreachable(error.into()))?;
            if status == StatusCode::OK { Ok(answer) } else { Err(refused(&answer)) }
        };
        tokio::time::timeout(DEADLINE, asking).await.unwrap_or(Err(EtcdError::TimedOut))
    }

    /// Changes below a prefix from a revision on. One from the future waits for it, as etcd does.
    pub async fn watch(&self, prefix: &str, from: u64) -> Result<Watch, EtcdError> {
        let create = json!({
            "key": encode(prefix), "range_end": encode(&after(prefix)), "start_revision": from.to_string(), "prev_kv": true,
        });
        let asking = self.send("watch", json!({ "create_request": create }));
        let answer = tokio::time::timeout(DEADLINE, asking).await.unwrap_or(Err(EtcdError::TimedOut))?;
        Ok(Watch { body: answer.into_body(), rest: BytesMut::new() })
    }

    async fn transact(&self, key: &str, revision: u64, change: Value) -> Result<Option<u64>, EtcdError> {
        let compare =
            json!({"key": encode(key), "target": "MOD", "result": "EQUAL", "mod_revision": revision.to_string()});
        let answer = self.ask("kv/txn", json!({"compare": [compare], "success": [change]})).await?;
        Ok((answer["succeeded"] == true).then(|| number(&answer["header"]["revision"])))
    }

    async fn send(&self, call: &str, body: Value) -> Result<http::Response<Incoming>, EtcdError> {
        let request = Request::post(format!("{}/v3/{call}", self.endpoint))
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from(body.to_string())))
            .map_err(|error| EtcdError::Refused(error.to_string()))?;
        self.client.request(request).await.map_err(|error| unreachable(error.into()))
    }
}

/// Changes as they come.
pub struct Watch {
    body: Incoming,
    rest: BytesMut,
}

impl Watch {
    /// The next changes, which may be none; `None`: the member has gone.
    pub async fn next(&mut self) -> Result<Option<Vec<Change>>, EtcdError> {
        loop {
            if let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
                let line = self.rest.split_to(end + 1);
                let said: Value = serde_json::from_slice(&line).map_err(|error| unreachable(error.into()))?;
                return changes(&said).map(Some);
            }
            if self.rest.len() > LINE_BYTES {
                return Err(EtcdError::Unreachable(format!("a change of more than {LINE_BYTES} bytes")));
            }
            match self.body.frame().await {
                None => return Ok(None),
                Some(Err(error)) => return Err(unreachable(error.into())),
                Some(Ok(frame)) => self.rest.extend_from_slice(frame.data_ref().map_or(&[][..], |data| data)),
            }
        }
    }
}

fn changes(said: &Value) -> Result<Vec<Change>, EtcdError> {
    if said.get("error").is_some() {
        return Err(refused(&said["error"]));
    }
    let result = &said["result"];
    if number(&result["compact_revision"]) > 0 {
        return Err(EtcdError::Compacted);
    }
    if result["canceled"] == true {
        return Err(EtcdError::Refused(format!("the watch was cancelled: {}", result["cancel_reason"])));
    }
    result["events"].as_array().into_iter().flatten().map(change).collect()
}

fn change(event: &Value) -> Result<Change, EtcdError> {
    let revision = number(&event["kv"]["mod_revision"]);
    let now = if event["type"] == "DELETE" { None } else { Some(entry(&event["kv"])?) };
    let before = event.get("prev_kv").map(entry).transpose()?;
    Ok(Change { revision, now, before })
}

fn read(answer: &Value) -> Result<Read, EtcdError> {
    let entries = answer["kvs"].as_array().into_iter().flatten().map(entry).collect::<Result<_, _>>()?;
    Ok(Read { revision: number(&answer["header"]["revision"]), entries })
}

fn entry(found: &Value) -> Result<Entry, EtcdError> {
    let bytes = |field: &str| {
        let text = found[field].as_str().unwrap_or_default();
        BASE64.decode(text).map_err(|error| EtcdError::Unreachable(format!("`{field}` is not base64: {error}")))
    };
    let key = String::from_utf8_lossy(&bytes("key")?).into_owned();
    Ok(Entry { key, value: bytes("value")?, revision: number(&found["mod_revision"]) })
}

fn number(found: &Value) -> u64 {
    found.as_str().and_then(|text| text.parse().ok()).or_else(|| found.as_u64()).unwrap_or(0)
}

fn encode(key: &str) -> String {
    BASE64.encode(key)
}

/// The first key behind everything that begins with `prefix`, which ends in `/`.
fn after(prefix: &str) -> String {
    format!("{}0", prefix.strip_suffix('/').unwrap_or(prefix))
}

fn refused(answer: &Value) -> EtcdError {
    let said = answer["message"].as_str().or_else(|| answer["error"].as_str()).unwrap_or("etcd said no without a word");
    match said {
        _ if said.contains("has been compacted") => EtcdError::Compacted,
        _ if said.contains("timed out") => EtcdError::TimedOut,
        _ if said.contains("no leader") => EtcdError::Unreachable(said.to_owned()),
        _ => EtcdError::Refused(said.to_owned()),
    }
}

fn unreachable(error: Box<dyn std::error::Error + Send + Sync>) -> EtcdError {
    let mut said = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        said = format!("{said}: {inner}");
        cause = inner.source();
    }
    EtcdError::Unreachable(said)
}
