//! What an open run still has on hosts and in the cluster: holds, cordons, fences, the claim.

use std::collections::BTreeMap;

use rke2flow_engine::record::{Event, Record};
use serde::Serialize;

/// What one action puts there and others take away.
const PAIRS: [(&str, &[&str], &str); 6] = [
    ("KillNode", &["StartUnit", "JoinCluster"], "stopped by this run, and not started again by it"),
    ("HoldUnit", &["ReleaseHold", "CleanUp"], "held down: RKE2 does not start, also not after a reboot"),
    ("Cordon", &["Uncordon"], "cordoned"),
    ("DisableUpgradePlans", &["Unfence"], "upgrade plans are disabled"),
    ("PauseSchedules", &["Unfence"], "backup schedules are paused"),
    ("PointAt", &["CleanUp"], "has a configuration drop-in of this run"),
];

/// What a claim is on.
const EVERY_HOST: &str = "every host";

/// Something that is still there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Held {
    /// The host, or `operator` for the cluster as a whole.
    pub target: String,
    /// What.
    pub what: String,
}

/// What the run has put somewhere and not taken away. A change that was begun counts: it may have happened.
pub fn held(records: &[Record]) -> Vec<Held> {
    let mut there: BTreeMap<(usize, String), ()> = BTreeMap::new();
    let mut claim: Option<String> = None;
    for record in records {
        match &record.event {
            Event::ApplyStarted { instance, .. } => each_pair(instance.as_str(), |pair, target, action| {
                if PAIRS[pair].0 == action {
                    there.insert((pair, target.to_owned()), ());
                }
            }),
            Event::Settled { instance, .. } => each_pair(instance.as_str(), |pair, target, action| {
                if PAIRS[pair].1.contains(&action) {
                    there.remove(&(pair, target.to_owned()));
                }
            }),
            Event::ClaimTaken { number, holder } => claim = Some(format!("claim {number} of {holder}")),
            Event::RunClosed { .. } => claim = None,
            _ => {}
        }
    }
    let mut all: Vec<Held> =
        there.into_keys().map(|(pair, target)| Held { target, what: PAIRS[pair].2.to_owned() }).collect();
    all.extend(claim.map(|what| Held { target: EVERY_HOST.to_owned(), what }));
    all
}

/// The same, one line for all hosts of which it is true, without the claim.
pub fn held_lines(records: &[Record]) -> Vec<String> {
    let mut lines: Vec<(String, Vec<String>)> = Vec::new();
    for held in held(records).into_iter().filter(|held| held.target != EVERY_HOST) {
        match lines.iter_mut().find(|(what, _)| *what == held.what) {
            Some((_, targets)) => targets.push(held.target),
            None => lines.push((held.what, vec![held.target])),
        }
    }
    lines.into_iter().map(|(what, targets)| format!("{}: {what}", targets.join(", "))).collect()
}

fn each_pair(instance: &str, mut visit: impl FnMut(usize, &str, &str)) {
    let Some((step, target)) = instance.split_once('@') else { return };
    let action = step.split('/').nth(1).unwrap_or_default();
    let action = action.split('.').next().unwrap_or_default();
    for pair in 0..PAIRS.len() {
        visit(pair, target, action);
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use rke2flow_engine::id::{InstanceId, RunId, StepId, Target, UnitName};
    use rke2flow_engine::value::Facts;

    use super::*;

    fn record(seq: u64, event: Event) -> Record {
        let run = RunId::new("261122-0312-k7q2").unwrap();
        let at = Timestamp::UNIX_EPOCH;
        Record { v: 1, seq, at, boot: String::new(), mono_ms: 0, run, claim: 1, prev: String::new(), event }
    }

    fn instance(action: &str, host: &str) -> InstanceId {
        let target = Target::Host(rke2flow_engine::id::HostName::new(host).unwrap());
        InstanceId::new(&StepId::new("step").unwrap(), action, 1, &target)
    }

    fn begun(action: &str, host: &str) -> Event {
        let (run, instance) = (RunId::new("261122-0312-k7q2").unwrap(), instance(action, host));
        let unit = UnitName::new(&run, &instance, 1);
        Event::ApplyStarted { instance, attempt: 1, unit, inputs: String::new() }
    }

    fn done(action: &str, host: &str) -> Event {
        Event::Settled { instance: instance(action, host), attempt: 1, facts: Facts::new() }
    }

    #[test]
    fn a_hold_that_was_begun_counts_until_its_release_is_proved() {
        let mut records = vec![record(0, begun("HoldUnit", "server-0")), record(1, begun("Cordon", "agent-0"))];
        assert_eq!(held(&records).len(), 2);
        records.push(record(2, begun("ReleaseHold", "server-0")));
        assert_eq!(held(&records).len(), 2, "a release that was begun is not proved");
        records.push(record(3, done("ReleaseHold", "server-0")));
        let left = held(&records);
        assert_eq!(left.len(), 1);
        assert_eq!(left[0].target, "agent-0");
    }

    #[test]
    fn a_node_that_was_killed_counts_until_its_start_is_proved_whatever_was_cleaned_up() {
        let mut records = vec![record(0, begun("KillNode", "server-0")), record(1, begun("KillNode", "server-1"))];
        records.extend([record(2, begun("HoldUnit", "server-0")), record(3, done("CleanUp", "server-0"))]);
        assert_eq!(held_lines(&records), ["server-0, server-1: stopped by this run, and not started again by it"]);
        records.push(record(4, done("StartUnit", "server-1")));
        assert_eq!(held_lines(&records), ["server-0: stopped by this run, and not started again by it"]);
    }
}
