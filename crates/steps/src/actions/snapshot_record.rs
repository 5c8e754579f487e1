//! What RKE2 itself knows of a snapshot: its ETCDSnapshotFile, or what `etcd-snapshot list` prints.

use rke2flow_engine::action::Failure;
use rke2flow_engine::id::HostName;
use serde_json::Value;

use crate::actions::World;
use crate::answer::FileInfo;

/// The records of every node's snapshots, the bucket's too (K3S pkg/etcd/snapshot_controller.go).
const RECORDS: &str = "/apis/k3s.cattle.io/v1/etcdsnapshotfiles";

/// What RKE2 knows of one snapshot at one place.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct SnapshotRecord {
    /// The file's name.
    pub file: String,
    /// The node that has it; `s3` for the bucket.
    pub node: String,
    /// `file://…` or `s3://…`.
    pub location: String,
    /// Bytes; `None`: it does not say.
    pub size: Option<u64>,
    /// Whether it says that the snapshot can be used.
    pub ready: bool,
    /// What went wrong.
    pub error: String,
    /// Hash of the token that it was taken under; empty: it does not say.
    pub token_hash: String,
}

/// What RKE2's own word is about a file on a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Word {
    /// It knows the snapshot, and all it says fits.
    Fits(SnapshotRecord),
    /// It says something else.
    Differs(String),
    /// It says nothing, or nobody can be asked.
    Silent(String),
}

/// Asks the API first, then the host's own list.
pub(crate) async fn word_about(world: &World, host: &HostName, file: &FileInfo) -> Result<Word, Failure> {
    let api = match records(world).await {
        Ok(records) => judged(&records, host, file),
        Err(failure) => Word::Silent(failure.to_string()),
    };
    if !matches!(api, Word::Silent(_)) {
        return Ok(api);
    }
    // Records are written when the API takes them, or ten minutes later; the list looks at the disk.
    Ok(match world.hosts().snapshot_list(host).await?.as_ref().and_then(read) {
        Some(list) => match judged(&list, host, file) {
            Word::Silent(_) => Word::Differs(format!("RKE2 on {host} does not list {}", name_of(file))),
            word => word,
        },
        None => api,
    })
}

/// Every record that the API has; none when it does not serve this kind.
pub(crate) async fn records(world: &World) -> Result<Vec<SnapshotRecord>, Failure> {
    let items: Vec<Value> = world.objects().list(RECORDS).await?.unwrap_or_default();
    Ok(items.iter().map(of_object).collect())
}

fn judged(records: &[SnapshotRecord], host: &HostName, file: &FileInfo) -> Word {
    let name = name_of(file);
    let own = |record: &&SnapshotRecord| {
        record.file == name && record.node == host.as_str() && !record.location.starts_with("s3://")
    };
    let Some(record) = records.iter().find(own) else {
        return Word::Silent(format!("RKE2 has no record of {name}"));
    };
    match record.size {
        _ if !record.ready => Word::Differs(format!("RKE2 says that {name} is not ready: {}", record.error)),
        Some(size) if size != file.size => {
            Word::Differs(format!("RKE2 says that {name} has {size} bytes, it has {}", file.size))
        }
        _ => Word::Fits(record.clone()),
    }
}

/// Reads what `etcd-snapshot list --output json` prints: a list of objects in releases since v1.29, before that an
/// array of its own.
fn read(list: &Value) -> Option<Vec<SnapshotRecord>> {
    match list {
        Value::Array(files) => Some(files.iter().map(of_file).collect()),
        Value::Object(list) => Some(list.get("items")?.as_array()?.iter().map(of_object).collect()),
        _ => None,
    }
}

fn of_object(object: &Value) -> SnapshotRecord {
    let (spec, status) = (&object["spec"], &object["status"]);
    let annotations = object["metadata"]["annotations"].as_object().into_iter().flatten();
    let hash = annotations.filter(|(name, _)| name.ends_with("/snapshot-token-hash")).map(|(_, hash)| text(hash));
    SnapshotRecord {
        file: text(&spec["snapshotName"]),
        node: text(&spec["nodeName"]),
        location: text(&spec["location"]),
        size: quantity(&status["size"]),
        ready: status["readyToUse"].as_bool().unwrap_or_default(),
        error: text(&status["error"]["message"]),
        token_hash: hash.into_iter().next().unwrap_or_default(),
    }
}

fn of_file(file: &Value) -> SnapshotRecord {
    SnapshotRecord {
        file: text(&file["name"]),
        node: text(&file["nodeName"]),
        location: text(&file["location"]),
        size: quantity(&file["size"]),
        ready: file["status"].as_str().is_none_or(|status| status == "successful"),
        error: text(&file["message"]),
        token_hash: text(&file["tokenHash"]),
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// A number, or a Kubernetes quantity such as `104857632`, `5M` or `100Mi`.
fn quantity(value: &Value) -> Option<u64> {
    if let Some(number) = value.as_u64() {
        return Some(number);
    }
    let text = value.as_str()?;
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor = match &text[digits.len()..] {
        "" => 1,
        "k" => 1000,
        "M" => 1_000_000,
        "G" => 1_000_000_000,
        "Ki" => 1 << 10,
        "Mi" => 1 << 20,
        "Gi" => 1 << 30,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(factor)
}

fn name_of(file: &FileInfo) -> &str {
    file.path.rsplit('/').next().unwrap_or(&file.path)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn both_forms_of_the_list_are_read() {
        let new = json!({ "apiVersion": "v1", "kind": "List", "items": [{
            "metadata": { "name": "local-a-1", "annotations": { "etcd.rke2.cattle.io/snapshot-token-hash": "abc" } },
            "spec": { "snapshotName": "a-1", "nodeName": "server-0", "location": "file:///x/a-1" },
            "status": { "size": "5M", "readyToUse": true },
        }]});
        let old = json!([
            { "name": "a-1", "nodeName": "server-0", "location": "file:///x/a-1", "size": 5_000_000, "status": "successful", "tokenHash": "abc" },
        ]);
        assert_eq!(read(&new), read(&old));
        assert_eq!(read(&new).unwrap()[0].size, Some(5_000_000));
        assert_eq!(read(&json!("an error")), None);
        assert!(!read(&json!([{ "name": "a-1", "status": "failed" }])).unwrap()[0].ready);
    }

    #[test]
    fn quantities_are_read_as_kubernetes_writes_them() {
        for (text, bytes) in [("104857632", Some(104_857_632)), ("5M", Some(5_000_000)), ("100Mi", Some(100 << 20))] {
            assert_eq!(quantity(&json!(text)), bytes, "{text}");
        }
        assert_eq!(quantity(&json!("much")), None);
        assert_eq!(quantity(&Value::Null), None);
    }
}
