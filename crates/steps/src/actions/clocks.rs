//! The clocks of a cluster's hosts: a lease carries its node's own clock, and a moment of a restore a server's.

use std::collections::BTreeMap;

use jiff::Timestamp;
use rke2flow_engine::action::Failure;
use rke2flow_engine::cluster::Host;
use rke2flow_engine::id::HostName;

use super::{World, stamp};
use crate::answer::Survey;

/// What the hosts' clocks showed when they were asked, all at once.
pub(crate) struct Clocks {
    /// The clock by which moments are told: the first server's that answered, the restored one first.
    reference: i64,
    hosts: BTreeMap<String, Seen>,
}

#[derive(Clone, Copy)]
struct Seen {
    epoch: i64,
    /// When the node's unit last became active, by its own clock.
    active_since: i64,
}

impl Seen {
    fn of(survey: &Survey) -> Self {
        Self { epoch: survey.epoch, active_since: survey.unit_active_since }
    }
}

impl Clocks {
    /// Asks every host of the cluster file that is not lost.
    pub async fn read(world: &World) -> Result<Self, Failure> {
        let alive = world.cluster().hosts.iter().filter(|host| !world.access().lost.contains(&host.name));
        let surveys = world.surveys(alive).await;
        Self::of(world, &surveys).ok_or_else(|| Failure::transient("no server tells the time"))
    }

    /// Of one host, and of the first server that answers: a node alone needs no more.
    pub async fn of_one(world: &World, host: &HostName, own: &Survey) -> Result<Self, Failure> {
        let hosts = BTreeMap::from([(host.to_string(), Seen::of(own))]);
        let mut silent = Failure::transient("no server tells the time");
        for server in told_by(world) {
            match world.hosts().survey(&server.name).await {
                Ok(survey) => return Ok(Self { reference: survey.epoch, hosts }),
                Err(failure) => silent = failure,
            }
        }
        Err(silent)
    }

    /// The clocks in what hosts have told; `None`: no server has.
    pub fn of(world: &World, surveys: &[(&Host, Result<Survey, Failure>)]) -> Option<Self> {
        let seen = |(host, survey): &(&Host, Result<Survey, Failure>)| {
            let survey = survey.as_ref().ok()?;
            Some((host.name.to_string(), Seen::of(survey)))
        };
        let hosts: BTreeMap<String, Seen> = surveys.iter().filter_map(seen).collect();
        let servers = told_by(world);
        let reference = servers.filter_map(|server| hosts.get(server.name.as_str())).next()?.epoch;
        Some(Self { reference, hosts })
    }

    /// Now, by the clock that moments are told by.
    pub fn now(&self) -> Timestamp {
        stamp(self.reference)
    }

    /// A moment that a server told, by the node's own clock. One that did not tell its clock has the servers'.
    pub fn by_its_own(&self, node: &str, moment: Timestamp) -> Timestamp {
        let ahead = self.hosts.get(node).map_or(0, |seen| seen.epoch - self.reference);
        stamp(moment.as_second() + ahead)
    }

    /// From when on a node's lease is its word after a restore: by its own clock, and never from before its unit was
    /// started, so that a lease out of the snapshot counts for nothing.
    pub fn since(&self, node: &str, restored: Timestamp) -> Timestamp {
        let active_since = self.hosts.get(node).map_or(0, |seen| seen.active_since);
        self.by_its_own(node, restored).max(stamp(active_since))
    }
}

/// The servers in the order in which their word counts; a lost one is not waited for.
fn told_by(world: &World) -> impl Iterator<Item = &Host> {
    let lost = &world.access().lost;
    let init = world.cluster().init_server().filter(|host| !lost.contains(&host.name));
    init.into_iter().chain(world.servers())
}
