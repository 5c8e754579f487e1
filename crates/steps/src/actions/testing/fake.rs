//! Hosts, bucket and web of the small world, behind the actions' ports.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use rke2flow_engine::id::{HostName, RunId};
use serde_json::{Value, json};

use super::NOW;
use crate::actions::stamp;
use crate::answer::{
    FileInfo, Files, Identity, Inspection, LostMark, Part, Points, ReceiptAnswer, ResetState, Staged, Survey, Tail,
};
use crate::command::{Change, Envelope, HostCommand, Look, NodePart, Order};
use crate::paths::HostPaths;
use crate::ports::{AccessError, Bucket, Http, ObjectInfo, Output, Shell};
use crate::transfer::{Grant, Presigned};

/// A host and everything that its commands can see and change.
#[derive(Debug, Clone, PartialEq, Default)]
/// The world behind every port.
pub struct FakeHost {
    /// What it tells of itself.
    pub survey: Survey,
    /// Its files, etcd snapshots among them.
    pub files: Vec<FileInfo>,
    /// What RKE2 lists as snapshots; null: it cannot tell.
    pub listed: Value,
    /// Snapshots that are being written.
    pub in_progress: Vec<String>,
    /// What it tells beside its survey.
    pub identity: Identity,
    /// What it tells guards.
    pub inspection: Inspection,
    /// The recovery points that it keeps, as JSON.
    pub points: Vec<String>,
    /// Releases that are staged.
    pub staged: Vec<String>,
    /// Whether it answers.
    pub silent: bool,
    /// The end of every unit's log; empty: a text with bad luck in it.
    pub log: String,
    /// Marks that its own scripts have left.
    pub marks: Vec<String>,
}

/// Everything that a test can look at and change.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct State {
    /// Hosts by name.
    pub hosts: BTreeMap<String, FakeHost>,
    /// Objects by path.
    pub objects: BTreeMap<String, Value>,
    /// The bucket.
    pub bucket: BTreeMap<String, Vec<u8>>,
    /// User metadata of objects in the bucket.
    pub marks: BTreeMap<String, BTreeMap<String, String>>,
    /// Whether no API server answers.
    pub api_down: bool,
    /// Whether RKE2's own uploads fail, and its command ends well.
    pub upload_fails: bool,
    /// Whether RKE2 saves nothing, and its command ends well.
    pub save_fails: bool,
    /// Status by URL.
    pub web: BTreeMap<String, u16>,
    /// What forbids every eviction; empty: nothing does.
    pub budget: String,
    /// What the system-upgrade-controller does with a node that it is handed.
    pub controller: super::suc::Controller,
    /// Changes that were sent to hosts, and how many writes the API took.
    pub changes: Vec<String>,
    next_uid: u64,
}

impl State {
    /// The revision that a list tells.
    pub fn revision(&self) -> String {
        self.next_uid.to_string()
    }

    /// Puts an object at its path, as a new version.
    pub fn put(&mut self, path: &str, mut body: Value) {
        self.next_uid += 1;
        let (collection, name) = path.rsplit_once('/').unwrap();
        let meta = &mut body["metadata"];
        if let Some((_, rest)) = collection.split_once("/namespaces/") {
            meta["namespace"] = json!(rest.split('/').next().unwrap());
        }
        meta["name"] = json!(name);
        if meta["uid"].is_null() {
            meta["uid"] = json!(format!("uid-{}", self.next_uid));
        }
        if meta["creationTimestamp"].is_null() {
            meta["creationTimestamp"] = json!(stamp(NOW).to_string());
        }
        meta["resourceVersion"] = json!(self.next_uid.to_string());
        self.objects.insert(path.to_owned(), body);
    }
}

impl State {
    /// The user metadata of an object in the bucket.
    pub fn marks_of(&self, key: &str) -> BTreeMap<String, String> {
        self.marks.get(key).cloned().unwrap_or_default()
    }

    /// What a change of a host means to the bucket.
    fn moves(&mut self, host: &str, change: &Change, paths: &HostPaths) {
        let key_of = |request: &Presigned| {
            let path = request.url.split('?').next().unwrap().strip_prefix("https://s3.test/etcd/").unwrap();
            path.to_owned()
        };
        match change {
            Change::SaveSnapshot { .. } if self.hosts[host].survey.etcd_s3 && !self.upload_fails => {
                let files = self.hosts[host].files.clone();
                for file in files.iter().filter(|file| file.path.starts_with(&paths.snapshots())) {
                    let key = format!("prod/{}", file.path.rsplit('/').next().unwrap());
                    self.bucket.entry(key).or_insert_with(|| vec![0; file.size as usize]);
                }
            }
            Change::UploadSnapshot { file, request, .. } => {
                let size = self.hosts[host].files.iter().find(|found| found.path == *file).unwrap().size;
                let named = |(name, value): &(String, String)| {
                    Some((name.strip_prefix("x-amz-meta-")?.to_owned(), value.clone()))
                };
                let key = key_of(request);
                self.marks.insert(key.clone(), request.headers.iter().filter_map(named).collect());
                self.bucket.insert(key, vec![0; size as usize]);
            }
            Change::FetchSnapshot { to, sha256, request, .. } => {
                let size = self.bucket[&key_of(request)].len() as u64;
                let files = &mut self.hosts.get_mut(host).unwrap().files;
                files.retain(|found| found.path != *to);
                files.push(FileInfo { size, ..file(to, if sha256.is_empty() { "fetched" } else { sha256 }) });
            }
            _ => {}
        }
    }

    /// What a restarted node tells once its kubelet is up again.
    fn flip(&mut self, host: &str) {
        let version = self.hosts[host].survey.installed.clone();
        let node = self.objects.get_mut(&format!("/api/v1/nodes/{host}")).unwrap();
        node["status"]["nodeInfo"]["kubeletVersion"] = json!(version);
        let image = format!("rancher/hardened-kubernetes:{}-build20260101", version.replace('+', "-"));
        let pods = self.objects.iter_mut().filter(|(path, _)| path.contains("/pods/kube-"));
        for (_, pod) in pods.filter(|(path, _)| path.ends_with(host)) {
            pod["spec"]["containers"][0]["image"] = json!(image);
        }
    }
}

/// The world behind every port.
pub struct Fake {
    /// What it is like.
    pub state: Arc<Mutex<State>>,
}

#[async_trait]
impl Shell for Fake {
    async fn run(&self, host: &HostName, envelope: &Envelope) -> Result<Output, AccessError> {
        let mut state = self.state.lock().unwrap();
        let save_fails = state.save_fails;
        let fake = state.hosts.get_mut(host.as_str()).unwrap();
        if fake.silent {
            let why = "no route to host".to_owned();
            return Err(AccessError::Unreachable { whom: host.to_string(), why });
        }
        let (answer, change) = match &envelope.command {
            HostCommand::Look(look) => (fake.look(look), None),
            HostCommand::Claim(_) => panic!("actions take no claims"),
            HostCommand::Change(order) => {
                if !(save_fails && matches!(order.change, Change::SaveSnapshot { .. })) {
                    fake.obey(order, &envelope.paths, host.as_str());
                }
                let finished = ReceiptAnswer::Finished { exit: 0, boot: fake.survey.boot.clone(), tail: String::new() };
                (json!(finished), Some(format!("{host}: {:?}", order.change)))
            }
        };
        if matches!(&envelope.command, HostCommand::Change(order) if order.change == Change::RestartUnit) {
            state.flip(host.as_str());
        }
        state.changes.extend(change);
        if let HostCommand::Change(order) = &envelope.command {
            state.moves(host.as_str(), &order.change, &envelope.paths);
        }
        Ok(Output { exit: 0, stdout: answer.to_string().into_bytes(), stderr: Vec::new() })
    }
}

impl FakeHost {
    fn look(&self, look: &Look) -> Value {
        let script = |script: &str| match self.marks.iter().any(|mark| script.contains(mark)) {
            true => Tail { exit: 0, text: String::new() },
            false => Tail { exit: 1, text: BASE64.encode("not there\n") },
        };
        match look {
            Look::Survey => json!(self.survey),
            Look::Receipt { .. } => json!(ReceiptAnswer::Unknown),
            Look::Files { paths } => json!(self.files(|file| paths.contains(&file.path))),
            Look::Snapshots { prefix } => json!(Files {
                in_progress: self.in_progress.clone(),
                ..self.files(|file| {
                    file.path.contains("/snapshots/") && file.path.rsplit('/').next().unwrap().starts_with(prefix)
                })
            }),
            Look::SnapshotList if self.listed.is_null() => json!(Tail { exit: 1, text: String::new() }),
            Look::SnapshotList => json!(Tail { exit: 0, text: BASE64.encode(self.listed.to_string()) }),
            Look::Identity => json!(self.identity),
            Look::Inspection => json!(self.inspection),
            Look::Points => {
                let (fit, rest): (Vec<_>, Vec<_>) =
                    self.points.iter().enumerate().partition(|(_, p)| p.len() < 100_000);
                let points = fit.iter().map(|(_, point)| BASE64.encode(point)).collect();
                json!(Points { points, left_out: rest.iter().map(|(number, _)| format!("{number}.json")).collect() })
            }
            Look::Point { file, offset } => {
                let number: usize = file.strip_suffix(".json").unwrap().parse().unwrap();
                let (bytes, from) = (self.points[number].as_bytes(), *offset as usize);
                let part = &bytes[from..bytes.len().min(from + 128 * 1024)];
                json!(Part { total: bytes.len() as u64, text: BASE64.encode(part) })
            }
            Look::Release { version } => {
                let complete = self.staged.contains(version);
                json!(Staged { complete, missing: if complete { vec![] } else { vec!["install.sh".to_owned()] } })
            }
            Look::Log { .. } => {
                let text = if self.log.is_empty() { NO_LUCK } else { &self.log };
                json!(Tail { exit: 0, text: BASE64.encode(text) })
            }
            Look::Kubeconfig => panic!("no action asks for this"),
            Look::Script { script: text } => json!(script(text)),
        }
    }

    fn files(&self, wanted: impl Fn(&FileInfo) -> bool) -> Files {
        Files { files: self.files.iter().filter(|file| wanted(file)).cloned().collect(), in_progress: Vec::new() }
    }

    fn obey(&mut self, order: &Order, paths: &HostPaths, host: &str) {
        let survey = &mut self.survey;
        match &order.change {
            Change::FetchRelease { version, .. } => remember(&mut self.staged, version),
            Change::StageSnapshot { file, to, .. } => {
                let mut copy = self.files.iter().find(|found| found.path == *file).unwrap().clone();
                copy.path.clone_from(to);
                self.files.retain(|found| found.path != *to);
                self.files.push(copy);
            }
            Change::SaveSnapshot { name } => {
                let path = format!("{}/{name}-{host}-{NOW}", paths.snapshots());
                self.files.retain(|found| found.path != path);
                self.files.push(file(&path, "snapshot"));
            }
            Change::InstallVersion { version, .. } => survey.installed.clone_from(version),
            Change::Hold => (survey.hold, survey.hold_drop_in) = (true, true),
            Change::ReleaseHold => survey.hold = false,
            Change::KillNode { .. } => kill(survey),
            Change::JoinAnew { .. } => survey.unit_begun_since = NOW,
            Change::MoveAside { parts } => parts.iter().for_each(|part| move_aside(survey, paths, *part, &order.run)),
            Change::PointAt { server } => {
                survey.server_override = crate::answer::server_override(&order.run, server.as_deref());
            }
            Change::ClusterReset { sha256, .. } => {
                let (run, sha256) = (order.run.to_string(), sha256.clone());
                survey.reset = Some(ResetState { run, sha256, proved: true, started_since: false });
                (survey.reset_flag, survey.etcd_member, survey.etcd_name) = (true, true, true);
            }
            Change::StartUnit => {
                (survey.unit, survey.unit_active_since) = ("active".to_owned(), NOW - 1);
                survey.unit_begun_since = NOW - 31;
            }
            Change::RestartUnit => survey.unit_active_since = NOW - 10,
            Change::WritePoint { point } => {
                let text = serde_json::to_string(point).unwrap();
                self.points.retain(|known| !known.contains(&point.id));
                self.points.push(text);
            }
            // What moves between the host and the bucket is seen by the state.
            Change::UploadSnapshot { .. } | Change::FetchSnapshot { .. } => {}
            Change::WriteToken { .. } => panic!("no test has a token"),
            Change::EnableUnit => survey.unit_enabled = true,
            Change::MarkLost { hosts } => {
                for host in hosts.iter().map(ToString::to_string) {
                    survey.lost.retain(|mark| mark.host != host);
                    survey.lost.push(LostMark { host, run: order.run.to_string(), since: NOW });
                }
            }
            Change::ForgetLost { hosts } => {
                survey.lost.retain(|mark| hosts.iter().all(|host| host.as_str() != mark.host));
            }
            Change::CleanUp => {
                (survey.hold, survey.hold_drop_in) = (false, false);
                survey.server_override = String::new();
            }
            Change::Script { script } => remember(&mut self.marks, script),
            Change::MoveBack { .. } => move_back(survey, &order.run),
        }
    }
}

const NO_LUCK: &str = "level=fatal msg=\"no luck\"\nlevel=info msg=\"again\"\n";

/// Nothing of the node runs any more.
pub fn kill(survey: &mut Survey) {
    *survey = Survey {
        unit: "inactive".to_owned(),
        unit_active_since: 0,
        unit_begun_since: 0,
        shims: 0,
        open_ports: Vec::new(),
        static_pods: Vec::new(),
        members: Vec::new(),
        etcd_health: String::new(),
        readyz: String::new(),
        ..survey.clone()
    };
}

fn remember(list: &mut Vec<String>, text: &str) {
    if !list.iter().any(|known| known == text) {
        list.push(text.to_owned());
    }
}

fn move_aside(survey: &mut Survey, paths: &HostPaths, part: NodePart, run: &RunId) {
    let name = paths.aside(part, run).replace(&format!("{}/", paths.data), "");
    if survey.aside.contains(&name) {
        return;
    }
    survey.aside.push(name);
    match part {
        NodePart::Etcd => (survey.etcd_name, survey.etcd_member) = (false, false),
        NodePart::Tls => survey.tls = false,
        NodePart::Cred => survey.cred = false,
        NodePart::ShippedCharts => survey.shipped_charts = 0,
    }
}

fn move_back(survey: &mut Survey, run: &RunId) {
    survey.aside.retain(|name| !name.ends_with(&format!("-rke2flow-{run}")));
    (survey.etcd_name, survey.etcd_member, survey.tls, survey.cred, survey.shipped_charts) =
        (true, true, true, true, 8);
    (survey.reset, survey.reset_flag) = (None, false);
}

/// A sound file.
pub fn file(path: &str, sha256: &str) -> FileInfo {
    FileInfo { path: path.to_owned(), size: 544, modified: NOW, sha256: sha256.to_owned(), trailer: true }
}

#[async_trait]
impl Bucket for Fake {
    async fn head(&self, key: &str) -> Result<Option<ObjectInfo>, AccessError> {
        let state = self.state.lock().unwrap();
        let info = |bytes: &Vec<u8>| ObjectInfo {
            key: key.to_owned(),
            size: bytes.len() as u64,
            metadata: state.marks_of(key),
        };
        Ok(state.bucket.get(key).map(info))
    }

    async fn get(&self, key: &str, _limit: usize) -> Result<Option<Vec<u8>>, AccessError> {
        Ok(self.state.lock().unwrap().bucket.get(key).cloned())
    }

    async fn put(&self, key: &str, bytes: Vec<u8>, _metadata: BTreeMap<String, String>) -> Result<(), AccessError> {
        self.state.lock().unwrap().bucket.insert(key.to_owned(), bytes);
        Ok(())
    }

    async fn list(&self, prefix: &str, limit: usize) -> Result<Vec<ObjectInfo>, AccessError> {
        let state = self.state.lock().unwrap();
        let found = state.bucket.iter().filter(|(key, _)| key.starts_with(prefix)).take(limit);
        let info = |(key, bytes): (&String, &Vec<u8>)| ObjectInfo {
            key: key.clone(),
            size: bytes.len() as u64,
            metadata: BTreeMap::new(),
        };
        Ok(found.map(info).collect())
    }

    async fn presign(&self, key: &str, grant: &Grant) -> Result<Presigned, AccessError> {
        let headers = match grant {
            Grant::Get => Vec::new(),
            Grant::Put(marks) => {
                marks.iter().map(|(name, value)| (format!("x-amz-meta-{name}"), value.clone())).collect()
            }
        };
        let url = format!("https://s3.test/etcd/{key}?X-Amz-Expires=900&X-Amz-Signature={SIGNATURE}");
        Ok(Presigned { url, headers, ca: String::new() })
    }
}

/// What the fake bucket signs requests with.
const SIGNATURE: &str = "5ec4e75ec4e7";

#[async_trait]
impl Http for Fake {
    async fn get(&self, url: &str) -> Result<(u16, String), AccessError> {
        match self.state.lock().unwrap().web.get(url) {
            Some(status) => Ok((*status, String::new())),
            None => Err(AccessError::Unreachable { whom: url.to_owned(), why: "connection refused".to_owned() }),
        }
    }
}
