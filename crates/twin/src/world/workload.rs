//! A client of the cluster that writes all the time and remembers which writes were acknowledged.

use std::time::Duration;

use serde_json::json;

use crate::kube::store::Key;
use crate::world::World;
use crate::world::durations as take;
use crate::world::event::Event;

/// The workload's namespace.
pub const NAMESPACE: &str = "shop";

/// Writes go round so many objects.
pub const MARKERS: u64 = 25;

/// Acknowledged writes that are remembered; older ones are overwritten many times by then.
const MEMORY_LIMIT_WRITES: usize = 20_000;

/// What the client knows.
#[derive(Debug, Clone, Default)]
pub struct Workload {
    /// Writes that were acknowledged, oldest first.
    pub acknowledged: Vec<Write>,
    /// Number of the last write, acknowledged or not.
    pub last: u64,
}

/// A write that was acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Write {
    /// Its number.
    pub number: u64,
    /// When.
    pub at: Duration,
}

impl Write {
    /// The object that holds it.
    pub fn marker(self) -> u64 {
        self.number % MARKERS
    }
}

/// Where a marker is.
pub fn key(marker: u64) -> Key {
    Key::new("", "configmaps", NAMESPACE, &format!("marker-{marker}"))
}

impl World {
    /// One more write, if anybody answers, and the next one later.
    pub(crate) fn workload_writes(&mut self) {
        self.workload.last += 1;
        let write = Write { number: self.workload.last, at: self.now };
        if let Some(plane) = self.reached() {
            let stamp = self.stamp();
            let object = json!({
                "apiVersion": "v1", "kind": "ConfigMap",
                "metadata": {"labels": {"app": "shop-writer"}},
                "data": {"number": write.number.to_string()},
            });
            self.planes[plane].store.put(key(write.marker()), object, &stamp);
            if self.workload.acknowledged.len() < MEMORY_LIMIT_WRITES {
                self.workload.acknowledged.push(write);
            }
            for handle in self.mounted(plane) {
                if let Some(volume) = self.volumes.get_mut(&handle) {
                    volume.write(write.number);
                }
            }
        }
        self.after(take::WORKLOAD_WRITE, Event::Write);
    }
}
