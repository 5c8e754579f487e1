//! What goes on all the time: kubelets renew leases, the node controller looks at them.

use std::time::Duration;

use rke2flow_engine::cluster::Role;
use rke2flow_engine::id::HostName;
use serde_json::{Value, json};

use crate::kube::objects;
use crate::kube::store::Key;
use crate::world::World;
use crate::world::durations as take;

impl World {
    /// Brings leases and node conditions up to now.
    pub(crate) fn tick(&mut self) {
        for name in self.names.clone() {
            if let Some(plane) = self.kubelet_reaches(&name) {
                self.renew_lease(&name, plane);
            }
        }
        for plane in 0..self.planes.len() {
            if self.serves(plane) {
                self.judge_nodes(plane);
            }
        }
    }

    /// The control plane that a host's kubelet talks to.
    pub(crate) fn kubelet_reaches(&self, name: &HostName) -> Option<usize> {
        let host = self.host(name);
        if !host.powered || !host.kubelet {
            return None;
        }
        match host.role {
            Role::Server => host.running_plane().filter(|plane| self.serves(*plane)),
            Role::Agent => self.reached(),
        }
    }

    fn renew_lease(&mut self, name: &HostName, plane: usize) {
        let renewed = self.planes[plane].store.get(&Key::lease(name.as_str())).and_then(objects::renewed_at);
        let due = renewed.is_none_or(|at| self.now >= at + take::LEASE_RENEWAL || at > self.now);
        // A node whose object is gone has nobody to renew for until its kubelet registers again.
        if !due || self.planes[plane].store.get(&Key::node(name.as_str())).is_none() {
            return;
        }
        let at = Duration::from_secs(self.now.as_secs() / 10 * 10)
            .max(renewed.filter(|at| *at <= self.now).unwrap_or_default());
        let (micro, stamp) = (self.micro_stamp_of(name, at), self.stamp());
        let lease = objects::lease(name.as_str(), &micro, at);
        self.planes[plane].store.put(Key::lease(name.as_str()), lease, &stamp);
        if self.condition(name.as_str(), plane) != "True" {
            self.set_ready(name.as_str(), plane, "True", "KubeletReady");
        }
    }

    /// Nodes that have not renewed for a while become Unknown, counted from when the controller could see it.
    fn judge_nodes(&mut self, plane: usize) {
        let since = self.planes[plane].api_since.unwrap_or(self.now);
        let nodes: Vec<String> =
            self.planes[plane].store.list("", "nodes", "").iter().map(|(key, _)| key.name.clone()).collect();
        for node in nodes {
            let lease = self.planes[plane].store.get(&Key::lease(&node)).and_then(objects::renewed_at);
            let seen = lease.filter(|at| *at <= self.now).unwrap_or_default().max(since);
            if self.now > seen + take::NODE_GRACE && self.condition(&node, plane) == "True" {
                self.set_ready(&node, plane, "Unknown", "NodeStatusUnknown");
            }
        }
    }

    fn condition(&self, node: &str, plane: usize) -> String {
        let ready = |node: &Value| {
            let conditions = node["status"]["conditions"].as_array()?;
            let found = conditions.iter().find(|condition| condition["type"] == "Ready")?;
            Some(found["status"].as_str()?.to_owned())
        };
        self.planes[plane].store.get(&Key::node(node)).and_then(ready).unwrap_or_default()
    }

    fn set_ready(&mut self, node: &str, plane: usize, status: &str, reason: &str) {
        let stamp = self.stamp();
        self.planes[plane].store.update(&Key::node(node), &stamp, |object| {
            object["status"]["conditions"] = json!([{
                "type": "Ready", "status": status, "reason": reason,
                "lastHeartbeatTime": stamp, "lastTransitionTime": stamp,
            }]);
        });
    }

    /// A kubelet registers: the Node is made or updated, its pods are reported, its version is the process's.
    pub(crate) fn kubelet_registers(&mut self, name: &HostName) {
        self.host_mut(name).kubelet = true;
        let Some(plane) = self.kubelet_reaches(name) else { return };
        let (stamp, micro) = (self.stamp(), self.micro_stamp_of(name, self.now));
        let host = self.host(name);
        let key = Key::node(name.as_str());
        let node = objects::node(host, &self.paths.name, self.planes[plane].store.get(&key), &stamp);
        let hash = host.disk.node_password.clone();
        let (now, secret) = (self.now, self.password_of(name));
        let store = &mut self.planes[plane].store;
        store.put(key, node, &stamp);
        store.put(Key::lease(name.as_str()), objects::lease(name.as_str(), &micro, now), &stamp);
        if store.get(&secret).is_none() {
            store.put(secret, objects::node_password(&hash), &stamp);
        }
        self.pods_reported(name, plane);
    }
}
