//! The beginning: a healthy cluster that has been running for a while.

use std::collections::BTreeMap;
use std::time::Duration;

use rke2flow_engine::cluster::Role;
use rke2flow_engine::id::HostName;

use crate::host::estate::Estate;
use crate::host::service::{Service, UnitState};
use crate::host::{Disk, Host, MemberData, Pods};
use crate::kube::store::Store;
use crate::spec::Fault;
use crate::world::World;
use crate::world::durations as take;
use crate::world::event::Event;
use crate::world::plane::{Cause, Origin, Plane};
use crate::world::version;

impl World {
    /// Makes hosts, control plane, objects and what is due from now on.
    pub(crate) fn give_birth(&mut self) {
        for (index, (name, role)) in self.spec.hosts().into_iter().enumerate() {
            let host = self.newborn(index, &name, role);
            self.hosts.insert(name, host);
        }
        let members = self
            .spec
            .hosts()
            .iter()
            .filter(|(_, role)| *role == Role::Server)
            .map(|(name, _)| self.member(name, false))
            .collect();
        self.planes.push(Plane {
            store: Store::new(1),
            etcd: version::etcd(&self.spec.version),
            members,
            origin: Origin::Birth,
            started: Some(self.now),
            api_since: Some(self.now),
            had_quorum: true,
            leader: None,
            alarm: String::new(),
        });
        self.planes[0].store.charts = self.spec.version.clone();
        self.settle_planes(Cause::Start);
        self.first_objects();
        self.controllers_start(0);
        self.schedule_faults();
        self.after(take::WORKLOAD_WRITE, Event::Write);
        self.remember_fences();
    }

    fn newborn(&self, index: usize, name: &HostName, role: Role) -> Host {
        let server = role == Role::Server;
        let version = self.spec.version.clone();
        let first = format!("https://{}:{}", self.spec.address(0), self.paths.supervisor_port);
        let disk = Disk {
            etcd: server.then_some(MemberData { plane: Some(0) }),
            tls: server.then_some(0),
            cred: server,
            charts: if server { version::shipped_charts(&version) } else { Vec::new() },
            static_pods: self.static_manifests(role),
            configured_server: if index == 0 { String::new() } else { first },
            node_password: format!("hash-of-{name}-1"),
            token: if server { self.spec.token.clone() } else { String::new() },
            ..Disk::default()
        };
        let etcd = server.then_some(0);
        Host {
            name: name.clone(),
            role,
            address: self.spec.address(index).to_string(),
            powered: true,
            away: false,
            handed: BTreeMap::new(),
            boots: 1,
            installed: version.clone(),
            service: Service {
                state: UnitState::Active,
                active_since: self.now,
                begun_since: self.now,
                restarts: 0,
                enabled: true,
                running: version.clone(),
                generation: 0,
            },
            pods: Some(Pods { etcd, api: server, version, shims: if server { 10 } else { 6 } }),
            kubelet: true,
            supervises: server,
            resetting: false,
            estate: Estate::default(),
            disk,
            claim: None,
            orders: Default::default(),
            logs: Default::default(),
        }
    }

    fn schedule_faults(&mut self) {
        for fault in self.spec.faults.clone() {
            self.schedule(fault);
        }
    }

    /// A fault that has its moment gets it; the others wait in `faults` for what they strike.
    fn schedule(&mut self, fault: Fault) {
        if let Fault::HostDown { host, at_seconds, back_after_seconds } = fault
            && self.hosts.contains_key(&host)
        {
            self.after(Duration::from_secs(at_seconds), Event::PowerOff { host, back_after_seconds });
        }
    }

    /// One more fault, from now on.
    pub fn inject(&mut self, fault: Fault) {
        self.schedule(fault.clone());
        self.faults.push(fault);
    }
}
