//! The ports of the actions, put directly on the model: no network, and a hook around every effect.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use rke2flow_engine::cluster::{Cluster, Host, Kube, Rehearsal, Releases, S3, Secret, Ssh, Velero};
use rke2flow_engine::id::HostName;
use rke2flow_steps::command::{Change, ENVELOPE_MARK, Envelope, HostCommand};
use rke2flow_steps::paths::HostPaths;
use rke2flow_steps::ports::{
    Access, AccessError, Bucket, Http, KubeApi, KubeRequest, KubeResponse, KubeVerb, ObjectInfo, Output, Shell,
};
use rke2flow_steps::render::script;
use rke2flow_steps::transfer::{Grant, Presigned};
use serde_json::Value;

use crate::kube::request::{KubeBody, KubeHttp};
use crate::spec::TwinSpec;
use crate::twin::Twin;

/// What is about to happen, or has just happened, to the twin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Effect {
    /// Before or after it.
    pub side: Side,
    /// What: as in the twin's log.
    pub what: String,
    /// Whether it can change anything.
    pub changes: bool,
}

/// On which side of an effect a hook is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// It has not happened yet.
    Before,
    /// It has happened, and its caller does not know yet.
    After,
}

/// What becomes of an effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// It goes on.
    Go,
    /// This takes the place of the answer, as a broken connection would.
    Fail(AccessError),
    /// Nobody ever answers: for stopping an engine exactly here.
    Hang,
}

/// Called around every effect.
pub type Hook = Arc<dyn Fn(&Effect) -> Fate + Send + Sync>;

/// The ports of this twin.
pub fn access(twin: &Twin, cluster: Arc<Cluster>) -> Access {
    access_with(twin, cluster, Arc::new(|_| Fate::Go))
}

/// The ports of this twin, with a hook around every effect.
pub fn access_with(twin: &Twin, cluster: Arc<Cluster>, hook: Hook) -> Access {
    access_without(twin, cluster, hook, &[])
}

/// The same for a run to which these hosts are lost.
pub fn access_without(twin: &Twin, cluster: Arc<Cluster>, hook: Hook, lost: &[HostName]) -> Access {
    let lost = lost.to_vec();
    let servers = cluster.init_server().into_iter().chain(cluster.servers()).map(|host| host.name.clone());
    let servers = servers.filter(|name| !lost.contains(name)).collect();
    let port = Arc::new(Port { twin: twin.clone(), hook, bucket: twin.spec().bucket.clone(), servers });
    let bucket = cluster.s3.is_some().then(|| port.clone() as Arc<dyn Bucket>);
    let paths = HostPaths::of(&cluster);
    let redactor = Default::default();
    let history = Arc::default();
    let (shell, kube) = (port.clone(), port.clone());
    Access { cluster, paths, lost, token: None, shell, kube, bucket, http: port, history, redactor }
}

/// The inventory of a twin of this kind.
pub fn cluster(spec: &TwinSpec) -> Cluster {
    let hosts = spec.hosts().into_iter().enumerate().map(|(i, (name, role))| Host {
        name,
        address: spec.address(i).to_string(),
        node_ip: None,
        role,
        groups: Vec::new(),
        ssh: Ssh::default(),
        arch: Some("amd64".to_owned()),
    });
    Cluster {
        format: 1,
        name: spec.name.clone(),
        distribution: spec.distribution,
        // What the operator wants next.
        version: spec.releases.last().cloned(),
        hosts: hosts.collect(),
        ssh: Ssh::default(),
        init: None,
        s3: spec.etcd_s3.then(|| S3 {
            endpoint: "http://127.0.0.1".to_owned(),
            region: "us-east-1".to_owned(),
            bucket: spec.bucket.clone(),
            folder: spec.folder.clone(),
            access_key: Secret::File(PathBuf::from("access-key")),
            secret_key: Secret::File(PathBuf::from("secret-key")),
            ca: None,
        }),
        velero: spec.velero.then(|| Velero {
            namespace: "velero".to_owned(),
            location: "default".to_owned(),
            bucket: None,
            prefix: "velero".to_owned(),
            csi: true,
        }),
        token: None,
        kube: Kube::Ssh,
        health_urls: Vec::new(),
        health_ca: None,
        releases: Releases::default(),
        paths: None,
        rehearsal: Some(Rehearsal { speed: spec.speed.max(1) }),
    }
}

struct Port {
    twin: Twin,
    hook: Hook,
    bucket: String,
    /// Whose API is asked, the one that is restored first.
    servers: Vec<HostName>,
}

impl Port {
    async fn around<T>(&self, what: &str, changes: bool, effect: impl FnOnce() -> T) -> Result<T, AccessError> {
        let what = what.to_owned();
        self.ask(&Effect { side: Side::Before, what: what.clone(), changes }).await?;
        let outcome = effect();
        self.ask(&Effect { side: Side::After, what, changes }).await?;
        Ok(outcome)
    }

    async fn ask(&self, effect: &Effect) -> Result<(), AccessError> {
        match (self.hook)(effect) {
            Fate::Go => Ok(()),
            Fate::Fail(error) => Err(error),
            Fate::Hang => std::future::pending().await,
        }
    }
}

#[async_trait]
impl Shell for Port {
    async fn run(&self, host: &HostName, envelope: &Envelope) -> Result<Output, AccessError> {
        if !self.twin.reachable(host) {
            return Err(unreachable(host, "no route to host"));
        }
        let json = serde_json::to_string(envelope).expect("an envelope is plain data");
        // Beside the envelope only a token, which is in no envelope: nobody here runs the rest.
        let script = match &envelope.command {
            HostCommand::Change(order) if matches!(order.change, Change::WriteToken { .. }) => script(envelope),
            _ => format!("{ENVELOPE_MARK}{json}\n"),
        };
        let what = format!("{host}: {}", crate::host::describe(&envelope.command));
        let changes = crate::host::can_change(&envelope.command);
        self.around(&what, changes, || self.twin.shell_now(host, "root", &script)).await
    }
}

#[async_trait]
impl KubeApi for Port {
    async fn call(&self, server: Option<&HostName>, request: &KubeRequest) -> Result<KubeResponse, AccessError> {
        let delay = self.twin.api_delay();
        if !delay.is_zero() {
            self.twin.clock().sleep(delay).await;
        }
        let host = self.serving(server)?;
        let http = as_http(request);
        let what = format!("kube {} {}", http.method, http.path);
        let reply = self.around(&what, http.method != "GET", || self.twin.kube_now(&host, &http)).await?;
        let body = match reply.body {
            KubeBody::Json(value) => value,
            KubeBody::Text(text) => Value::String(text),
            KubeBody::Events(events) => Value::Array(events),
        };
        Ok(KubeResponse { status: reply.status, body })
    }
}

impl Port {
    /// The server that is asked: the named one, or the first that serves.
    fn serving(&self, server: Option<&HostName>) -> Result<HostName, AccessError> {
        let up = |host: &HostName| self.twin.reachable(host) && self.twin.listening(host, 6443);
        match server {
            Some(host) if up(host) => Ok(host.clone()),
            Some(host) => Err(unreachable(host, "connection to 127.0.0.1:6443 refused")),
            None => {
                let ready = |host: &&HostName| {
                    let readyz = KubeHttp { method: "GET".into(), path: "/readyz".into(), ..KubeHttp::default() };
                    up(host) && self.twin.kube_now(host, &readyz).status == 200
                };
                self.servers.iter().find(ready).cloned().ok_or_else(|| AccessError::Unreachable {
                    whom: "the Kubernetes API".to_owned(),
                    why: "no server answers on 127.0.0.1:6443".to_owned(),
                })
            }
        }
    }
}

fn as_http(request: &KubeRequest) -> KubeHttp {
    let (path, query) = request.path.split_once('?').unwrap_or((&request.path, ""));
    let (method, content_type) = match request.verb {
        KubeVerb::Get => ("GET", ""),
        KubeVerb::Create => ("POST", "application/json"),
        KubeVerb::MergePatch => ("PATCH", "application/merge-patch+json"),
        KubeVerb::Replace => ("PUT", "application/json"),
        KubeVerb::Delete => ("DELETE", "application/json"),
    };
    let body = if request.body.is_null() { Vec::new() } else { request.body.to_string().into_bytes() };
    KubeHttp {
        method: method.to_owned(),
        path: path.to_owned(),
        query: query.to_owned(),
        content_type: content_type.to_owned(),
        body,
        user: "system:admin".to_owned(),
    }
}

fn unreachable(host: &HostName, why: &str) -> AccessError {
    AccessError::Unreachable { whom: host.to_string(), why: why.to_owned() }
}

#[async_trait]
impl Bucket for Port {
    async fn head(&self, key: &str) -> Result<Option<ObjectInfo>, AccessError> {
        let found = self.around(&format!("s3 HEAD {key}"), false, || self.twin.bucket().get(&self.bucket, key)).await?;
        let found = found.map_err(|error| nonsense(&error))?;
        Ok(found.map(|object| ObjectInfo {
            key: key.to_owned(),
            size: object.bytes.len() as u64,
            metadata: object.metadata,
        }))
    }

    async fn get(&self, key: &str, limit: usize) -> Result<Option<Vec<u8>>, AccessError> {
        let found = self.around(&format!("s3 GET {key}"), false, || self.twin.bucket().get(&self.bucket, key)).await?;
        match found.map_err(|error| nonsense(&error))? {
            Some(object) if object.bytes.len() > limit => Err(AccessError::Nonsense {
                whom: "the bucket".to_owned(),
                why: format!("`{key}` has {} bytes, more than {limit}", object.bytes.len()),
            }),
            other => Ok(other.map(|object| object.bytes.to_vec())),
        }
    }

    async fn put(&self, key: &str, bytes: Vec<u8>, metadata: BTreeMap<String, String>) -> Result<(), AccessError> {
        let kind = "application/octet-stream";
        let what = format!("s3 PUT {key}");
        let written =
            self.around(&what, true, || self.twin.bucket().put(&self.bucket, key, bytes, metadata, kind)).await?;
        written.map(|_| ()).map_err(|error| nonsense(&error))
    }

    async fn list(&self, prefix: &str, limit: usize) -> Result<Vec<ObjectInfo>, AccessError> {
        let what = format!("s3 LIST {prefix}");
        let found = self.around(&what, false, || self.twin.bucket().list(&self.bucket, prefix, "", limit)).await?;
        let info = |(key, object): (String, crate::s3::store::S3Object)| ObjectInfo {
            key,
            size: object.bytes.len() as u64,
            metadata: object.metadata,
        };
        Ok(found.map_err(|error| nonsense(&error))?.into_iter().map(info).collect())
    }

    async fn presign(&self, key: &str, grant: &Grant) -> Result<Presigned, AccessError> {
        let headers = match grant {
            Grant::Get => Vec::new(),
            Grant::Put(marks) => {
                marks.iter().map(|(name, value)| (format!("x-amz-meta-{name}"), value.clone())).collect()
            }
        };
        // Nobody but the model reads it.
        let url =
            format!("https://bucket.twin/{}/{key}?X-Amz-Expires=900&X-Amz-Signature=signed-by-the-twin", self.bucket);
        Ok(Presigned { url, headers, ca: String::new() })
    }
}

fn nonsense(error: &crate::s3::store::S3Error) -> AccessError {
    AccessError::Nonsense { whom: "the bucket".to_owned(), why: error.to_string() }
}

#[async_trait]
impl Http for Port {
    async fn get(&self, url: &str) -> Result<(u16, String), AccessError> {
        let reply = self.around(&format!("http GET {url}"), false, || self.twin.application(url)).await?;
        reply.ok_or_else(|| AccessError::Unreachable { whom: url.to_owned(), why: "connection refused".to_owned() })
    }
}
