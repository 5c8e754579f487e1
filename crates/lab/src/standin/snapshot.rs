//! Snapshots as the supervisor takes them for `rke2 etcd-snapshot` (K3S `pkg/etcd/snapshot.go`).
//!
//! What fails here is told as RKE2 tells it: often not at all.

use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::Full;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::node::Server;
use super::s3::{self, Bucket, S3};
use super::snapshot_record::{self, Record};
use super::supervisor::{failed, json_answer};
use super::{archive, log};

/// What the command asks for (K3S SnapshotRequest).
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Question {
    /// `save`, `list`, `delete` or `prune`.
    pub operation: String,
    /// The name to save under, or the files to delete.
    #[serde(default)]
    pub name: Vec<String>,
    /// The directory, when it is not the usual one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dir: Option<String>,
    /// Whether to compress.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compress: Option<bool>,
    /// Where else the snapshot goes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub s3: Option<S3>,
}

/// What was made and removed (K3S SnapshotResult).
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Outcome {
    /// One entry per destination.
    #[serde(default)]
    pub created: Vec<String>,
    /// Files that were removed.
    #[serde(default)]
    pub deleted: Vec<String>,
}

/// Answers `POST /db/snapshot`.
pub async fn handle(server: &Server, body: &Bytes) -> Response<Full<Bytes>> {
    let question: Question = match serde_json::from_slice(body) {
        Ok(question) => question,
        Err(error) => return failed(StatusCode::INTERNAL_SERVER_ERROR, &error),
    };
    let bucket = match &question.s3 {
        None => None,
        Some(s3) => match Bucket::open(s3).await {
            Ok(bucket) => Some(bucket),
            Err(error) => return failed(StatusCode::BAD_REQUEST, &format!("failed to initialize S3 client: {error}")),
        },
    };
    let outcome = match question.operation.as_str() {
        "save" => save(server, &question, bucket.as_ref()).await.map(|outcome| json!(outcome)),
        "list" => list(server, &question, bucket.as_ref()).await,
        "delete" => delete(server, &question, bucket.as_ref()).await.map(|outcome| json!(outcome)),
        _ => return failed(StatusCode::BAD_REQUEST, &"invalid snapshot operation"),
    };
    match outcome {
        Ok(value) => json_answer(&value),
        Err(why) => failed(StatusCode::INTERNAL_SERVER_ERROR, &why),
    }
}

async fn save(server: &Server, question: &Question, bucket: Option<&Bucket>) -> Result<Outcome, String> {
    let Ok(_alone) = server.snapshot.try_lock() else { return Err("snapshot save already in progress".to_owned()) };
    let status =
        server.etcd.status().await.map_err(|error| format!("failed to check etcd status for snapshot: {error}"))?;
    if status.is_learner {
        log::warn("Unable to take snapshot: not supported for learner");
        return Err("unknown".to_owned());
    }
    let directory = directory(server, question)?;
    let now = jiff::Timestamp::now().as_second();
    let base = question.name.first().map_or("on-demand", String::as_str);
    let name = format!("{base}-{}-{now}", server.name);
    let path = directory.join(&name);
    log::info(format!("Saving etcd snapshot to {}", path.display()));
    let mut record = Record::new(server, &name, now);
    if let Err(error) = take(&path).await {
        // Told to nobody but the log and the record: the command prints nothing and succeeds.
        log::error(format!("Failed to take etcd snapshot: {error}"));
        snapshot_record::write(server, &record.failed(error)).await?;
        return Ok(Outcome::default());
    }
    let compress = question.compress.unwrap_or_else(|| server.settings.is_on("etcd-snapshot-compress"));
    let path = if compress { pack(&path, &name)? } else { path };
    let size = fs::metadata(&path)
        .map_err(|error| format!("unable to retrieve snapshot information from local snapshot: {error}"))?
        .len();
    let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    record = record.saved(&file, &format!("file://{}", path.display()), size);
    note(server, &record).await;
    let mut outcome = Outcome { created: vec![file.clone()], deleted: Vec::new() };
    if let Some(bucket) = bucket {
        upload(server, bucket, &path, base, &record, &mut outcome).await;
    }
    Ok(outcome)
}

async fn upload(server: &Server, bucket: &Bucket, path: &Path, base: &str, local: &Record, outcome: &mut Outcome) {
    let file = local.file().to_owned();
    log::info(format!("Uploading snapshot to {}", bucket.location(&file)));
    let metadata = snapshot_record::object_metadata(server).await;
    let sent = match fs::read(path) {
        Ok(bytes) => bucket.put(&file, bytes, metadata).await,
        Err(error) => Err(error.to_string()),
    };
    let record = local.in_bucket(bucket);
    match sent {
        Ok(()) => {
            log::info(format!("S3 upload complete for {file}"));
            outcome.created.push(file);
            note(server, &record).await;
        }
        Err(error) => {
            log::error(format!("Error received during snapshot upload to S3: {error}"));
            note(server, &record.failed(error)).await;
        }
    }
    // The bucket may be full: retention applies whether the upload went well or not.
    match bucket.retain(base).await {
        Ok(deleted) => outcome.deleted.extend(deleted),
        Err(error) => log::warn(format!("Failed to apply s3 snapshot retention policy: {error}")),
    }
}

async fn note(server: &Server, record: &Record) {
    if let Err(error) = snapshot_record::write(server, record).await {
        log::warn(format!("Failed to sync ETCDSnapshotFile: {error}"));
    }
}

/// etcd's own client: it writes `.part`, appends the hash, and renames.
async fn take(path: &Path) -> Result<(), String> {
    let path = path.to_owned();
    let run = move || {
        Command::new("etcdctl")
            .env("ETCDCTL_API", "3")
            .args(["--endpoints=http://127.0.0.1:2379", "snapshot", "save"])
            .arg(&path)
            .output()
    };
    let output = tokio::task::spawn_blocking(run)
        .await
        .map_err(|error| error.to_string())?
        .map_err(|error| error.to_string())?;
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()) }
}

fn pack(path: &Path, name: &str) -> Result<PathBuf, String> {
    log::info(format!("Compressing etcd snapshot file: {name}"));
    let failed = |error: std::io::Error| format!("failed to compress snapshot: {error}");
    let packed = path.with_file_name(format!("{name}.zip"));
    let bytes = archive::zip(name, &fs::read(path).map_err(failed)?)?;
    fs::write(&packed, bytes).map_err(failed)?;
    fs::remove_file(path).map_err(failed)?;
    Ok(packed)
}

fn directory(server: &Server, question: &Question) -> Result<PathBuf, String> {
    let usual = server.layout.snapshots();
    let directory = question.dir.as_ref().map_or_else(|| usual.clone(), PathBuf::from);
    if directory == usual && !directory.exists() {
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&directory);
        made.map_err(|error| format!("failed to get etcd-snapshot-dir: {error}"))?;
    }
    if directory.is_dir() {
        Ok(directory)
    } else {
        Err(format!("failed to get etcd-snapshot-dir: stat {}: no such file or directory", directory.display()))
    }
}

/// This node's files and what is in the bucket; not what other nodes have.
async fn list(server: &Server, question: &Question, bucket: Option<&Bucket>) -> Result<serde_json::Value, String> {
    let mut items = Vec::new();
    for entry in fs::read_dir(directory(server, question)?).map_err(|error| error.to_string())?.flatten() {
        let file = entry.file_name().to_string_lossy().into_owned();
        let size = entry.metadata().map_err(|error| error.to_string())?.len();
        let location = format!("file://{}", entry.path().display());
        items.push(
            Record::new(server, &file, s3::seconds_in(&file))
                .saved(&file, &location, size)
                .object(&format!("local-{file}")),
        );
    }
    if let Some(bucket) = bucket {
        for (file, size) in bucket.list().await? {
            let record = Record::new(server, &file, s3::seconds_in(&file)).saved(&file, "", size).in_bucket(bucket);
            items.push(record.object(&format!("s3-{file}")));
        }
    }
    Ok(json!({"apiVersion": "v1", "kind": "List", "metadata": {}, "items": items}))
}

async fn delete(server: &Server, question: &Question, bucket: Option<&Bucket>) -> Result<Outcome, String> {
    let directory = directory(server, question)?;
    let mut outcome = Outcome::default();
    for file in &question.name {
        // A name is a file of this directory and nothing else.
        if file.contains('/') {
            continue;
        }
        let local = directory.join(file);
        if local.is_file() {
            fs::remove_file(&local).map_err(|error| error.to_string())?;
            outcome.deleted.push(file.clone());
        }
        if let Some(bucket) = bucket {
            bucket.delete(file).await?;
            outcome.deleted.push(file.clone());
        }
    }
    Ok(outcome)
}
