//! What an open run still has on hosts and in the cluster: holds, cordons, fences, the claim.

use std::collections::BTreeMap;

use rke2flow_engine::record::{Event, Record};
use serde::Serialize;

/// What one action puts there and another takes away.
const PAIRS: [(&str, &str, &str); 5] = [
    ("HoldUnit", "ReleaseHold", "held down: RKE2 does not start, also not after a reboot"),
    ("Cordon", "Uncordon", "cordoned"),
    ("DisableUpgradePlans", "Unfence", "upgrade plans are disabled"),
    ("PauseSchedules", "Unfence", "backup schedules are paused"),
    ("PointAt", "CleanUp", "has a configuration drop-in of this run"),
];

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
                if PAIRS[pair].1 == action || action == "CleanUp" {
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
    all.extend(claim.map(|what| Held { target: "every host".to_owned(), what }));
    all
}

fn each_pair(instance: &str, mut visit: impl FnMut(usize, &str, &str)) {
    let Some((step, target)) = instance.split_once('@') else { return };
    let action = step.split('/').nth(1).unwrap_or_default();
    let action = action.split('.').next().unwrap_or_default();
    for pair in 0..PAIRS.len() {
        visit(pair, target, action);
    }
}
