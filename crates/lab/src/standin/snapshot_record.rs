//! What the cluster knows of a snapshot: an `ETCDSnapshotFile` (K3S `pkg/etcd/snapshot/types.go`).

use std::collections::BTreeMap;
use std::time::Duration;

use http::{Method, StatusCode};
use rke2flow_steps::distribution::Traits;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::node::Server;
use super::release::hex;
use super::s3::Bucket;

const REQUEST: Duration = Duration::from_secs(5);
const STORAGE_NODE: &str = "snapshot-storage-node";
const TOKEN_HASH: &str = "snapshot-token-hash";

/// One snapshot in one place.
#[derive(Debug, Clone)]
pub struct Record {
    distribution: &'static Traits,
    file: String,
    node: String,
    location: String,
    size: u64,
    seconds: i64,
    token_hash: String,
    s3: Option<Value>,
    error: Option<String>,
}

impl Record {
    /// A snapshot that is about to be taken.
    pub fn new(server: &Server, file: &str, seconds: i64) -> Self {
        Self {
            distribution: server.distribution(),
            file: file.to_owned(),
            node: server.name.clone(),
            location: String::new(),
            size: 0,
            seconds,
            token_hash: server.token.hash(),
            s3: None,
            error: None,
        }
    }

    /// It is there now.
    #[must_use]
    pub fn saved(mut self, file: &str, location: &str, size: u64) -> Self {
        (self.file, self.location, self.size) = (file.to_owned(), location.to_owned(), size);
        self
    }

    /// It never came to be.
    #[must_use]
    pub fn failed(mut self, why: String) -> Self {
        (self.size, self.error) = (0, Some(why));
        self.token_hash.clear();
        self
    }

    /// The same snapshot as an object.
    #[must_use]
    pub fn in_bucket(&self, bucket: &Bucket) -> Self {
        Self { location: bucket.location(&self.file), s3: Some(bucket.description()), ..self.clone() }
    }

    /// Name of the file or object.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// The object with which the API shows it, under another name.
    pub fn object(&self, name: &str) -> Value {
        let at = jiff::Timestamp::from_second(self.seconds).unwrap_or_default().to_string();
        let key = |name: &str| self.distribution.etcd_key(name);
        let mut object = json!({
            "apiVersion": "k3s.cattle.io/v1", "kind": "ETCDSnapshotFile",
            "metadata": {"name": name, "labels": {key(STORAGE_NODE): if self.s3.is_some() { "s3" } else { self.node.as_str() }}},
            "spec": {"snapshotName": self.file, "nodeName": self.node, "location": self.location},
            "status": {"creationTime": at, "readyToUse": self.error.is_none(), "size": self.size.to_string()},
        });
        if !self.token_hash.is_empty() {
            object["metadata"]["annotations"] = json!({key(TOKEN_HASH): self.token_hash});
        }
        if let Some(s3) = &self.s3 {
            object["spec"]["s3"] = s3.clone();
        }
        if let Some(error) = &self.error {
            object["status"]["error"] = json!({"time": at, "message": error});
        }
        object
    }

    fn name(&self) -> String {
        let digest = hex(&Sha256::digest(format!("{}{}", self.node, self.location)));
        let place = if self.s3.is_some() { "s3" } else { "local" };
        format!("{place}-{}-{}", self.file.to_lowercase(), &digest[..6])
    }
}

/// Creates the record, or replaces the one of the same name.
pub async fn write(server: &Server, record: &Record) -> Result<(), String> {
    let (client, base) = server.api().map_err(|error| error.to_string())?;
    let client = client.with_header("content-type", "application/json");
    let collection = format!("{base}/apis/k3s.cattle.io/v1/etcdsnapshotfiles");
    let object = record.object(&record.name());
    let body = object.to_string().into_bytes();
    let made = client.ask(Method::POST, &collection, body, REQUEST).await.map_err(|error| error.to_string())?;
    if made.status.is_success() {
        return Ok(());
    }
    if made.status != StatusCode::CONFLICT {
        return Err(made.text());
    }
    let client = client.with_header("content-type", "application/merge-patch+json");
    let url = format!("{collection}/{}", record.name());
    let changed = client
        .ask(Method::PATCH, &url, object.to_string().into_bytes(), REQUEST)
        .await
        .map_err(|error| error.to_string())?;
    if changed.status.is_success() { Ok(()) } else { Err(changed.text()) }
}

/// What an uploaded snapshot says of itself (K3S `pkg/etcd/s3/s3.go`).
pub async fn object_metadata(server: &Server) -> BTreeMap<String, String> {
    let cluster = async {
        let (client, base) = server.api().ok()?;
        let answer = client.get(&format!("{base}/api/v1/namespaces/kube-system"), REQUEST).await.ok()?;
        let object: Value = serde_json::from_slice(&answer.body).ok()?;
        Some(object["metadata"]["uid"].as_str()?.to_owned())
    };
    let mark = |name: &str| server.distribution().upload_mark(name);
    BTreeMap::from([
        (mark("cluster-id"), cluster.await.unwrap_or_default()),
        (mark("node-name"), server.name.clone()),
        (mark("token-hash"), server.token.hash()),
    ])
}
