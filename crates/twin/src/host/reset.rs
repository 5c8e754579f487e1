//! Snapshots and cluster-reset, as `rke2` does them: what it prints and its exit status prove little.

use rke2flow_engine::id::HostName;
use rke2flow_steps::answer::ResetState;
use rke2flow_steps::command::{Change, NodePart, Order};
use rke2flow_steps::token::token_hash;
use serde_json::json;

use crate::host::archive::zip;
use crate::host::look::hex;
use crate::host::order::Progress;
use crate::host::service::UnitState;
use crate::host::stage::StageResult;
use crate::host::{Aside, MemberData};
use crate::judge::ViolationKind;
use crate::kube::store::{Key, Store, has_trailer};
use crate::spec::Fault;
use crate::world::World;
use crate::world::plane::{Cause, Origin, Plane};
use crate::world::version;

impl World {
    /// `rke2 etcd-snapshot save`: exits 0 whatever becomes of snapshot and upload, and makes another file each time: its
    /// name ends in the second (K3S pkg/etcd/snapshot.go).
    pub(crate) fn save_snapshot(&mut self, name: &HostName, snapshot: &str) -> StageResult {
        let host = self.host(name);
        let Some(plane) = host.running_plane().filter(|plane| host.supervises && self.quorate(*plane)) else {
            return Err("level=fatal msg=\"Error: connection to 127.0.0.1 refused\"".to_owned());
        };
        if self.planes[plane].members.iter().any(|member| member.host == *name && member.learner) {
            return Err("level=fatal msg=\"Unable to take snapshot: not supported for learner\"".to_owned());
        }
        if self.strikes(|fault| if let Fault::SnapshotFails(times) = fault { Some(times) } else { None }) {
            return Ok(String::new());
        }
        let file = format!("{snapshot}-{name}-{}", self.epoch(self.now));
        let taken = u64::try_from(self.now.as_millis()).unwrap_or(u64::MAX);
        let bytes = self.planes[plane].store.snapshot(self.planes[plane].etcd, taken);
        let (file, bytes) =
            if self.spec.compress { (format!("{file}.zip"), zip(&file, &bytes)) } else { (file, bytes) };
        self.write_file(name, format!("{}/{file}", self.paths.snapshots()), bytes.clone());
        self.note_snapshot(plane, name, &file, bytes.len(), "local");
        let mut printed = format!("level=info msg=\"Snapshot {file} saved.\"");
        if self.spec.etcd_s3
            && let Some(size) = self.upload(name, &file, &bytes)
        {
            self.note_snapshot(plane, name, &file, size, "s3");
            printed = format!("{printed}\n{printed}");
        }
        Ok(printed)
    }

    /// The record that RKE2 keeps of a snapshot (CRD etcdsnapshotfiles).
    fn note_snapshot(&mut self, plane: usize, name: &HostName, file: &str, size: usize, place: &str) {
        let stamp = self.stamp();
        let (node, location) = match place {
            "s3" => ("s3".to_owned(), format!("s3://{}/{}/{file}", self.spec.bucket, self.spec.folder)),
            _ => (name.to_string(), format!("file://{}/{file}", self.paths.snapshots())),
        };
        let key = |name: &str| self.distribution().etcd_key(name);
        let object = json!({
            "apiVersion": "k3s.cattle.io/v1", "kind": "ETCDSnapshotFile",
            "metadata": {
                "labels": {key("snapshot-storage-node"): node},
                "annotations": {key("snapshot-token-hash"): token_hash(&self.spec.token)},
            },
            "spec": {"snapshotName": file, "nodeName": name.as_str(), "location": location},
            "status": {"size": size.to_string(), "creationTime": stamp, "readyToUse": true},
        });
        let suffix = &hex(location.as_bytes())[..6];
        let key =
            Key::new("k3s.cattle.io", "etcdsnapshotfiles", "", &format!("{place}-{}-{suffix}", file.to_lowercase()));
        self.planes[plane].store.put(key, object, &stamp);
    }

    /// The stages of a cluster-reset.
    pub(crate) fn cluster_reset(
        &mut self,
        name: &HostName,
        order: &Order,
        snapshot: &str,
        sha256: &str,
        stage: &str,
    ) -> StageResult {
        match stage {
            "guard" => self.may_reset(name, order, snapshot),
            "stop-old-reset" => {
                self.stop_resets_but(name, order.unit.as_str());
                if self.host(name).pods.is_some() {
                    self.kill_all(name, Cause::Kill);
                }
                Ok(String::new())
            }
            "verify-snapshot" => match self.host(name).disk.files.get(snapshot) {
                None => Err(format!("{snapshot} does not exist")),
                Some(file) if hex(&file.bytes) != sha256 => {
                    Err(format!("{snapshot} does not have the digest {sha256}"))
                }
                Some(file) if !has_trailer(&file.bytes) => Err(format!("{snapshot} is not a whole etcd snapshot")),
                Some(_) => Ok(String::new()),
            },
            "record" => {
                let (run, sha256) = (order.run.to_string(), sha256.to_owned());
                let reset = ResetState { run, sha256, proved: false, started_since: false };
                self.host_mut(name).disk.reset = Some(reset);
                Ok(String::new())
            }
            "move-partial" => {
                let place = self.paths.aside(NodePart::Etcd, &order.run);
                let disk = &mut self.host_mut(name).disk;
                if let Some(data) = disk.etcd.take() {
                    let free = (1..100).map(|n| if n == 1 { place.clone() } else { format!("{place}.{n}") });
                    let free = free.into_iter().find(|path| !disk.aside.contains_key(path)).unwrap_or(place);
                    disk.aside.insert(free, Aside::Etcd(data));
                }
                Ok(String::new())
            }
            "reset" => self.reset_ends(name, order, snapshot),
            _ => match &self.host(name).disk.reset {
                Some(reset) if reset.proved && self.host(name).disk.reset_flag => Ok(String::new()),
                _ => Err("the log does not say that the membership has been reset".to_owned()),
            },
        }
    }

    fn may_reset(&self, name: &HostName, order: &Order, snapshot: &str) -> StageResult {
        let host = self.host(name);
        if snapshot.ends_with(".zip") || !snapshot.starts_with('/') {
            return Err(format!("{snapshot} is not the absolute path of an uncompressed snapshot"));
        }
        if host.service.state != UnitState::Inactive {
            return Err(format!("{} is {}", self.paths.unit(host.role), host.service.state.as_str()));
        }
        let again = |reset: &ResetState| {
            reset.run == order.run.as_str() && reset.proved && !host.disk.reset_flag && host.data_plane().is_some()
        };
        if host.disk.reset.as_ref().is_some_and(again) {
            return Err("the node was started after the reset of this run".to_owned());
        }
        Ok(String::new())
    }

    /// From here on a temporary etcd runs on this host.
    pub(crate) fn reset_begins(&mut self, name: &HostName, order: &Order) {
        let newest = self.newest_reset().map(|plane| &self.planes[plane]);
        let again = newest.is_some_and(|plane| {
            let same = matches!(&plane.origin, Origin::Reset { run, .. } if run == order.run.as_str());
            same && plane.started.is_some()
        });
        if again {
            let detail = "the restored control plane had already started to take writes";
            self.violate(ViolationKind::ResetAfterStart, Some(name), detail);
        }
        let alive: Vec<usize> = (0..self.planes.len()).filter(|plane| self.quorate(*plane)).collect();
        if !alive.is_empty() {
            let detail = format!("a cluster-reset began while the control planes {alive:?} still had a quorum");
            self.violate(ViolationKind::TwoControlPlanes, Some(name), &detail);
        }
        self.host_mut(name).resetting = true;
    }

    /// What `rke2 server --cluster-reset --cluster-reset-restore-path` leaves: flag first, success only in its log.
    fn reset_ends(&mut self, name: &HostName, order: &Order, snapshot: &str) -> StageResult {
        let fatal = |text: &str| Ok(format!("level=fatal msg=\"Error: {text}\"\ncluster-reset ended with status 1"));
        let at = self.now;
        let host = self.host_mut(name);
        host.resetting = false;
        if host.effective_server().is_some() {
            return fatal("cannot perform cluster-reset while server URL is set - remove server from configuration");
        }
        let installed = host.installed.clone();
        if let Err(why) = self.proves_token(name) {
            return fatal(why);
        }
        let host = self.host_mut(name);
        let Some(file) = host.disk.files.get(snapshot).cloned() else {
            return fatal(&format!("etcd: snapshot path does not exist: {snapshot}"));
        };
        if snapshot.ends_with(".zip") && version::zip_restore_broken(&installed) {
            return fatal("etcd: snapshot path does not exist: the path was doubled (k3s#14526)");
        }
        let bytes =
            if snapshot.ends_with(".zip") { super::archive::unzip(&file.bytes) } else { Some(file.bytes.to_vec()) };
        let plane = self.planes.len();
        let restored = Store::restore(&bytes.unwrap_or_default(), plane as u64 + 1);
        self.host_mut(name).disk.reset_flag = true;
        let restored = match restored {
            Ok(restored) => restored,
            Err(error) => return fatal(&error),
        };
        if version::etcd(&installed) < restored.etcd {
            self.host_mut(name).disk.etcd = Some(MemberData { plane: None });
            return fatal("etcd: invalid downgrade: cluster has data from a later version");
        }
        let member = self.member(name, false);
        let certificates = restored.store.certificates;
        self.planes.push(Plane {
            store: restored.store,
            etcd: version::etcd(&installed),
            members: vec![member],
            origin: Origin::Reset {
                run: order.run.to_string(),
                host: name.clone(),
                at,
                taken: std::time::Duration::from_millis(restored.taken_at_ms),
            },
            started: None,
            api_since: None,
            had_quorum: false,
            leader: None,
            alarm: String::new(),
        });
        let host = self.host_mut(name);
        host.disk.etcd = Some(MemberData { plane: Some(plane) });
        host.disk.tls = Some(certificates);
        host.disk.cred = true;
        if let Some(reset) = &mut host.disk.reset {
            reset.proved = true;
        }
        Ok("level=error msg=\"Shutdown request received: Managed etcd cluster membership has been reset, restart without \
            --cluster-reset flag now\"\ncluster-reset ended with status 0"
            .to_owned())
    }

    fn proves_token(&self, name: &HostName) -> Result<(), &'static str> {
        match self.effective_token(name) {
            None => Err("server/token does not exist, please pass --token to complete the restoration"),
            Some(token) if token != self.spec.token => {
                Err("bootstrap data already found and encrypted with different token")
            }
            Some(_) => Ok(()),
        }
    }

    /// The token that a server goes by: its configuration's, then the one on its disk (rke2#2410).
    pub(crate) fn effective_token(&self, name: &HostName) -> Option<String> {
        let disk = &self.host(name).disk;
        let drop_in = disk.files.get(&self.paths.token_drop_in()).map(|file| String::from_utf8_lossy(&file.bytes));
        let configured = drop_in.and_then(|text| serde_json::from_str(text.trim().strip_prefix("token: ")?).ok());
        configured.or_else(|| Some(disk.token.clone()).filter(|token| !token.is_empty()))
    }

    /// A reset that is cut leaves its flag and a directory that nobody can open.
    pub(crate) fn reset_destroyed(&mut self, name: &HostName) {
        let host = self.host_mut(name);
        if std::mem::take(&mut host.resetting) {
            host.disk.reset_flag = true;
            host.disk.etcd = Some(MemberData { plane: None });
        }
    }

    /// Stops every cluster-reset that runs here.
    pub(crate) fn stop_resets(&mut self, name: &HostName) {
        self.stop_resets_but(name, "");
    }

    fn stop_resets_but(&mut self, name: &HostName, but: &str) {
        let resets = |run: &super::order::OrderRun| {
            matches!(run.order.change, Change::ClusterReset { .. }) && matches!(run.progress, Progress::Running { .. })
        };
        let running: Vec<String> =
            self.host(name).orders.iter().filter(|(_, run)| resets(run)).map(|(unit, _)| unit.clone()).collect();
        for unit in running.into_iter().filter(|unit| unit != but) {
            self.stop_order(name, &unit);
            self.reset_destroyed(name);
        }
    }
}
