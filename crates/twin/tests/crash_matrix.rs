//! The engine stopped before and after records and effects, then resumed: the world comes to the same end.

#![allow(clippy::unwrap_used)] // what tests are made of is test code as well

mod rehearsed;

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use rehearsed::{Rehearsed, Stop};
use rke2flow_engine::cluster::Distribution;
use rke2flow_engine::journal::CrashPoint;
use rke2flow_engine::record::Verdict;
use rke2flow_engine::run::Outcome;
use rke2flow_twin::TwinSpec;
use rke2flow_twin::inprocess::Side;
use serde_json::Value;

const UPGRADE: &str = include_str!("../../../runbooks/upgrade.ron");
const UPGRADE_SUC: &str = include_str!("../../../runbooks/upgrade-suc.ron");
const ROLLBACK: &str = include_str!("../../../runbooks/rollback.ron");
const NEW: &str = "v1.34.1+rke2r1";
const NEW_K3S: &str = "v1.34.1+k3s1";

/// Which run is disturbed.
#[derive(Clone, Copy)]
enum Disturbed {
    Upgrade,
    UpgradeSuc,
    Rollback,
    /// The same runbooks on K3s.
    UpgradeOfK3s,
    RollbackOfK3s,
    /// An upgrade over two minor releases.
    Hops,
}

impl Disturbed {
    /// Rounds are the steps of an upgrade once more, K3s has the same runbooks and actions, the controller most of them: a
    /// part of their points is enough. An odd number, so that before and after come in turn.
    fn stride(self) -> usize {
        match self {
            Disturbed::Upgrade | Disturbed::Rollback => 1,
            Disturbed::UpgradeSuc | Disturbed::UpgradeOfK3s | Disturbed::RollbackOfK3s => 3,
            Disturbed::Hops => 13,
        }
    }
}

impl Disturbed {
    fn twin(self) -> (TwinSpec, &'static str) {
        match self {
            Disturbed::UpgradeOfK3s | Disturbed::RollbackOfK3s => (TwinSpec::of(Distribution::K3s), NEW_K3S),
            Disturbed::UpgradeSuc => (TwinSpec { upgrade_controller: true, ..TwinSpec::default() }, NEW),
            _ => (TwinSpec::default(), NEW),
        }
    }
}

/// How a disturbed run ended.
struct End {
    world: Value,
    records: u64,
    effects: u64,
}

#[test]
fn an_upgrade_stopped_anywhere_comes_to_the_same_end() {
    matrix(Disturbed::Upgrade);
}

#[test]
fn an_upgrade_through_the_controller_stopped_anywhere_comes_to_the_same_end() {
    matrix(Disturbed::UpgradeSuc);
}

#[test]
fn a_rollback_stopped_anywhere_comes_to_the_same_end() {
    matrix(Disturbed::Rollback);
}

#[test]
fn an_upgrade_of_k3s_stopped_anywhere_comes_to_the_same_end() {
    matrix(Disturbed::UpgradeOfK3s);
}

#[test]
fn a_rollback_of_k3s_stopped_anywhere_comes_to_the_same_end() {
    matrix(Disturbed::RollbackOfK3s);
}

#[test]
fn an_upgrade_over_two_minors_stopped_anywhere_comes_to_the_same_end() {
    matrix(Disturbed::Hops);
}

/// Stops the run before and after every record and every effect that the undisturbed run has.
fn matrix(which: Disturbed) {
    let undisturbed = on_a_runtime(which, None);
    let records = (0..undisturbed.records).flat_map(|seq| [CrashPoint::Before(seq), CrashPoint::After(seq)]);
    let effects = (0..undisturbed.effects).flat_map(|n| [Stop::Effect(n, Side::Before), Stop::Effect(n, Side::After)]);
    let points: Vec<Stop> = records.map(Stop::Record).chain(effects).collect();
    assert_eq!(points.len() as u64, 2 * (undisturbed.records + undisturbed.effects));
    let points: Vec<Stop> = points.into_iter().step_by(stride() * which.stride()).collect();
    let (next, wrong) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(|| {
                while let Some(point) = points.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let outcome = std::panic::catch_unwind(|| on_a_runtime(which, Some(*point)).world);
                    let found = match outcome {
                        Ok(world) => differences(&undisturbed.world, &world),
                        Err(_) => vec!["panicked, see above".to_owned()],
                    };
                    if !found.is_empty() {
                        wrong.lock().unwrap().push(format!("{point:?}: {found:#?}"));
                    }
                }
            });
        }
    });
    let wrong = wrong.into_inner().unwrap();
    let (records, effects) = (undisturbed.records, undisturbed.effects);
    println!("{} of {} points: {records} records and {effects} effects", points.len(), 2 * (records + effects));
    assert!(wrong.is_empty(), "{} of {} points:\n{}", wrong.len(), points.len(), wrong.join("\n"));
}

/// Every point is minutes of work. Without `RKE2FLOW_CRASH_POINTS=all` every eleventh is tried: before and after in turn.
fn stride() -> usize {
    match std::env::var("RKE2FLOW_CRASH_POINTS").as_deref() {
        Ok("all") => 1,
        Ok(number) => number.parse().expect("RKE2FLOW_CRASH_POINTS is `all` or a number: every n-th point"),
        Err(_) => 11,
    }
}

fn on_a_runtime(which: Disturbed, stop: Option<Stop>) -> End {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(disturbed(which, stop))
}

async fn disturbed(which: Disturbed, stop: Option<Stop>) -> End {
    let (spec, new) = which.twin();
    let rehearsed = Rehearsed::new(spec, new);
    if matches!(which, Disturbed::Rollback | Disturbed::RollbackOfK3s) {
        let (_, outcome) = rehearsed.run("261122-0400-upgr", UPGRADE, None).await;
        assert_eq!(outcome.unwrap().unwrap(), Outcome::Closed(Verdict::Succeeded));
    }
    let hops = UPGRADE.replace(r#"["${cluster.version}"]"#, r#"["v1.34.1+rke2r1", "v1.35.1+rke2r1"]"#);
    let (id, text) = match which {
        Disturbed::Upgrade | Disturbed::UpgradeOfK3s => ("261122-0400-upgr", UPGRADE),
        Disturbed::UpgradeSuc => ("261122-0400-upgr", UPGRADE_SUC),
        Disturbed::Rollback | Disturbed::RollbackOfK3s => ("261122-0500-back", ROLLBACK),
        Disturbed::Hops => ("261122-0400-upgr", hops.as_str()),
    };
    let (run, outcome) = rehearsed.run(id, text, stop).await;
    let (records, effects) = (run.disk.len() as u64, run.effects.load(Ordering::Relaxed));
    let outcome = match (stop, outcome) {
        (None, Some(outcome)) => outcome,
        (Some(_), Some(Ok(done))) => panic!("the run was not stopped but ended: {done:?}"),
        _ => match rehearsed.resume(&run).await {
            Some(outcome) => outcome,
            // It was cut off before its plan was written down: it is started again.
            None => rehearsed.run(id, text, None).await.1.unwrap(),
        },
    };
    assert_eq!(outcome.unwrap(), Outcome::Closed(Verdict::Succeeded), "{stop:?}");
    assert_eq!(rehearsed.twin.judge(), [], "{stop:?}");
    End { world: rehearsed.at_rest().await, records, effects }
}

/// Paths at which two worlds differ. How many control planes there were is no matter: a reset may have been repeated.
fn differences(left: &Value, right: &Value) -> Vec<String> {
    let (Some(a), Some(b)) = (left.as_object(), right.as_object()) else {
        return if left == right { Vec::new() } else { vec![format!("{left} != {right}")] };
    };
    let keys = a.keys().chain(b.keys().filter(|key| !a.contains_key(*key))).filter(|key| *key != "control_planes");
    let below = |key: &String| {
        let found = differences(a.get(key).unwrap_or(&Value::Null), b.get(key).unwrap_or(&Value::Null));
        found.into_iter().map(move |rest| format!("{key}: {rest}")).collect::<Vec<_>>()
    };
    keys.flat_map(below).collect()
}
