//! An object store in memory: buckets, objects with user metadata, multipart uploads.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use sha2::{Digest, Sha256};

use crate::world::log::{EntryKind, Recorder};

/// Objects are small here: what is declared large has few real bytes.
pub const OBJECT_LIMIT_BYTES: usize = 64 << 20;

/// An object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct S3Object {
    /// Its bytes.
    pub bytes: Arc<Vec<u8>>,
    /// User metadata, keys in lower case and without `x-amz-meta-`.
    pub metadata: BTreeMap<String, String>,
    /// What the client said it is.
    pub content_type: String,
    /// A quoted hash.
    pub etag: String,
    /// When it was written.
    pub modified: Timestamp,
}

/// Why the store refuses.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum S3Error {
    /// There is no such bucket.
    #[error("no bucket `{0}`")]
    NoSuchBucket(String),
    /// There is no such upload.
    #[error("no upload `{0}`")]
    NoSuchUpload(String),
    /// A part that was named was never sent.
    #[error("no part {0}")]
    InvalidPart(u32),
    /// Larger than [`OBJECT_LIMIT_BYTES`].
    #[error("an object of more than {OBJECT_LIMIT_BYTES} bytes")]
    TooLarge,
}

#[derive(Debug, Clone, Default)]
struct Upload {
    bucket: String,
    key: String,
    content_type: String,
    metadata: BTreeMap<String, String>,
    parts: BTreeMap<u32, Vec<u8>>,
}

/// Everything in a store.
#[derive(Debug, Clone, Default)]
pub(crate) struct Buckets {
    buckets: BTreeMap<String, BTreeMap<String, S3Object>>,
    uploads: BTreeMap<String, Upload>,
    next_upload: u64,
}

/// Objects in memory, shared by the model (which writes snapshots and backups) and by the endpoint in front of it.
#[derive(Debug)]
pub struct S3Store {
    inner: Mutex<Buckets>,
    recorder: Arc<Recorder>,
}

impl S3Store {
    /// A store with one empty bucket.
    pub fn new(bucket: &str, recorder: Arc<Recorder>) -> Self {
        let mut inner = Buckets::default();
        inner.buckets.insert(bucket.to_owned(), BTreeMap::new());
        Self { inner: Mutex::new(inner), recorder }
    }

    /// Writes an object on behalf of a client; logged.
    pub fn put(
        &self,
        bucket: &str,
        key: &str,
        bytes: Vec<u8>,
        metadata: BTreeMap<String, String>,
        content_type: &str,
    ) -> Result<S3Object, S3Error> {
        self.recorder.record(None, EntryKind::Write, format!("s3 PUT {bucket}/{key}"), None);
        self.store(bucket, key, bytes, metadata, content_type)
    }

    /// Reads an object with its metadata on behalf of a client; logged.
    pub fn get(&self, bucket: &str, key: &str) -> Result<Option<S3Object>, S3Error> {
        self.recorder.record(None, EntryKind::Read, format!("s3 GET {bucket}/{key}"), None);
        self.look(bucket, key)
    }

    /// Removes an object on behalf of a client; logged. Whether it was there.
    pub fn delete(&self, bucket: &str, key: &str) -> Result<bool, S3Error> {
        self.recorder.record(None, EntryKind::Write, format!("s3 DELETE {bucket}/{key}"), None);
        let mut inner = self.lock();
        Ok(inner.bucket_mut(bucket)?.remove(key).is_some())
    }

    /// Objects in key order whose key begins with `prefix` and is greater than `after`, on behalf of a client; logged.
    pub fn list(
        &self,
        bucket: &str,
        prefix: &str,
        after: &str,
        limit: usize,
    ) -> Result<Vec<(String, S3Object)>, S3Error> {
        self.recorder.record(None, EntryKind::Read, format!("s3 LIST {bucket}/{prefix}"), None);
        let inner = self.lock();
        let objects = inner.bucket(bucket)?;
        let fits = |key: &&String| key.starts_with(prefix) && key.as_str() > after;
        Ok(objects.keys().filter(fits).take(limit).map(|key| (key.clone(), objects[key].clone())).collect())
    }

    /// Whether there is such a bucket.
    pub fn has_bucket(&self, bucket: &str) -> bool {
        self.lock().buckets.contains_key(bucket)
    }

    /// Makes a bucket; nothing happens when it is there.
    pub fn create_bucket(&self, bucket: &str) {
        self.lock().buckets.entry(bucket.to_owned()).or_default();
    }

    /// Begins a multipart upload and returns its id.
    pub fn begin_upload(
        &self,
        bucket: &str,
        key: &str,
        metadata: BTreeMap<String, String>,
        content_type: &str,
    ) -> Result<String, S3Error> {
        let mut inner = self.lock();
        inner.bucket(bucket)?;
        inner.next_upload += 1;
        let id = format!("upload-{}", inner.next_upload);
        let upload = Upload {
            bucket: bucket.to_owned(),
            key: key.to_owned(),
            content_type: content_type.to_owned(),
            metadata,
            parts: BTreeMap::new(),
        };
        inner.uploads.insert(id.clone(), upload);
        Ok(id)
    }

    /// Adds a part and returns its entity tag.
    pub fn upload_part(&self, upload: &str, number: u32, bytes: Vec<u8>) -> Result<String, S3Error> {
        let etag = etag(&bytes);
        let mut inner = self.lock();
        let found = inner.uploads.get_mut(upload).ok_or_else(|| S3Error::NoSuchUpload(upload.to_owned()))?;
        let others: usize = found.parts.iter().filter(|(n, _)| **n != number).map(|(_, part)| part.len()).sum();
        if others + bytes.len() > OBJECT_LIMIT_BYTES {
            return Err(S3Error::TooLarge);
        }
        found.parts.insert(number, bytes);
        Ok(etag)
    }

    /// Puts the named parts together as the object; logged.
    pub fn complete_upload(&self, upload: &str, parts: &[u32]) -> Result<S3Object, S3Error> {
        let found = self.lock().uploads.remove(upload).ok_or_else(|| S3Error::NoSuchUpload(upload.to_owned()))?;
        let mut bytes = Vec::new();
        for number in parts {
            bytes.extend_from_slice(found.parts.get(number).ok_or(S3Error::InvalidPart(*number))?);
        }
        self.put(&found.bucket, &found.key, bytes, found.metadata, &found.content_type)
    }

    /// Forgets an upload.
    pub fn abort_upload(&self, upload: &str) {
        self.lock().uploads.remove(upload);
    }

    /// Reads an object for the model itself: not logged.
    pub fn look(&self, bucket: &str, key: &str) -> Result<Option<S3Object>, S3Error> {
        Ok(self.lock().bucket(bucket)?.get(key).cloned())
    }

    /// Keys with this prefix for the model itself: not logged.
    pub fn keys(&self, bucket: &str, prefix: &str) -> Vec<String> {
        let inner = self.lock();
        let Ok(objects) = inner.bucket(bucket) else { return Vec::new() };
        objects.keys().filter(|key| key.starts_with(prefix)).cloned().collect()
    }

    /// Writes an object for the model itself: not logged.
    pub fn store(
        &self,
        bucket: &str,
        key: &str,
        bytes: Vec<u8>,
        metadata: BTreeMap<String, String>,
        content_type: &str,
    ) -> Result<S3Object, S3Error> {
        if bytes.len() > OBJECT_LIMIT_BYTES {
            return Err(S3Error::TooLarge);
        }
        let metadata = metadata.into_iter().map(|(name, value)| (name.to_ascii_lowercase(), value)).collect();
        let object = S3Object {
            etag: etag(&bytes),
            bytes: Arc::new(bytes),
            metadata,
            content_type: content_type.to_owned(),
            modified: self.recorder.clock().now(),
        };
        let mut inner = self.lock();
        inner.bucket_mut(bucket)?.insert(key.to_owned(), object.clone());
        Ok(object)
    }

    /// Removes an object for the model itself: not logged.
    pub fn remove(&self, bucket: &str, key: &str) {
        if let Ok(objects) = self.lock().bucket_mut(bucket) {
            objects.remove(key);
        }
    }

    /// All that is there.
    pub(crate) fn save(&self) -> Buckets {
        self.lock().clone()
    }

    /// Makes it what it was.
    pub(crate) fn restore(&self, saved: Buckets) {
        *self.lock() = saved;
    }

    fn lock(&self) -> MutexGuard<'_, Buckets> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Buckets {
    fn bucket(&self, bucket: &str) -> Result<&BTreeMap<String, S3Object>, S3Error> {
        self.buckets.get(bucket).ok_or_else(|| S3Error::NoSuchBucket(bucket.to_owned()))
    }

    fn bucket_mut(&mut self, bucket: &str) -> Result<&mut BTreeMap<String, S3Object>, S3Error> {
        self.buckets.get_mut(bucket).ok_or_else(|| S3Error::NoSuchBucket(bucket.to_owned()))
    }
}

fn etag(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    let hex: String = digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    format!("\"{hex}\"")
}
