//! What each stage of each change does to a host. The order of stages is the contract's (`Change::stages`).

use rke2flow_engine::cluster::Role;
use rke2flow_engine::id::HostName;
use rke2flow_steps::answer::{LostMark, ResetState};
use rke2flow_steps::command::{Change, NodePart, Order};

use crate::host::archive::unzip;
use crate::host::look::hex;
use crate::host::person::Allowed;
use crate::host::service::UnitState;
use crate::host::{Aside, File, Release};
use crate::kube::store::has_trailer;
use crate::world::World;
use crate::world::plane::Cause;

/// What a stage printed, or why the script ended there.
pub(crate) type StageResult = Result<String, String>;

const DONE: StageResult = Ok(String::new());

impl World {
    /// The effect of one stage.
    pub(crate) fn stage(&mut self, name: &HostName, order: &Order, stage: &str) -> StageResult {
        match &order.change {
            Change::FetchRelease { version, .. } => self.fetch_release(name, version, stage),
            Change::StageSnapshot { file, sha256, to } => self.stage_snapshot(name, file, sha256, to, stage),
            Change::SaveSnapshot { name: snapshot } => self.save_snapshot(name, snapshot),
            Change::UploadSnapshot { file, sha256, request } => {
                self.upload_snapshot(name, file, sha256, request, stage)
            }
            Change::FetchSnapshot { to, size, sha256, request } => {
                self.fetch_snapshot(name, to, (*size, sha256), request, stage)
            }
            Change::InstallVersion { version, .. } => self.install(name, version, stage),
            Change::Hold | Change::ReleaseHold | Change::CleanUp => self.hold(name, order, stage),
            Change::KillNode { .. } => self.kill_node(name, stage),
            Change::JoinAnew { .. } => self.join_anew(name, order, stage),
            Change::MoveAside { parts } => self.move_aside(name, order, parts, stage),
            Change::MoveBack { parts } => self.move_back(name, order, parts, stage),
            Change::PointAt { server } => {
                let run = order.run.to_string();
                self.host_mut(name).disk.server_override = Some((run, server.clone()));
                DONE
            }
            Change::ClusterReset { snapshot, sha256 } => self.cluster_reset(name, order, snapshot, sha256, stage),
            Change::StartUnit => self.guarded_start(name, order, Started::Start),
            Change::RestartUnit => self.guarded_start(name, order, Started::Restart),
            Change::WritePoint { point } => {
                let bytes = serde_json::to_vec(point).map_err(|error| error.to_string())?;
                let path = format!("{}/{}.json", self.paths.points(), point.id);
                self.write_file(name, path, bytes);
                DONE
            }
            Change::WriteToken { .. } => {
                let unit = order.unit.to_string();
                let Some(text) = self.host_mut(name).handed.remove(&unit) else {
                    return Err("the token for this attempt is not at hand any more".to_owned());
                };
                self.write_file(name, self.paths.token_drop_in(), format!("{text}\n").into_bytes());
                DONE
            }
            Change::EnableUnit => {
                self.host_mut(name).service.enabled = true;
                DONE
            }
            Change::MarkLost { hosts } => self.mark_lost(name, order, hosts),
            Change::ForgetLost { hosts } => {
                let forgotten = |mark: &LostMark| hosts.iter().any(|host| host.as_str() == mark.host);
                self.host_mut(name).disk.lost.retain(|mark| !forgotten(mark));
                DONE
            }
            Change::Script { script } => match self.script(name, script, Allowed::Change) {
                (0, text) => Ok(text),
                (code, text) => Err(format!("status {code}: {text}")),
            },
        }
    }

    fn mark_lost(&mut self, name: &HostName, order: &Order, hosts: &[HostName]) -> StageResult {
        let (run, since) = (order.run.to_string(), self.epoch(self.now));
        let marks = &mut self.host_mut(name).disk.lost;
        for host in hosts.iter().map(ToString::to_string) {
            if !marks.iter().any(|mark| mark.host == host && mark.run == run) {
                marks.retain(|mark| mark.host != host);
                marks.push(LostMark { host, run: run.clone(), since });
            }
        }
        DONE
    }

    /// What begins with a stage, before its time has passed.
    pub(crate) fn begin_stage(&mut self, name: &HostName, unit: &str, stage: &str) {
        if stage == "reset" {
            let order = self.host(name).orders[unit].order.clone();
            self.reset_begins(name, &order);
        }
    }

    pub(crate) fn write_file(&mut self, name: &HostName, path: String, bytes: Vec<u8>) {
        let modified = self.now;
        self.host_mut(name).disk.files.insert(path, File { bytes: bytes.into(), modified });
    }

    fn fetch_release(&mut self, name: &HostName, version: &str, stage: &str) -> StageResult {
        let known = self.spec.releases.iter().any(|release| release == version);
        let releases = &mut self.host_mut(name).disk.releases;
        let now = releases.get(version).copied();
        match (stage, now) {
            (_, Some(Release::Complete)) => {}
            ("download", _) if !known => return Err(format!("cannot get sha256sum-amd64.txt of {version}: 404")),
            ("download", _) => drop(releases.insert(version.to_owned(), Release::Part)),
            ("verify", _) => drop(releases.insert(version.to_owned(), Release::Verified)),
            _ => drop(releases.insert(version.to_owned(), Release::Complete)),
        }
        DONE
    }

    fn stage_snapshot(&mut self, name: &HostName, file: &str, sha256: &str, to: &str, stage: &str) -> StageResult {
        let part = format!("{to}.part");
        let files = &mut self.host_mut(name).disk.files;
        match stage {
            "verify-source" => match files.get(file) {
                None => Err(format!("{file} does not exist")),
                Some(found) if hex(&found.bytes) != sha256 => Err(format!("{file} does not have the digest {sha256}")),
                Some(_) => DONE,
            },
            "unpack" => {
                let source = files.get(file).ok_or_else(|| format!("{file} does not exist"))?.bytes.clone();
                let bytes = if file.ends_with(".zip") { unzip(&source) } else { Some(source.to_vec()) };
                let bytes = bytes.ok_or_else(|| format!("{file} is not an archive"))?;
                self.write_file(name, part, bytes);
                DONE
            }
            "verify-copy" => match files.get(&part) {
                Some(found) if has_trailer(&found.bytes) => DONE,
                _ => Err(format!("{file} is not a whole etcd snapshot: its trailer does not fit")),
            },
            _ => {
                if let Some(found) = files.remove(&part) {
                    files.insert(to.to_owned(), found);
                }
                DONE
            }
        }
    }

    fn install(&mut self, name: &HostName, version: &str, stage: &str) -> StageResult {
        let host = self.host_mut(name);
        match stage {
            "verify-release" if host.disk.releases.get(version) != Some(&Release::Complete) => {
                Err(format!("{version} is not staged completely: install.sh"))
            }
            "install" => {
                host.installed = version.to_owned();
                DONE
            }
            "prove-version" if host.installed != version => {
                Err(format!("installed is {}, expected {version}", host.installed))
            }
            _ => DONE,
        }
    }

    fn hold(&mut self, name: &HostName, order: &Order, stage: &str) -> StageResult {
        if stage == "guard" {
            return self.may_release(name, order);
        }
        let token_drop_in = self.paths.token_drop_in();
        let disk = &mut self.host_mut(name).disk;
        match (&order.change, stage) {
            (Change::Hold, "write-hold") => disk.hold = true,
            (Change::Hold, "write-drop-in") => disk.hold_drop_in = true,
            (_, "remove-hold") => disk.hold = false,
            (_, "remove-drop-in") => disk.hold_drop_in = false,
            (_, "remove-override") => {
                disk.server_override = None;
                disk.files.remove(&token_drop_in);
            }
            _ => {}
        }
        DONE
    }

    /// Whether a server without its hold would come back with the data that it should have.
    fn may_release(&self, name: &HostName, order: &Order) -> StageResult {
        let host = self.host(name);
        if host.role != Role::Server || !host.disk.hold {
            return DONE;
        }
        if host.disk.reset_flag {
            return Err("etcd of this server was reset and never started: the hold stays".to_owned());
        }
        if host.disk.reset.as_ref().is_some_and(|reset| reset.run == order.run.as_str() && !reset.proved) {
            return Err("the cluster-reset of this run has not succeeded: the hold stays".to_owned());
        }
        let aside = self.paths.etcd_aside();
        if host.disk.etcd.is_none() && host.disk.aside.keys().any(|path| path.starts_with(&aside)) {
            return Err("etcd of this server is aside and nothing is in its place: the hold stays".to_owned());
        }
        DONE
    }

    fn kill_node(&mut self, name: &HostName, stage: &str) -> StageResult {
        match stage {
            "stop-reset" => self.stop_resets(name),
            "stop-unit" => self.stop_unit(name, Cause::Kill),
            "kill" => self.kill_all(name, Cause::Kill),
            "prove" if self.host(name).service.state != UnitState::Inactive => {
                return Err("the unit is still alive".to_owned());
            }
            _ => {}
        }
        DONE
    }

    /// A joining server that got stuck is killed, loses what it had of etcd, and starts again.
    fn join_anew(&mut self, name: &HostName, order: &Order, stage: &str) -> StageResult {
        let host = self.host(name);
        match stage {
            "guard" if host.role != Role::Server => return Err("only a server joins etcd".to_owned()),
            "guard" if host.disk.reset.as_ref().is_some_and(|reset| reset.run == order.run.as_str()) => {
                return Err("a cluster-reset of this run has begun here".to_owned());
            }
            "guard" if host.effective_server().is_none() => {
                return Err("no server: is set: without its data the node would found a new, empty cluster".to_owned());
            }
            "move-etcd" | "move-tls" | "move-cred" => {
                let parts = [NodePart::Etcd, NodePart::Tls, NodePart::Cred];
                return self.move_aside(name, order, &parts, stage);
            }
            "start" => return self.guarded_start(name, order, Started::Start),
            _ => {}
        }
        self.kill_node(name, stage)
    }

    fn move_aside(&mut self, name: &HostName, order: &Order, parts: &[NodePart], stage: &str) -> StageResult {
        let wanted = |part: NodePart| parts.contains(&part);
        let path = |part: NodePart| self.paths.aside(part, &order.run);
        let host = self.hosts.get_mut(name).expect("callers check that the host exists");
        let part = match stage {
            "guard" => return self.may_move(name, order, parts),
            "move-etcd" => NodePart::Etcd,
            "move-tls" => NodePart::Tls,
            "move-cred" => NodePart::Cred,
            _ => NodePart::ShippedCharts,
        };
        if !wanted(part) || !host.has_part(part) {
            return DONE;
        }
        let place = free_name(&host.disk.aside, path(part));
        let content = match part {
            NodePart::Etcd => host.disk.etcd.take().map(Aside::Etcd),
            NodePart::Tls => host.disk.tls.take().map(Aside::Tls),
            NodePart::Cred => Some(Aside::Cred),
            NodePart::ShippedCharts => Some(Aside::Charts(std::mem::take(&mut host.disk.charts))),
        };
        if part == NodePart::Cred {
            host.disk.cred = false;
        }
        if let Some(content) = content {
            host.disk.aside.insert(place, content);
        }
        DONE
    }

    fn may_move(&self, name: &HostName, order: &Order, parts: &[NodePart]) -> StageResult {
        let host = self.host(name);
        let etcd = parts.contains(&NodePart::Etcd) && host.disk.etcd.is_some();
        if etcd && host.disk.reset.as_ref().is_some_and(|reset| reset.run == order.run.as_str()) {
            return Err("a cluster-reset of this run has begun here: its etcd is never moved aside again".to_owned());
        }
        if etcd && host.disk.reset_flag && host.disk.reset.is_none() {
            return Err("reset-flag exists, and rke2flow made no cluster-reset here".to_owned());
        }
        if parts.iter().any(|part| host.has_part(*part)) {
            self.refuse_while_alive(name)?;
        }
        DONE
    }

    fn move_back(&mut self, name: &HostName, order: &Order, parts: &[NodePart], stage: &str) -> StageResult {
        let ours = |reset: &ResetState| reset.run == order.run.as_str() && parts.contains(&NodePart::Etcd);
        let part = match stage {
            "guard" => {
                let host = self.host(name);
                if host.disk.reset.as_ref().is_some_and(|reset| ours(reset) && reset.started_since) {
                    return Err("the node was started after the reset of this run".to_owned());
                }
                let was_reset = host.disk.reset.as_ref().is_some_and(ours);
                if was_reset && host.service.state != UnitState::Inactive {
                    return Err(format!("{} is {}", self.paths.unit(host.role), host.service.state.as_str()));
                }
                let moved = parts.iter().any(|part| host.disk.aside.contains_key(&self.paths.aside(*part, &order.run)));
                return if moved && !was_reset { self.refuse_while_alive(name) } else { DONE };
            }
            "stop-reset" => {
                if self.host(name).disk.reset.as_ref().is_some_and(ours) {
                    self.stop_resets(name);
                    if self.host(name).pods.is_some() {
                        self.kill_all(name, Cause::Kill);
                    }
                }
                return DONE;
            }
            "forget-reset" | "clear-reset-flag" => {
                let disk = &mut self.host_mut(name).disk;
                // The flag goes with the record: one order of one run does both, and no start lies between.
                if disk.reset.as_ref().is_some_and(ours) {
                    disk.reset = None;
                    disk.reset_flag = false;
                }
                return DONE;
            }
            "return-etcd" => NodePart::Etcd,
            "return-tls" => NodePart::Tls,
            "return-cred" => NodePart::Cred,
            _ => NodePart::ShippedCharts,
        };
        let place = self.paths.aside(part, &order.run);
        let disk = &mut self.host_mut(name).disk;
        if !parts.contains(&part) || !disk.aside.contains_key(&place) {
            return DONE;
        }
        let came_since = match part {
            NodePart::Etcd => disk.etcd.take().map(Aside::Etcd),
            NodePart::Tls => disk.tls.take().map(Aside::Tls),
            NodePart::Cred => disk.cred.then_some(Aside::Cred),
            NodePart::ShippedCharts => None,
        };
        match disk.aside.remove(&place) {
            Some(Aside::Etcd(data)) => disk.etcd = Some(data),
            Some(Aside::Tls(tls)) => disk.tls = Some(tls),
            Some(Aside::Cred) => disk.cred = true,
            Some(Aside::Charts(charts)) => disk.charts = charts,
            None => {}
        }
        if let Some(content) = came_since {
            disk.aside.insert(free_name(&disk.aside, format!("{place}.2")), content);
        }
        DONE
    }

    pub(crate) fn refuse_while_alive(&self, name: &HostName) -> StageResult {
        let host = self.host(name);
        if host.service.state != UnitState::Inactive {
            return Err(format!("{} is {}", self.paths.unit(host.role), host.service.state.as_str()));
        }
        if host.pods.is_some() {
            return Err("containers still run below these shims".to_owned());
        }
        DONE
    }

    fn guarded_start(&mut self, name: &HostName, order: &Order, how: Started) -> StageResult {
        let host = self.host(name);
        if host.installed.is_empty() {
            return Err(format!("Unit {}.service not found", self.paths.unit(host.role)));
        }
        if host.disk.hold && host.disk.hold_drop_in {
            return Err("the hold is still on: systemd would skip the start without a word".to_owned());
        }
        if host.role == Role::Server {
            let failed = |reset: &ResetState| reset.run == order.run.as_str() && !reset.proved;
            if host.disk.reset.as_ref().is_some_and(failed) {
                return Err("the cluster-reset of this run has not succeeded".to_owned());
            }
            let etcd_aside = host.disk.aside.values().any(|aside| matches!(aside, Aside::Etcd(_)));
            if host.disk.etcd.is_none() && etcd_aside && host.effective_server().is_none() {
                return Err(
                    "etcd was moved aside and no server: is set: the node would found a new, empty cluster".into()
                );
            }
        }
        self.host_mut(name).away = false;
        if how == Started::Restart {
            self.stop_unit(name, Cause::Restart);
        }
        self.start_unit(name);
        DONE
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Started {
    Start,
    Restart,
}

/// The first free of `path`, `path.2`, …
fn free_name(taken: &std::collections::BTreeMap<String, Aside>, path: String) -> String {
    if !taken.contains_key(&path) {
        return path;
    }
    (2..100).map(|n| format!("{path}.{n}")).find(|name| !taken.contains_key(name)).unwrap_or(path)
}
