//! A client of one etcd member, through its JSON gateway.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use http::Method;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::http::{Client, HttpError};

/// How long one request may take.
const REQUEST: Duration = Duration::from_secs(5);

/// What etcd answers when it refuses.
#[derive(Debug, thiserror::Error)]
pub enum EtcdError {
    /// It cannot be asked.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// It refuses.
    #[error("{0}")]
    Refused(String),
    /// Its answer is none.
    #[error("etcd answered nonsense: {0}")]
    Nonsense(String),
}

impl EtcdError {
    /// Whether a joiner only has to wait: for another learner, or until the members see each other.
    pub fn is_passing(&self) -> bool {
        let text = self.to_string();
        text.contains("too many learner members") || text.contains("unhealthy cluster")
    }
}

/// A member as `/db/info` shows it (etcd's `etcdserverpb.Member` as JSON).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Its id.
    #[serde(rename = "ID")]
    pub id: u64,
    /// Its name; empty until it has started.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Where its peers reach it.
    #[serde(rename = "peerURLs", default, skip_serializing_if = "Vec::is_empty")]
    pub peer_urls: Vec<String>,
    /// Where its clients reach it.
    #[serde(rename = "clientURLs", default, skip_serializing_if = "Vec::is_empty")]
    pub client_urls: Vec<String>,
    /// Whether it does not vote yet.
    #[serde(rename = "isLearner", default, skip_serializing_if = "std::ops::Not::not")]
    pub is_learner: bool,
}

/// What a member says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// Its id.
    pub member: u64,
    /// The leader's id, 0 when there is none.
    pub leader: u64,
    /// Whether it does not vote yet.
    pub is_learner: bool,
    /// How far it has applied.
    pub applied: u64,
    /// Alarms and the like.
    pub errors: Vec<String>,
}

/// A key with its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// The value.
    pub value: Vec<u8>,
    /// The revision that wrote it.
    pub revision: i64,
}

/// A member that can be asked.
#[derive(Clone)]
pub struct Etcd {
    base: String,
    http: Client,
}

impl Etcd {
    /// The member at `base`, such as `http://127.0.0.1:2379`.
    pub fn new(base: impl Into<String>) -> Self {
        Self { base: base.into(), http: Client::insecure() }
    }

    /// The value of a key.
    pub async fn get(&self, key: &str) -> Result<Option<Entry>, EtcdError> {
        Ok(self.range(json!({"key": BASE64.encode(key)})).await?.into_iter().next())
    }

    /// All keys with a prefix.
    pub async fn list(&self, prefix: &str) -> Result<Vec<Entry>, EtcdError> {
        let mut end = prefix.as_bytes().to_vec();
        if let Some(last) = end.last_mut() {
            *last += 1;
        }
        self.range(json!({"key": BASE64.encode(prefix), "range_end": BASE64.encode(end)})).await
    }

    /// Writes a key.
    pub async fn put(&self, key: &str, value: &[u8]) -> Result<(), EtcdError> {
        self.call("kv/put", json!({"key": BASE64.encode(key), "value": BASE64.encode(value)})).await.map(drop)
    }

    /// Writes a key if nobody has written it since `revision`; 0 means that it did not exist. Says whether it did.
    pub async fn replace(&self, key: &str, value: &[u8], revision: i64) -> Result<bool, EtcdError> {
        let key = BASE64.encode(key);
        let answer = self
            .call(
                "kv/txn",
                json!({
                    "compare": [{"key": key, "target": "MOD", "result": "EQUAL", "mod_revision": revision.to_string()}],
                    "success": [{"request_put": {"key": key, "value": BASE64.encode(value)}}],
                }),
            )
            .await?;
        Ok(answer["succeeded"].as_bool().unwrap_or(false))
    }

    /// What the member says of itself.
    pub async fn status(&self) -> Result<Status, EtcdError> {
        let answer = self.call("maintenance/status", json!({})).await?;
        let errors = answer["errors"]
            .as_array()
            .map(|errors| errors.iter().filter_map(Value::as_str).map(str::to_owned).collect());
        Ok(Status {
            member: number(&answer["header"]["member_id"]),
            leader: number(&answer["leader"]),
            is_learner: answer["isLearner"].as_bool().unwrap_or(false),
            applied: number(&answer["raftAppliedIndex"]),
            errors: errors.unwrap_or_default(),
        })
    }

    /// Frees the space of what was compacted.
    pub async fn defragment(&self) -> Result<(), EtcdError> {
        self.call("maintenance/defragment", json!({})).await.map(drop)
    }

    /// The members of the cluster.
    pub async fn members(&self) -> Result<Vec<Member>, EtcdError> {
        let answer = self.call("cluster/member/list", json!({})).await?;
        let texts = |value: &Value| -> Vec<String> {
            value.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
        };
        let members = answer["members"].as_array().into_iter().flatten();
        Ok(members
            .map(|member| Member {
                id: number(&member["ID"]),
                name: member["name"].as_str().unwrap_or_default().to_owned(),
                peer_urls: texts(&member["peerURLs"]),
                client_urls: texts(&member["clientURLs"]),
                is_learner: member["isLearner"].as_bool().unwrap_or(false),
            })
            .collect())
    }

    /// Adds a member that does not vote yet.
    pub async fn add_learner(&self, peer_url: &str) -> Result<(), EtcdError> {
        self.call("cluster/member/add", json!({"peerURLs": [peer_url], "isLearner": true})).await.map(drop)
    }

    /// Lets a learner vote.
    pub async fn promote(&self, member: u64) -> Result<(), EtcdError> {
        self.call("cluster/member/promote", json!({"ID": member.to_string()})).await.map(drop)
    }

    /// Takes a member out.
    pub async fn remove(&self, member: u64) -> Result<(), EtcdError> {
        self.call("cluster/member/remove", json!({"ID": member.to_string()})).await.map(drop)
    }

    /// Tells the cluster where a member's peers reach it.
    pub async fn update(&self, member: u64, peer_url: &str) -> Result<(), EtcdError> {
        self.call("cluster/member/update", json!({"ID": member.to_string(), "peerURLs": [peer_url]})).await.map(drop)
    }

    async fn range(&self, question: Value) -> Result<Vec<Entry>, EtcdError> {
        let answer = self.call("kv/range", question).await?;
        let bytes = |value: &Value| BASE64.decode(value.as_str().unwrap_or_default()).unwrap_or_default();
        let entries = answer["kvs"].as_array().into_iter().flatten();
        Ok(entries
            .map(|entry| Entry {
                key: String::from_utf8_lossy(&bytes(&entry["key"])).into_owned(),
                value: bytes(&entry["value"]),
                revision: i64::try_from(number(&entry["mod_revision"])).unwrap_or(i64::MAX),
            })
            .collect())
    }

    async fn call(&self, method: &str, question: Value) -> Result<Value, EtcdError> {
        let url = format!("{}/v3/{method}", self.base);
        let answer = self.http.ask(Method::POST, &url, question.to_string().into_bytes(), REQUEST).await?;
        let value: Value = serde_json::from_slice(&answer.body).map_err(|_| EtcdError::Nonsense(answer.text()))?;
        if answer.status.is_success() {
            return Ok(value);
        }
        let reason = value["error"].as_str().or(value["message"].as_str()).map_or_else(|| answer.text(), str::to_owned);
        Err(EtcdError::Refused(reason))
    }
}

/// The gateway writes 64-bit numbers as text and leaves out zeros.
fn number(value: &Value) -> u64 {
    value.as_str().and_then(|text| text.parse().ok()).or(value.as_u64()).unwrap_or(0)
}
