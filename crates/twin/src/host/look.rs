//! What a host answers to questions.

use rke2flow_engine::cluster::Role;
use rke2flow_engine::id::HostName;
use rke2flow_steps::answer::{FileInfo, Files, Identity, Member, Part, Points, Staged, Survey, Tail, server_override};
use rke2flow_steps::command::{Look, NodePart};
use rke2flow_steps::ports::Output;
use rke2flow_steps::render::encode_text;
use rke2flow_steps::token::token_hash;
use sha2::{Digest, Sha256};

use crate::host::person::Allowed;
use crate::host::shell::json;
use crate::host::{File, Release};
use crate::kube::store::has_trailer;
use crate::world::{World, version};

/// Bytes of points in one answer, and of one part of a point.
const POINTS_BYTES: usize = 110 * 1024;
const PART_BYTES: usize = 128 * 1024;

impl World {
    /// Answers a question.
    pub(crate) fn look(&mut self, name: &HostName, look: &Look) -> Output {
        match look {
            Look::Survey => json(&self.survey(name)),
            Look::Receipt { unit, .. } => json(&self.receipt(name, unit.as_str())),
            Look::Files { paths } => {
                let files = paths.iter().filter_map(|path| self.file_info(name, path)).collect();
                json(&Files { files, in_progress: Vec::new() })
            }
            Look::Snapshots { prefix } => json(&self.snapshots(name, prefix)),
            Look::SnapshotList => json(&self.snapshot_list(name)),
            Look::Points => json(&self.points(name)),
            Look::Point { file, offset } => json(&self.point(name, file, *offset as usize)),
            Look::Identity => json(&self.identity(name)),
            Look::Inspection => json(&self.inspection(name)),
            Look::Release { version } => json(&self.staged(name, version)),
            Look::Log { unit, lines } => json(&self.tail_of_log(name, unit, *lines as usize)),
            Look::Kubeconfig => json(&self.kubeconfig(name)),
            Look::Script { script } => {
                let (exit, text) = self.script(name, script, Allowed::Look);
                json(&Tail { exit, text: encode_text(text.as_bytes()) })
            }
        }
    }

    pub(crate) fn survey(&self, name: &HostName) -> Survey {
        let host = self.host(name);
        let (disk, service) = (&host.disk, &host.service);
        let ports = [2379, 2380, 6443, self.paths.supervisor_port];
        let mut open_ports: Vec<u16> = ports.into_iter().filter(|port| self.listening(name, *port)).collect();
        open_ports.dedup();
        let active = service.state == crate::host::service::UnitState::Active;
        let plane = host.running_plane();
        let health =
            self.http(name, 2381, "/health").map_or("", |(status, _)| if status == 200 { "true" } else { "false" });
        Survey {
            boot: host.boot_id(),
            epoch: self.clock_of(name, self.now),
            arch: host.estate.arch.clone(),
            installed: host.installed.clone(),
            unit: if host.installed.is_empty() { String::new() } else { service.state.as_str().to_owned() },
            unit_active_since: if active { self.clock_of(name, service.active_since) } else { 0 },
            unit_begun_since: match service.state {
                crate::host::service::UnitState::Inactive => 0,
                _ => self.clock_of(name, service.begun_since),
            },
            unit_restarts: service.restarts,
            unit_enabled: service.enabled,
            shims: host.pods.as_ref().map_or(0, |pods| pods.shims),
            open_ports,
            static_pods: disk.static_pods.clone(),
            hold: disk.hold,
            hold_drop_in: disk.hold_drop_in,
            reset_flag: disk.reset_flag,
            etcd_name: disk.etcd.is_some(),
            etcd_member: host.data_plane().is_some(),
            tls: host.has_part(NodePart::Tls),
            cred: host.has_part(NodePart::Cred),
            shipped_charts: disk.charts.len() as u32,
            aside: disk.aside.keys().map(|path| self.relative(path)).collect(),
            server_override: self.told_override(name),
            configured_server: disk.configured_server.clone(),
            unit_server: host.estate.unit_server.clone(),
            node_ip: host.address.clone(),
            etcd_s3: self.spec.etcd_s3 && host.role == Role::Server,
            etcd_health: health.to_owned(),
            readyz: self.readyz_text(name),
            api_version: self.api_version(name),
            datastore: self.datastore(name),
            members: if self.listening(name, self.paths.supervisor_port) { self.members(plane) } else { Vec::new() },
            token_sha256: if disk.token.is_empty() { String::new() } else { hex(disk.token.as_bytes()) },
            ca_sha256: if disk.tls.is_some() { hex(b"ca of the twin") } else { String::new() },
            disk_free: host.estate.disk_free,
            etcd_bytes: host.data_plane().map_or(0, |plane| 4096 * self.planes[plane].store.len() as u64),
            claim: host.claim.clone(),
            lost: disk.lost.clone(),
            our_units: self.active_orders(name),
            reset: disk.reset.clone().map(|mut reset| {
                reset.started_since = reset.proved && !disk.reset_flag && host.data_plane().is_some();
                reset
            }),
        }
    }

    /// What `/readyz` of this host's own API server says; empty when nobody listens.
    pub(crate) fn readyz_text(&self, name: &HostName) -> String {
        match self.host(name).running_plane() {
            Some(plane) if self.listening(name, 6443) && self.quorate(plane) => "ok".to_owned(),
            Some(_) if self.listening(name, 6443) => "[-]etcd failed: reason withheld".to_owned(),
            _ => String::new(),
        }
    }

    /// What the host's own API server tells of itself, where that is inside the unit's process.
    fn api_version(&self, name: &HostName) -> String {
        let host = self.host(name);
        if self.one_process() && self.listening(name, 6443) { host.service.running.clone() } else { String::new() }
    }

    fn datastore(&self, name: &HostName) -> String {
        let host = self.host(name);
        let has = self.distribution().other_datastores && host.disk.etcd.is_some();
        if has && !host.estate.datastore.is_empty() {
            host.estate.datastore.clone()
        } else if has {
            "etcd".to_owned()
        } else {
            String::new()
        }
    }

    fn members(&self, plane: Option<usize>) -> Vec<Member> {
        let Some(plane) = plane.filter(|plane| self.quorate(*plane)) else { return Vec::new() };
        let answer = |(i, member): (usize, &crate::world::plane::Member)| Member {
            name: member.name.clone(),
            learner: member.learner,
            peer_urls: vec![format!("https://{}:2380", self.host(&member.host).address)],
            id: self.member_id(plane, i),
        };
        self.planes[plane].members.iter().enumerate().map(answer).collect()
    }

    fn told_override(&self, name: &HostName) -> String {
        let Some((run, server)) = &self.host(name).disk.server_override else { return String::new() };
        match rke2flow_engine::id::RunId::new(run.clone()) {
            Ok(run) => server_override(&run, server.as_deref()),
            Err(_) => run.clone(),
        }
    }

    fn relative(&self, path: &str) -> String {
        path.strip_prefix(&format!("{}/", self.paths.data)).unwrap_or(path).to_owned()
    }

    pub(crate) fn file_info(&self, name: &HostName, path: &str) -> Option<FileInfo> {
        let file = self.host(name).disk.files.get(path)?;
        Some(FileInfo {
            path: path.to_owned(),
            size: file.bytes.len() as u64,
            modified: self.epoch(file.modified),
            sha256: hex(&file.bytes),
            trailer: has_trailer(&file.bytes),
        })
    }

    fn snapshots(&self, name: &HostName, prefix: &str) -> Files {
        let files = &self.host(name).disk.files;
        let mut all = Vec::new();
        for place in [self.paths.snapshots(), self.paths.kept_snapshots()] {
            let beginning = format!("{place}/{prefix}");
            let named = |path: &str| path.starts_with(&beginning) && !path.ends_with(".part");
            let mut found: Vec<(&String, &File)> = files.iter().filter(|(path, _)| named(path)).collect();
            found.sort_by_key(|(_, file)| std::cmp::Reverse(file.modified));
            all.extend(found.iter().take(200).filter_map(|(path, _)| self.file_info(name, path)));
        }
        Files { files: all, in_progress: Vec::new() }
    }

    /// What the CLI prints: this node's own files, in the form of releases since v1.29.
    fn snapshot_list(&self, name: &HostName) -> Tail {
        if !self.host(name).supervises {
            return Tail { exit: 1, text: String::new() };
        }
        let below = format!("{}/", self.paths.snapshots());
        let item = |(path, file): (&String, &File)| {
            let file_name = path.strip_prefix(&below)?;
            Some(serde_json::json!({
                "metadata": { "name": format!("local-{file_name}") },
                "spec": { "snapshotName": file_name, "nodeName": name, "location": format!("file://{path}") },
                "status": { "size": file.bytes.len().to_string(), "readyToUse": true },
            }))
        };
        let items: Vec<_> = self.host(name).disk.files.iter().filter_map(item).collect();
        let list = serde_json::json!({ "apiVersion": "v1", "kind": "List", "items": items });
        Tail { exit: 0, text: encode_text(list.to_string().as_bytes()) }
    }

    fn identity(&self, name: &HostName) -> Identity {
        let host = self.host(name);
        let plane = host.running_plane().map(|plane| &self.planes[plane]);
        Identity {
            token_hash: token_hash(&host.disk.token).unwrap_or_default(),
            config_sha256: hex(host.disk.configured_server.as_bytes()),
            etcd_leads: plane.is_some_and(|plane| plane.leader.as_ref() == Some(name)),
            etcd_version: plane.map(|plane| version::etcd_release(plane.etcd).to_owned()).unwrap_or_default(),
        }
    }

    fn point(&self, name: &HostName, file: &str, offset: usize) -> Part {
        let path = format!("{}/{file}", self.paths.points());
        let bytes = self.host(name).disk.files.get(&path).map(|file| file.bytes.clone()).unwrap_or_default();
        let from = offset.min(bytes.len());
        let part = &bytes[from..bytes.len().min(from + PART_BYTES)];
        Part { total: bytes.len() as u64, text: encode_text(part) }
    }

    fn points(&self, name: &HostName) -> Points {
        let beginning = format!("{}/", self.paths.points());
        let files = &self.host(name).disk.files;
        let mut found: Vec<(&str, &File)> =
            files.iter().filter_map(|(path, file)| Some((path.strip_prefix(&beginning)?, file))).collect();
        found.sort_by_key(|(_, file)| std::cmp::Reverse(file.modified));
        let (mut left, mut points, mut left_out) = (POINTS_BYTES, Vec::new(), Vec::new());
        for (file_name, file) in found.into_iter().take(50) {
            match left.checked_sub(file.bytes.len()) {
                Some(rest) => {
                    left = rest;
                    points.push(encode_text(&file.bytes));
                }
                None => left_out.push(file_name.to_owned()),
            }
        }
        points.reverse();
        Points { points, left_out }
    }

    fn staged(&self, name: &HostName, version: &str) -> Staged {
        match self.host(name).disk.releases.get(version) {
            Some(Release::Complete) => Staged { complete: true, missing: Vec::new() },
            _ => Staged {
                complete: false,
                missing: vec!["install.sh".into(), self.distribution().artifact("amd64"), "sha256sum-amd64.txt".into()],
            },
        }
    }

    fn tail_of_log(&self, name: &HostName, unit: &str, lines: usize) -> Tail {
        let host = self.host(name);
        let text = match (host.logs.get(unit), host.orders.get(unit)) {
            (Some(log), _) => log[log.len().saturating_sub(lines)..].join("\n"),
            (None, Some(run)) => run.out.clone(),
            (None, None) => String::new(),
        };
        Tail { exit: 0, text: encode_text(text.as_bytes()) }
    }

    fn kubeconfig(&self, name: &HostName) -> Tail {
        let text = self.kubeconfigs.get(name).filter(|_| self.host(name).disk.cred);
        match text {
            Some(text) => Tail { exit: 0, text: encode_text(text.as_bytes()) },
            None => Tail { exit: 1, text: encode_text(format!("{}.yaml does not exist", self.paths.name).as_bytes()) },
        }
    }
}

/// SHA-256 as hex.
pub(crate) fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
