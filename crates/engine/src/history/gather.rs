//! From a run's records to measurements: which attempts tell how long an action takes, and which do not.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use jiff::Timestamp;

use super::durations::Measured;
use super::{Kind, Where};
use crate::action::Catalogue;
use crate::cluster;
use crate::id::{HostName, InstanceId};
use crate::plan::Plan;
use crate::record::{Event, Record};
use crate::run::Replayed;
use crate::source::SourceText;

/// Whether a run was against a twin, at whichever speed. One whose cluster file cannot be read any more is taken for
/// one: a duration that does not count is only missing, one that counts wrongly misleads.
pub(super) fn is_rehearsal(replayed: &Replayed) -> bool {
    let source = SourceText::new("cluster.ron", replayed.cluster.clone());
    let read = cluster::parse(source, Path::new("/"));
    replayed.opened.speed > 1 || read.map_or(true, |file| file.cluster.rehearsal.is_some())
}

/// Times attempts. An engine writes its records by one monotonic clock, so that a wall clock that is set meanwhile
/// does no harm; what a crash cut in two is not timed, for nobody knows how long it waited for the next engine.
#[derive(Debug, Default)]
pub(super) struct Stopwatch {
    open: HashMap<InstanceId, Running>,
    /// Attempts that an engine left, until another one of the same instance begins.
    cut: HashSet<(InstanceId, u32)>,
    timed: Vec<Timed>,
}

#[derive(Debug)]
struct Running {
    attempt: u32,
    since: Timestamp,
    changed: bool,
}

#[derive(Debug)]
struct Timed {
    instance: InstanceId,
    seconds: f64,
    changed: bool,
}

impl Stopwatch {
    pub(super) fn push(&mut self, record: &Record) {
        match &record.event {
            Event::EngineStarted { .. } => {
                self.cut.extend(self.open.drain().map(|(instance, running)| (instance, running.attempt)));
            }
            Event::AttemptStarted { instance, attempt } if !self.cut.contains(&(instance.clone(), *attempt)) => {
                let running = Running { attempt: *attempt, since: record.at, changed: false };
                self.open.insert(instance.clone(), running);
            }
            Event::ApplyStarted { instance, .. } => {
                if let Some(running) = self.open.get_mut(instance) {
                    running.changed = true;
                }
            }
            Event::Settled { instance, .. } => {
                if let Some(Running { since, changed, .. }) = self.open.remove(instance) {
                    let seconds = record.at.duration_since(since).as_secs_f64().max(0.0);
                    self.timed.push(Timed { instance: instance.clone(), seconds, changed });
                }
            }
            Event::AttemptFailed { instance, .. } | Event::Skipped { instance, .. } => {
                self.open.remove(instance);
            }
            _ => {}
        }
    }

    /// What was timed, by kind. An action that changes something tells how long it takes only when it changed
    /// something: a goal that held already says nothing about the way to it.
    pub(super) fn measured(self, plan: &Plan, catalogue: &dyn Catalogue) -> Measured {
        let places: HashMap<&HostName, Where> =
            plan.hosts.iter().map(|host| (&host.name, Where::of(Some(host.role)))).collect();
        let kinds: HashMap<InstanceId, Kind> = plan
            .instances()
            .into_iter()
            .filter(|instance| !instance.id.is_check())
            .map(|instance| {
                let step = &plan.steps[instance.step];
                let host = step.targets[instance.target].host();
                let place = host.and_then(|host| places.get(host)).copied().unwrap_or(Where::Operator);
                let action = step.at(instance.position).0.name.clone();
                (instance.id, Kind { action, place })
            })
            .collect();
        let mut measured = Measured::new();
        for timed in self.timed {
            let Some(kind) = kinds.get(&timed.instance) else { continue };
            let Some(info) = catalogue.info(&kind.action) else { continue };
            if timed.changed || !info.changes {
                measured.entry(kind.clone()).or_default().push(timed.seconds);
            }
        }
        measured
    }
}
