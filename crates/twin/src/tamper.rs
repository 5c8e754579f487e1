//! What somebody does to a twin behind everybody's back: one fact of the world becomes another.

use std::sync::Arc;

use rke2flow_engine::id::HostName;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::host::File;
use crate::host::estate::Estate;
use crate::kube::change::merge_into;
use crate::kube::store::Key;
use crate::world::World;
use crate::world::log::EntryKind;
use crate::world::plane::Cause;

/// A fact of the world that is made wrong by hand. What the model does by itself goes on: a living kubelet renews its
/// lease, a controller makes its pods again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Tamper {
    /// `systemctl stop` of the node's unit: its containers live on.
    StopUnit(HostName),
    /// `rke2-killall.sh`.
    KillNode(HostName),
    /// `systemctl start --no-block` of the node's unit.
    StartUnit(HostName),
    /// The host loses its power for good.
    PowerOff(HostName),
    /// Another machine takes the host's place: its disk is empty but for the node's configuration.
    Replace(HostName),
    /// The host has power again: what is enabled starts.
    PowerOn(HostName),
    /// Another version's binary is on the disk; nothing is restarted.
    Install {
        /// Where.
        host: HostName,
        /// `v1.33.4+rke2r1`
        version: String,
    },
    /// The machine is another one, or its people have put something on it.
    Estate {
        /// Where.
        host: HostName,
        /// What it is now.
        estate: Estate,
    },
    /// etcd raises an alarm: `NOSPACE`, `CORRUPT`.
    Alarm(String),
    /// The hold file appears.
    Hold(HostName),
    /// The hold's drop-in appears.
    HoldDropIn(HostName),
    /// A drop-in that sets `server:` appears.
    PointAt {
        /// Where.
        host: HostName,
        /// The run in its first line.
        run: String,
        /// The value; `None`: empty.
        server: Option<String>,
    },
    /// Another `server/token`.
    Token {
        /// Where.
        host: HostName,
        /// The token.
        token: String,
    },
    /// The machine was made anew under its name, and the cluster took it in: it has another node password.
    MadeAnew(HostName),
    /// The server's member of etcd is a learner again.
    Demote(HostName),
    /// `rm -rf` of a file or directory.
    Remove {
        /// Where.
        host: HostName,
        /// An absolute path.
        path: String,
    },
    /// A byte in the middle of a file is another one.
    Corrupt {
        /// Where.
        host: HostName,
        /// An absolute path.
        path: String,
    },
    /// RKE2's own schedule saves a snapshot: `etcd-snapshot-<node>-<second>` (K3S pkg/etcd/snapshot.go).
    ScheduledSnapshot(HostName),
    /// The receipts of all orders are gone.
    ForgetReceipts(HostName),
    /// An object of the API is written as it is, its status included.
    PutObject {
        /// Which.
        key: Key,
        /// The whole of it.
        object: Value,
    },
    /// An object of the API is changed by a merge patch, its status included.
    MergeObject {
        /// Which.
        key: Key,
        /// The patch.
        patch: Value,
    },
    /// An object of the API is gone.
    RemoveObject(Key),
    /// An object of the bucket is gone.
    RemoveFromBucket(String),
    /// An object of the bucket is empty.
    EmptyInBucket(String),
}

impl World {
    /// Does it; the reason when there is nothing of the kind.
    pub fn tamper(&mut self, what: Tamper) -> Result<(), String> {
        let described = serde_json::to_value(&what).unwrap_or_default().to_string();
        self.recorder.record(None, EntryKind::Write, format!("by hand {described}"), None);
        match what {
            Tamper::PutObject { key, object } => {
                let stamp = self.stamp();
                let plane = self.reached().ok_or(NO_API)?;
                self.planes[plane].store.place(key, object, &stamp);
                Ok(())
            }
            Tamper::MergeObject { key, patch } => {
                let stamp = self.stamp();
                let plane = self.reached().ok_or(NO_API)?;
                let store = &mut self.planes[plane].store;
                let mut object = store.get(&key).cloned().ok_or(format!("there is no object {key:?}"))?;
                merge_into(&mut object, &patch);
                store.place(key, object, &stamp);
                Ok(())
            }
            Tamper::RemoveObject(key) => {
                let plane = self.reached().ok_or(NO_API)?;
                self.planes[plane].store.remove(&key).map(|_| ()).ok_or(format!("there is no object {key:?}"))
            }
            Tamper::RemoveFromBucket(key) => self.tamper_bucket(&key, None),
            Tamper::EmptyInBucket(key) => self.tamper_bucket(&key, Some(Vec::new())),
            Tamper::StopUnit(host) => self.on_host(host, |world, host| world.stop_unit(host, Cause::Fault)),
            Tamper::KillNode(host) => self.on_host(host, |world, host| world.kill_all(host, Cause::Fault)),
            Tamper::StartUnit(host) => self.on_host(host, World::start_unit),
            Tamper::PowerOff(host) => self.on_host(host, |world, host| world.power_off(host, None)),
            Tamper::Replace(host) => self.on_host(host, World::another_machine),
            Tamper::PowerOn(host) => self.on_host(host, World::boot),
            Tamper::Install { host, version } => {
                self.on_host(host, |world, host| world.host_mut(host).installed = version)
            }
            Tamper::Estate { host, estate } => self.on_host(host, |world, host| world.host_mut(host).estate = estate),
            Tamper::Alarm(alarm) => {
                let plane = self.reached().ok_or(NO_API)?;
                self.planes[plane].alarm = alarm;
                Ok(())
            }
            Tamper::Hold(host) => self.on_host(host, |world, host| world.host_mut(host).disk.hold = true),
            Tamper::HoldDropIn(host) => self.on_host(host, |world, host| world.host_mut(host).disk.hold_drop_in = true),
            Tamper::PointAt { host, run, server } => {
                self.on_host(host, |world, host| world.host_mut(host).disk.server_override = Some((run, server)))
            }
            Tamper::Token { host, token } => self.on_host(host, |world, host| world.host_mut(host).disk.token = token),
            Tamper::MadeAnew(host) => self.on_host(host, World::made_anew),
            Tamper::Demote(host) => self.on_host(host, World::demote),
            Tamper::Remove { host, path } => self.on_host(host, |world, host| world.removed(host, &path)),
            Tamper::Corrupt { host, path } => self.corrupt(&host, &path),
            Tamper::ScheduledSnapshot(host) => match self.hosts.contains_key(&host) {
                true => self.save_snapshot(&host, "etcd-snapshot").map(drop),
                false => Err(format!("there is no host {host}")),
            },
            Tamper::ForgetReceipts(host) => self.on_host(host, |world, host| world.host_mut(host).orders.clear()),
        }
    }

    fn on_host(&mut self, host: HostName, change: impl FnOnce(&mut Self, &HostName)) -> Result<(), String> {
        if !self.hosts.contains_key(&host) {
            return Err(format!("there is no host {host}"));
        }
        change(self, &host);
        Ok(())
    }

    fn made_anew(&mut self, host: &HostName) {
        let hash = format!("{}-again", self.host(host).disk.node_password);
        self.host_mut(host).disk.node_password.clone_from(&hash);
        let stamp = self.stamp();
        if let Some(plane) = self.reached() {
            let secret = self.password_of(host);
            self.planes[plane].store.put(secret, crate::kube::objects::node_password(&hash), &stamp);
        }
    }

    fn demote(&mut self, host: &HostName) {
        if let Some(plane) = self.host(host).running_plane() {
            for member in self.planes[plane].members.iter_mut().filter(|member| member.host == *host) {
                member.learner = true;
            }
            self.settle_planes(Cause::Fault);
        }
    }

    fn corrupt(&mut self, host: &HostName, path: &str) -> Result<(), String> {
        let file = self.hosts.get_mut(host).and_then(|host| host.disk.files.get_mut(path));
        let File { bytes, .. } = file.ok_or(format!("there is no file {path} on {host}"))?;
        let middle = bytes.len() / 2;
        match Arc::make_mut(bytes).get_mut(middle) {
            Some(byte) => *byte ^= 1,
            None => return Err(format!("{path} on {host} is empty")),
        }
        Ok(())
    }

    fn tamper_bucket(&mut self, key: &str, bytes: Option<Vec<u8>>) -> Result<(), String> {
        let name = &self.spec.bucket;
        let found = self.bucket.look(name, key).map_err(|error| error.to_string())?;
        let found = found.ok_or(format!("there is no object {key} in the bucket"))?;
        match bytes {
            None => self.bucket.remove(name, key),
            Some(bytes) => {
                let stored = self.bucket.store(name, key, bytes, found.metadata, &found.content_type);
                stored.map_err(|error| error.to_string())?;
            }
        }
        Ok(())
    }
}

const NO_API: &str = "no API server answers";
