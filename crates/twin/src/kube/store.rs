//! Objects with revisions: what etcd holds, and what a snapshot of it is.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::kube::change::stamped;

/// A watch can go back so many events; older revisions are gone (410).
pub const HISTORY_LIMIT_EVENTS: usize = 4_000;

/// An object's place: group (empty for core), plural, namespace (empty for cluster-wide), name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Key {
    /// `velero.io`; empty for core.
    pub group: String,
    /// `backups`
    pub plural: String,
    /// Empty for what has none.
    pub namespace: String,
    /// The name.
    pub name: String,
}

impl Key {
    /// A key.
    pub fn new(group: &str, plural: &str, namespace: &str, name: &str) -> Self {
        Self {
            group: group.to_owned(),
            plural: plural.to_owned(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        }
    }

    /// A Node.
    pub fn node(name: &str) -> Self {
        Self::new("", "nodes", "", name)
    }

    /// A node's Lease.
    pub fn lease(name: &str) -> Self {
        Self::new("coordination.k8s.io", "leases", "kube-node-lease", name)
    }

    /// A Pod.
    pub fn pod(namespace: &str, name: &str) -> Self {
        Self::new("", "pods", namespace, name)
    }
}

/// One change, for watches.
#[derive(Debug, Clone, PartialEq)]
pub struct Changed {
    /// Revision of the change.
    pub revision: u64,
    /// `ADDED`, `MODIFIED`, `DELETED`.
    pub kind: &'static str,
    /// What.
    pub key: Key,
    /// The object after it (before it, for a deletion).
    pub object: Value,
}

/// The objects of one control plane.
#[derive(Debug, Clone, Default)]
pub struct Store {
    objects: BTreeMap<Key, Value>,
    revision: u64,
    uids: u64,
    seed: u64,
    history: VecDeque<Changed>,
    /// Rises whenever certificates are rotated; those on a server's disk must not be newer (rke2#1916).
    pub certificates: u64,
    /// Which version's charts are installed.
    pub charts: String,
}

/// A snapshot's content.
#[derive(Debug, Serialize, Deserialize)]
struct Image {
    etcd: (u64, u64),
    revision: u64,
    uids: u64,
    certificates: u64,
    charts: String,
    taken_at_ms: u64,
    objects: Vec<(Key, Value)>,
}

/// What comes out of a snapshot.
#[derive(Debug, Clone)]
pub struct Restored {
    /// The objects.
    pub store: Store,
    /// etcd's release that wrote it.
    pub etcd: (u64, u64),
    /// Cluster time when it was taken, in milliseconds.
    pub taken_at_ms: u64,
}

impl Store {
    /// An empty store; `seed` keeps uids of different control planes apart.
    pub fn new(seed: u64) -> Self {
        Self { seed, revision: 1, ..Self::default() }
    }

    /// The current revision.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// One object.
    pub fn get(&self, key: &Key) -> Option<&Value> {
        self.objects.get(key)
    }

    /// All objects of a kind, in key order; `namespace` empty for all namespaces.
    pub fn list(&self, group: &str, plural: &str, namespace: &str) -> Vec<(&Key, &Value)> {
        let first = Key::new(group, plural, namespace, "");
        let fits = |key: &Key| {
            key.group == group && key.plural == plural && (namespace.is_empty() || key.namespace == namespace)
        };
        self.objects.range(first..).take_while(|(key, _)| fits(key)).collect()
    }

    /// Everything.
    pub fn all(&self) -> impl Iterator<Item = (&Key, &Value)> {
        self.objects.iter()
    }

    /// Number of objects.
    pub fn len(&self) -> usize {
        self.objects.len()
    }

    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.objects.is_empty()
    }

    /// Writes an object as it is and gives it a revision; a new one gets a uid and, when it has none, a generation.
    pub fn put(&mut self, key: Key, mut object: Value, now: &str) -> Value {
        self.revision += 1;
        let before = self.objects.get(&key);
        let kind = if before.is_some() { "MODIFIED" } else { "ADDED" };
        let (seed, uids) = (self.seed, &mut self.uids);
        let next = || {
            *uids += 1;
            uid(seed, *uids)
        };
        object = stamped(&key, before, object, next, now);
        object["metadata"]["resourceVersion"] = json!(self.revision.to_string());
        self.objects.insert(key.clone(), object.clone());
        self.remember(kind, key, object.clone());
        object
    }

    /// Writes an object as somebody would who writes into etcd itself: its own uid and creation time are kept.
    pub fn place(&mut self, key: Key, object: Value, now: &str) {
        let own = ["uid", "creationTimestamp"].map(|field| (field, object["metadata"][field].clone()));
        self.put(key.clone(), object, now);
        if let Some(stored) = self.objects.get_mut(&key) {
            own.into_iter().filter(|(_, value)| value.is_string()).for_each(|(field, value)| {
                stored["metadata"][field] = value;
            });
        }
    }

    /// Changes an object in place, when it is there.
    pub fn update(&mut self, key: &Key, now: &str, change: impl FnOnce(&mut Value)) -> bool {
        let Some(mut object) = self.objects.get(key).cloned() else { return false };
        change(&mut object);
        self.put(key.clone(), object, now);
        true
    }

    /// Removes an object.
    pub fn remove(&mut self, key: &Key) -> Option<Value> {
        let object = self.objects.remove(key)?;
        self.revision += 1;
        self.remember("DELETED", key.clone(), object.clone());
        Some(object)
    }

    /// Changes after a revision; `None` when it is too old, or from the future (a restore took the store back).
    pub fn since(&self, revision: u64) -> Option<Vec<&Changed>> {
        let oldest = self.history.front().map_or(self.revision + 1, |first| first.revision);
        if revision > self.revision || revision + 1 < oldest {
            return None;
        }
        Some(self.history.iter().filter(|changed| changed.revision > revision).collect())
    }

    /// A snapshot: real bytes that end in their SHA-256, as etcd's do (`size % 512 == 32`).
    pub fn snapshot(&self, etcd: (u64, u64), taken_at_ms: u64) -> Vec<u8> {
        let image = Image {
            etcd,
            revision: self.revision,
            uids: self.uids,
            certificates: self.certificates,
            charts: self.charts.clone(),
            taken_at_ms,
            objects: self.objects.iter().map(|(key, value)| (key.clone(), value.clone())).collect(),
        };
        let mut bytes = serde_json::to_vec(&image).expect("objects are plain JSON");
        bytes.resize(bytes.len().div_ceil(512) * 512, b' ');
        let trailer = Sha256::digest(&bytes);
        bytes.extend_from_slice(&trailer);
        bytes
    }

    /// Reads a snapshot back; the reason when its trailer does not fit or it is none.
    pub fn restore(bytes: &[u8], seed: u64) -> Result<Restored, String> {
        if !has_trailer(bytes) {
            return Err("snapshot file integrity check failed: expected sha256 trailer".to_owned());
        }
        let body = &bytes[..bytes.len() - 32];
        let image: Image = serde_json::from_slice(body).map_err(|_| "snapshot is not a database".to_owned())?;
        let store = Store {
            objects: image.objects.into_iter().collect(),
            revision: image.revision,
            uids: image.uids,
            seed,
            history: VecDeque::new(),
            certificates: image.certificates,
            charts: image.charts,
        };
        Ok(Restored { store, etcd: image.etcd, taken_at_ms: image.taken_at_ms })
    }

    fn remember(&mut self, kind: &'static str, key: Key, object: Value) {
        self.history.push_back(Changed { revision: self.revision, kind, key, object });
        if self.history.len() > HISTORY_LIMIT_EVENTS {
            self.history.pop_front();
        }
    }
}

/// Whether bytes end in the SHA-256 of everything before.
pub fn has_trailer(bytes: &[u8]) -> bool {
    let fits = bytes.len() > 32 && bytes.len() % 512 == 32;
    fits && Sha256::digest(&bytes[..bytes.len() - 32])[..] == bytes[bytes.len() - 32..]
}

fn uid(seed: u64, number: u64) -> String {
    let digest = Sha256::digest(format!("{seed}/{number}"));
    let hex: String = digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    format!("{}-{}-4{}-a{}-{}", &hex[..8], &hex[8..12], &hex[13..16], &hex[17..20], &hex[20..32])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_restore_takes_objects_and_the_revision_back() {
        let mut store = Store::new(1);
        let (a, b) = (Key::new("", "configmaps", "x", "a"), Key::new("", "configmaps", "x", "b"));
        store.put(a.clone(), json!({}), "t");
        let revision = store.revision();
        let bytes = store.snapshot((3, 5), 7);
        assert_eq!(bytes.len() % 512, 32);
        store.put(b.clone(), json!({}), "t");
        let back = Store::restore(&bytes, 2).unwrap();
        assert!(back.store.get(&a).is_some() && back.store.get(&b).is_none());
        assert_eq!(back.store.revision(), revision);
        assert!(back.store.since(store.revision()).is_none(), "a revision from the future was accepted");
    }

    #[test]
    fn a_snapshot_with_one_wrong_byte_is_refused() {
        let mut bytes = Store::new(1).snapshot((3, 5), 0);
        bytes[3] ^= 1;
        assert!(Store::restore(&bytes, 2).is_err());
        assert!(Store::restore(b"", 2).is_err());
    }
}
