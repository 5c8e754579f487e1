//! The ports through which actions reach the world. Implemented by `access/*` for real hosts and by the twin's model in process.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use rke2flow_engine::action::{Failure, FailureClass};
use rke2flow_engine::cluster::Cluster;
use rke2flow_engine::history::Durations;
use rke2flow_engine::id::HostName;
use secrecy::SecretString;
use serde_json::Value;

use crate::command::Envelope;
use crate::paths::HostPaths;
use crate::transfer::{Grant, Presigned};

/// Everything that actions reach, for one cluster.
#[derive(Clone)]
pub struct Access {
    /// The cluster file.
    pub cluster: Arc<Cluster>,
    /// Where things are on its hosts.
    pub paths: HostPaths,
    /// Its hosts that are declared lost: nothing is asked of them, except whether they are really gone.
    pub lost: Vec<HostName>,
    /// The server token, when the cluster file says where it is.
    pub token: Option<SecretString>,
    /// Its hosts.
    pub shell: Arc<dyn Shell>,
    /// Its Kubernetes API.
    pub kube: Arc<dyn KubeApi>,
    /// Its bucket, when the cluster file has one.
    pub bucket: Option<Arc<dyn Bucket>>,
    /// Plain HTTP.
    pub http: Arc<dyn Http>,
    /// What earlier runs of this cluster took; empty when there is no history, and in rehearsals.
    pub history: Arc<Durations>,
    /// Takes secrets out of whatever is journaled, traced or shown; `Redactor::default()` where there are none.
    pub redactor: crate::secret::Redactor,
}

/// Sends one command to one host and returns what it printed.
#[async_trait]
pub trait Shell: Send + Sync {
    /// Runs the envelope's script and waits for its end, at most 60 s of wall time; a [`crate::command::Change`] only
    /// *starts* there, so this returns at once with its [`crate::answer::ReceiptAnswer`].
    async fn run(&self, host: &HostName, envelope: &Envelope) -> Result<Output, AccessError>;
}

/// What a script printed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Output {
    /// Exit status.
    pub exit: i32,
    /// At most 256 KiB.
    pub stdout: Vec<u8>,
    /// The last 4 KiB.
    pub stderr: Vec<u8>,
}

/// The Kubernetes API, as plain JSON: clusters of many versions are read, and unknown fields must survive.
#[async_trait]
pub trait KubeApi: Send + Sync {
    /// Sends one request. `server` asks for that server's own API server, on its loopback; `None`: any healthy one.
    /// A status of 400 and above is not an error here: the action decides what it means.
    async fn call(&self, server: Option<&HostName>, request: &KubeRequest) -> Result<KubeResponse, AccessError>;
}

/// A request to the Kubernetes API.
#[derive(Debug, Clone, PartialEq)]
pub struct KubeRequest {
    /// What to do.
    pub verb: KubeVerb,
    /// `/api/v1/nodes/server-0`, with its query.
    pub path: String,
    /// The body; `Null` for none.
    pub body: Value,
}

/// What a request does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KubeVerb {
    /// GET
    Get,
    /// POST
    Create,
    /// PATCH with `application/merge-patch+json`; carry `metadata.uid` and `resourceVersion` as preconditions.
    MergePatch,
    /// PUT
    Replace,
    /// DELETE; the body may carry preconditions.
    Delete,
}

/// An answer of the Kubernetes API.
#[derive(Debug, Clone, PartialEq)]
pub struct KubeResponse {
    /// HTTP status.
    pub status: u16,
    /// The body; a text that is not JSON (such as `/readyz`) as a JSON string.
    pub body: Value,
}

/// A bucket of an S3-compatible store.
#[async_trait]
pub trait Bucket: Send + Sync {
    /// Size and user metadata of an object; `None`: there is none.
    async fn head(&self, key: &str) -> Result<Option<ObjectInfo>, AccessError>;

    /// An object's bytes; refuses one larger than `limit` bytes.
    async fn get(&self, key: &str, limit: usize) -> Result<Option<Vec<u8>>, AccessError>;

    /// Writes an object.
    async fn put(&self, key: &str, bytes: Vec<u8>, metadata: BTreeMap<String, String>) -> Result<(), AccessError>;

    /// Objects whose key begins with `prefix`, at most `limit`, by pages.
    async fn list(&self, prefix: &str, limit: usize) -> Result<Vec<ObjectInfo>, AccessError>;

    /// A request that a host may send for this object, valid for [`crate::transfer::VALID`]. Asks nobody.
    async fn presign(&self, key: &str, grant: &Grant) -> Result<Presigned, AccessError>;
}

/// An object of a bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectInfo {
    /// Its key.
    pub key: String,
    /// Bytes.
    pub size: u64,
    /// User metadata, keys in lower case.
    pub metadata: BTreeMap<String, String>,
}

/// Plain HTTP(S) from the operator's machine.
#[async_trait]
pub trait Http: Send + Sync {
    /// GET; the status and at most 4 KiB of the body. Certificates are verified.
    async fn get(&self, url: &str) -> Result<(u16, String), AccessError>;
}

/// Why the world could not be reached.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AccessError {
    /// Nobody answers.
    #[error("cannot reach {whom}: {why}")]
    Unreachable {
        /// Host, API or endpoint.
        whom: String,
        /// What was tried and what came back.
        why: String,
    },
    /// The link broke before the outcome was known: neither success nor failure.
    #[error("lost the connection to {whom} before the outcome was known: {why}")]
    Unknown {
        /// Host, API or endpoint.
        whom: String,
        /// What was under way.
        why: String,
    },
    /// The other side said no: host key, login, certificate, signature.
    #[error("{whom} refuses: {why}")]
    Refused {
        /// Host, API or endpoint.
        whom: String,
        /// Its words, and what to do.
        why: String,
    },
    /// The answer makes no sense.
    #[error("cannot understand the answer of {whom}: {why}")]
    Nonsense {
        /// Host, API or endpoint.
        whom: String,
        /// What was expected and what came.
        why: String,
    },
}

impl From<AccessError> for Failure {
    fn from(error: AccessError) -> Self {
        let class = match &error {
            AccessError::Unreachable { .. } | AccessError::Unknown { .. } => FailureClass::Transient,
            AccessError::Refused { .. } => FailureClass::Refused,
            AccessError::Nonsense { .. } => FailureClass::Permanent,
        };
        Failure::of(class, error.to_string())
    }
}
