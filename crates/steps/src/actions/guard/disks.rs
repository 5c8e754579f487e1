//! The check of disks: what a run moves aside, fetches and installs has room where it goes.

use std::collections::BTreeMap;

use rke2flow_engine::action::Failure;
use rke2flow_engine::cluster::Role;

use super::check::{Level, Row, Seen};
use super::evidence::Evidence;
use crate::answer::{DiskUse, Inspection, Survey};

/// A snapshot and the directory that a restore moves aside are each as large as etcd: a reset makes another
/// `etcd-old-<ts>` every time (K3S pkg/etcd/etcd.go).
const ETCD_ROOM: u64 = 2;
/// Releases that are fetched ahead: the one that runs and the one that comes.
const RELEASES_AHEAD: u64 = 2;

pub(super) const FREE: Row = Row {
    level: Level::Refuse,
    why: "etcd that cannot write stops, and what a restore moves aside is as large as the database",
    source: "K3S pkg/etcd/etcd.go Restore; R2 bootstrap cleanDataDirs",
    unwaivable: None,
    judge: |evidence| Box::pin(free(evidence)),
};

async fn free(evidence: &Evidence<'_>) -> Result<Seen, Failure> {
    let mut seen = Seen::well(format!("room for {ETCD_ROOM} times etcd and {RELEASES_AHEAD} releases everywhere"));
    for (host, survey, inspection) in evidence.inspections(&mut seen).await {
        for (mount, room) in rooms(host.role, survey, inspection) {
            if room.free < room.needed {
                let (free, needed) = (mib(room.free), mib(room.needed));
                seen.refuse(
                    format!("{} has {free} MiB free on {mount}, {needed} MiB are needed", host.name),
                    format!("free {} MiB on {mount} of {} (old images, snapshots, logs)", needed - free, host.name),
                );
            }
        }
    }
    Ok(seen)
}

struct Room {
    free: u64,
    needed: u64,
}

/// What is needed on each file system: places that share one share its room.
fn rooms(role: Role, survey: &Survey, inspection: &Inspection) -> BTreeMap<String, Room> {
    let etcd = if role == Role::Server { ETCD_ROOM * survey.etcd_bytes } else { 0 };
    let needed = |holds: DiskUse| match holds {
        DiskUse::Data => etcd + inspection.release_bytes,
        DiskUse::State => RELEASES_AHEAD * inspection.release_bytes,
        DiskUse::Bin => 0,
    };
    let mut rooms = BTreeMap::new();
    for disk in &inspection.disks {
        let room = rooms.entry(disk.mount.clone()).or_insert(Room { free: disk.free, needed: 0 });
        room.needed += needed(disk.holds);
    }
    // What the survey saw of the data directory counts too: it is never more than a moment old.
    let data = inspection.disks.iter().find(|disk| disk.holds == DiskUse::Data).map(|disk| disk.mount.as_str());
    let room = rooms.entry(data.unwrap_or("the data directory").to_owned());
    let room = room.or_insert(Room { free: survey.disk_free, needed: etcd });
    room.free = room.free.min(survey.disk_free);
    rooms
}

fn mib(bytes: u64) -> u64 {
    bytes / (1024 * 1024)
}
