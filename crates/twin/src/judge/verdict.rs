//! The verdict at the end: writes, fences, versions, hosts.

use std::collections::BTreeMap;
use std::time::Duration;

use rke2flow_engine::cluster::Role;

use crate::host::service::UnitState;
use crate::judge::evidence::{fences, plans_left};
use crate::judge::{Violation, ViolationKind};
use crate::world::World;
use crate::world::plane::Origin;
use crate::world::workload::{MARKERS, Write, key};

impl World {
    /// What must never have happened and did, as of now.
    pub fn judge(&self) -> Vec<Violation> {
        let mut found = self.evidence.violations.clone();
        self.judge_writes(&mut found);
        self.judge_fences(&mut found);
        self.judge_versions(&mut found);
        found.sort_by_key(|violation| (violation.when, violation.kind));
        found
    }

    /// Rollbacks: from when to when writes were given up.
    fn given_up(&self) -> Vec<(Duration, Duration)> {
        let window = |origin: &Origin| match origin {
            Origin::Reset { at, taken, .. } => Some((*taken, *at)),
            _ => None,
        };
        let in_force = |plane: &usize| self.is_in_force(*plane);
        (0..self.planes.len()).filter(in_force).filter_map(|plane| window(&self.planes[plane].origin)).collect()
    }

    fn judge_writes(&self, found: &mut Vec<Violation>) {
        let Some(plane) = self.reached() else { return };
        let windows = self.given_up();
        let discarded = |write: &Write| windows.iter().any(|(from, to)| *from < write.at && write.at <= *to);
        let mut expected: BTreeMap<u64, Write> = BTreeMap::new();
        for write in self.workload.acknowledged.iter().filter(|write| !discarded(write)) {
            expected.insert(write.marker(), *write);
        }
        let numbers: BTreeMap<u64, Write> =
            self.workload.acknowledged.iter().map(|write| (write.number, *write)).collect();
        for marker in 0..MARKERS {
            let object = self.planes[plane].store.get(&key(marker));
            let number = object.and_then(|object| object["data"]["number"].as_str()?.parse::<u64>().ok());
            let there = number.and_then(|number| numbers.get(&number));
            let (kind, write) = match (there, expected.get(&marker)) {
                (Some(there), _) if discarded(there) => (ViolationKind::WriteSurvivedRollback, *there),
                (Some(there), Some(write)) if there.number >= write.number => continue,
                (_, Some(write)) => (ViolationKind::AcknowledgedWriteLost, *write),
                (_, None) => continue,
            };
            let detail = format!("write {} was acknowledged at that time, its object has {number:?} now", write.number);
            found.push(Violation { kind, when: write.at, host: None, detail });
        }
    }

    fn judge_fences(&self, found: &mut Vec<Violation>) {
        let mut add = |host, detail: String| {
            found.push(Violation { kind: ViolationKind::FenceLeftUp, when: self.now, host, detail });
        };
        for host in self.hosts.values().filter(|host| host.powered) {
            if host.disk.hold || host.disk.hold_drop_in {
                add(Some(host.name.clone()), "the hold or its drop-in is still there".to_owned());
            }
            if host.disk.server_override.is_some() {
                add(Some(host.name.clone()), "the drop-in that sets `server:` is still there".to_owned());
            }
        }
        let Some(plane) = self.reached() else { return };
        for fence in fences(&self.planes[plane].store, &self.evidence.plans).difference(&self.evidence.fences) {
            add(None, fence.clone());
        }
        for left in plans_left(&self.planes[plane].store, &self.evidence.plans) {
            found.push(Violation { kind: ViolationKind::PlanLeft, when: self.now, host: None, detail: left });
        }
    }

    fn judge_versions(&self, found: &mut Vec<Violation>) {
        let mut add = |kind, host, detail: String| found.push(Violation { kind, when: self.now, host, detail });
        if self.reached().is_none() {
            add(ViolationKind::ClusterDown, None, "no API server answers".to_owned());
        }
        let powered: Vec<_> = self.hosts.values().filter(|host| host.powered).collect();
        for host in &powered {
            if host.service.state != UnitState::Active {
                let detail = format!("the unit is {}", host.service.state.as_str());
                add(ViolationKind::ClusterDown, Some(host.name.clone()), detail);
            } else if host.service.running != host.installed {
                let detail = format!("{} runs, {} is installed", host.service.running, host.installed);
                add(ViolationKind::VersionsDiffer, Some(host.name.clone()), detail);
            }
        }
        let mut versions: Vec<&str> = powered.iter().map(|host| host.installed.as_str()).collect();
        versions.sort_unstable();
        versions.dedup();
        if versions.len() > 1 {
            add(ViolationKind::VersionsDiffer, None, versions.join(" and "));
        }
        let servers = powered.iter().filter(|host| host.role == Role::Server).count();
        let voters = self
            .reached()
            .map_or(0, |plane| self.planes[plane].members.iter().filter(|member| !member.learner).count());
        if self.reached().is_some() && voters < servers {
            add(ViolationKind::ClusterDown, None, format!("{voters} voters of {servers} servers"));
        }
    }
}
