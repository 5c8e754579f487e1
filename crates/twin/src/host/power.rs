//! Power: a host that goes down takes its containers and detached units with it; what is enabled starts at boot.

use std::time::Duration;

use rke2flow_engine::id::HostName;

use crate::host::Disk;
use crate::host::order::Progress;
use crate::world::World;
use crate::world::durations as take;
use crate::world::event::Event;
use crate::world::plane::Cause;

impl World {
    /// The host loses its power.
    pub(crate) fn power_off(&mut self, name: &HostName, back_after_seconds: Option<u64>) {
        if !self.hosts.contains_key(name) {
            return;
        }
        self.reset_destroyed(name);
        self.kill_all(name, Cause::Fault);
        let manifests = self.static_manifests(self.host(name).role);
        let host = self.host_mut(name);
        host.powered = false;
        host.away |= back_after_seconds.is_none();
        // What killall removes from the disk, a power cut does not.
        host.disk.static_pods = manifests;
        for order in host.orders.values_mut() {
            if matches!(order.progress, Progress::Running { .. }) {
                order.progress = Progress::Gone;
            }
        }
        if let Some(seconds) = back_after_seconds {
            self.after(Duration::from_secs(seconds) + take::BOOT, Event::Boot(name.clone()));
        }
    }

    /// A new machine of the same name, address and configuration: nothing is installed, nothing is on its disk.
    /// Its node password is another one.
    pub(crate) fn another_machine(&mut self, name: &HostName) {
        self.reset_destroyed(name);
        self.kill_all(name, Cause::Fault);
        let host = self.host_mut(name);
        let configured_server = std::mem::take(&mut host.disk.configured_server);
        let node_password = format!("{}-anew", host.disk.node_password);
        host.disk = Disk { configured_server, node_password, ..Disk::default() };
        host.powered = true;
        host.away = false;
        host.boots += 1;
        host.installed.clear();
        host.service.enabled = false;
        host.claim = None;
        host.handed.clear();
        host.orders.clear();
        host.logs.clear();
    }

    /// The host has power again.
    pub(crate) fn boot(&mut self, name: &HostName) {
        let host = self.host_mut(name);
        if host.powered {
            return;
        }
        host.powered = true;
        host.boots += 1;
        if host.service.enabled {
            self.start_unit(name);
        }
    }
}
