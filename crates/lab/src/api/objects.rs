//! Objects as values of etcd: one JSON document per key, its resourceVersion the revision that wrote it.

use jiff::Timestamp;
use rke2flow_twin::kube::change::stamped;
use rke2flow_twin::kube::request::KubeReply;
use rke2flow_twin::kube::store::Key;
use rustls::crypto::SecureRandom;
use serde_json::{Value, json};

use super::etcd::{Entry, Etcd, EtcdError};

/// Somebody else was first so often that a write without preconditions is given up.
const ATTEMPTS: usize = 20;

/// The objects of a cluster.
#[derive(Clone)]
pub struct Objects {
    /// Where they are.
    pub etcd: Etcd,
}

/// What a change makes of an object.
pub enum Made {
    /// This.
    Object(Value),
    /// Nothing: it goes.
    Nothing,
}

impl Objects {
    /// One object.
    pub async fn get(&self, key: &Key) -> Result<Option<Value>, KubeReply> {
        let read = self.etcd.get(&place(key)).await.map_err(|error| failed(&error))?;
        read.entries.first().map(object).transpose()
    }

    /// Makes an object that is not there.
    pub async fn create(&self, key: &Key, object: Value) -> Result<Option<Value>, KubeReply> {
        let mut object = stamped(key, None, object, uid, &stamp());
        drop_version(&mut object);
        let written = self.etcd.put_if(&place(key), 0, &bytes(&object)).await.map_err(|error| failed(&error))?;
        Ok(written.map(|revision| versioned(object, revision)))
    }

    /// Changes an object that is there, against whoever else does, and returns what it became, or was at last.
    pub async fn change<F>(&self, key: &Key, dry: Dry, make: F) -> Result<Value, KubeReply>
    where
        F: Fn(&Value) -> Result<Made, KubeReply>,
    {
        let place = place(key);
        for _ in 0..ATTEMPTS {
            let read = self.etcd.get(&place).await.map_err(|error| failed(&error))?;
            let Some(entry) = read.entries.first() else { return Err(KubeReply::not_found(key)) };
            let before = object(entry)?;
            let (after, written) = match make(&before)? {
                Made::Nothing if dry == Dry::Run => return Ok(before),
                Made::Nothing => (before, self.etcd.delete_if(&place, entry.revision).await),
                Made::Object(object) => {
                    let mut after = stamped(key, Some(&before), object, uid, "");
                    after["metadata"]["resourceVersion"] = before["metadata"]["resourceVersion"].clone();
                    if after == before || dry == Dry::Run {
                        return Ok(after);
                    }
                    drop_version(&mut after);
                    let written = self.etcd.put_if(&place, entry.revision, &bytes(&after)).await;
                    (after, written)
                }
            };
            if let Some(revision) = written.map_err(|error| failed(&error))? {
                return Ok(versioned(after, revision));
            }
        }
        Err(rke2flow_twin::kube::change::modified(key))
    }
}

/// Whether a request only wants to know what would happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dry {
    /// It does.
    Run,
    /// It does not.
    No,
}

/// Where an object is.
pub fn place(key: &Key) -> String {
    format!("{}{}", prefix(key), key.name)
}

/// Where the objects of a kind, or of a kind and a namespace, are.
pub fn prefix(key: &Key) -> String {
    let group = if key.group.is_empty() { "core" } else { &key.group };
    let namespace = if key.namespace.is_empty() { String::new() } else { format!("{}/", key.namespace) };
    format!("/registry/{group}/{}/{namespace}", key.plural)
}

/// The object that a value holds.
pub fn object(entry: &Entry) -> Result<Value, KubeReply> {
    let found = serde_json::from_slice(&entry.value).map_err(|error| {
        KubeReply::refused(500, "InternalError", &format!("{} holds no object: {error}", entry.key))
    })?;
    Ok(versioned(found, entry.revision))
}

/// The answer when etcd does not do it.
pub fn failed(error: &EtcdError) -> KubeReply {
    let said = error.to_string();
    match error {
        EtcdError::TimedOut => KubeReply::refused(504, "Timeout", &said),
        EtcdError::Unreachable(_) => KubeReply::refused(503, "ServiceUnavailable", &said),
        EtcdError::Compacted => KubeReply::refused(410, "Expired", "the provided resource version is too old"),
        EtcdError::Refused(_) => KubeReply::refused(500, "InternalError", &said),
    }
}

/// The time as objects have it.
pub fn stamp() -> String {
    Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// The time as leases have it.
pub fn micro_stamp() -> String {
    Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string()
}

/// Five characters that no other object of the name has.
pub fn suffix() -> String {
    const LETTERS: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";
    random::<5>().iter().map(|byte| char::from(LETTERS[usize::from(*byte) % LETTERS.len()])).collect()
}

fn uid() -> String {
    let hex: String = random::<16>().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{}-{}-4{}-a{}-{}", &hex[..8], &hex[8..12], &hex[13..16], &hex[17..20], &hex[20..])
}

fn random<const BYTES: usize>() -> [u8; BYTES] {
    let mut bytes = [0; BYTES];
    let source: &dyn SecureRandom = rustls::crypto::ring::default_provider().secure_random;
    source.fill(&mut bytes).expect("the kernel has random bytes");
    bytes
}

fn versioned(mut object: Value, revision: u64) -> Value {
    object["metadata"]["resourceVersion"] = json!(revision.to_string());
    object
}

fn drop_version(object: &mut Value) {
    if let Some(metadata) = object["metadata"].as_object_mut() {
        metadata.remove("resourceVersion");
    }
}

fn bytes(object: &Value) -> Vec<u8> {
    object.to_string().into_bytes()
}
