//! A rollback that is given up anywhere before server 0 is started leaves the world as it was before the rollback; and
//! so it does when the engine is stopped on the way back and gone on with.

#![allow(clippy::unwrap_used)] // what tests are made of is test code as well

mod rehearsed;

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use rehearsed::{Rehearsal, Rehearsed, Stop};
use rke2flow_engine::journal::CrashPoint;
use rke2flow_engine::record::{Event, Verdict};
use rke2flow_engine::run::Outcome;
use rke2flow_twin::TwinSpec;
use rke2flow_twin::inprocess::Side;
use serde_json::Value;

const UPGRADE: &str = include_str!("../../../runbooks/upgrade.ron");
const ROLLBACK: &str = include_str!("../../../runbooks/rollback.ron");
const NEW: &str = "v1.34.1+rke2r1";

/// Where the rollback is given up, and where its engine is stopped on the way back.
#[derive(Debug, Clone, Copy)]
struct Point {
    given_up: Stop,
    on_the_way_back: Option<Stop>,
}

/// Records and effects of the rollback before server 0 is started.
#[derive(Clone, Copy)]
struct Extent {
    records: u64,
    effects: u64,
}

#[test]
fn a_rollback_given_up_anywhere_before_server_0_is_started_leaves_the_world_as_it_was() {
    let (extent, before) = on_a_runtime(extent());
    let points: Vec<Point> = stops(extent).map(|given_up| Point { given_up, on_the_way_back: None }).collect();
    try_all(points, &before);
}

#[test]
fn a_way_back_that_is_stopped_anywhere_is_gone_on_with_to_the_same_end() {
    let (extent, before) = on_a_runtime(extent());
    // As late as possible: everything has to be taken back.
    let given_up = Stop::Record(CrashPoint::Before(extent.records));
    let back = on_a_runtime(extent_of_the_way_back(given_up));
    let from = extent.records;
    let records = (from..back.records).flat_map(|seq| [CrashPoint::Before(seq), CrashPoint::After(seq)]);
    let effects = (0..back.effects).flat_map(|n| [Stop::Effect(n, Side::Before), Stop::Effect(n, Side::After)]);
    let points = records.map(Stop::Record).chain(effects);
    let points = points.map(|stop| Point { given_up, on_the_way_back: Some(stop) }).collect();
    try_all(points, &before);
}

fn stops(extent: Extent) -> impl Iterator<Item = Stop> {
    let records = (0..extent.records).flat_map(|seq| [CrashPoint::Before(seq), CrashPoint::After(seq)]);
    let effects = (0..extent.effects).flat_map(|n| [Stop::Effect(n, Side::Before), Stop::Effect(n, Side::After)]);
    records.map(Stop::Record).chain(effects)
}

fn try_all(points: Vec<Point>, before: &Value) {
    let (all, points) = (points.len(), points.into_iter().step_by(stride()).collect::<Vec<_>>());
    let (next, wrong) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(|| {
                while let Some(point) = points.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let outcome = std::panic::catch_unwind(|| on_a_runtime(given_up(*point)));
                    let found = match outcome {
                        Ok(world) => differences(before, &world),
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
    println!("{} of {all} points", points.len());
    assert!(wrong.is_empty(), "{} of {} points:\n{}", wrong.len(), points.len(), wrong.join("\n"));
}

/// Every point is minutes of work, and each has an upgrade before it. Without `RKE2FLOW_ABORT_POINTS=all` every eleventh
/// is tried: before and after in turn.
fn stride() -> usize {
    match std::env::var("RKE2FLOW_ABORT_POINTS").as_deref() {
        Ok("all") => 1,
        Ok(number) => number.parse().expect("RKE2FLOW_ABORT_POINTS is `all` or a number: every n-th point"),
        Err(_) => 11,
    }
}

fn on_a_runtime<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(work)
}

/// A cluster that was upgraded and that has been written to since.
async fn upgraded() -> Rehearsed {
    let rehearsed = Rehearsed::new(TwinSpec::default(), NEW);
    let (_, outcome) = rehearsed.run("261122-0400-upgr", UPGRADE, None).await;
    assert_eq!(outcome.unwrap().unwrap(), Outcome::Closed(Verdict::Succeeded));
    rehearsed.write("written-after-the-upgrade");
    rehearsed
}

async fn roll_back(rehearsed: &Rehearsed, stop: Option<Stop>) -> Rehearsal {
    rehearsed.run("261122-0500-back", ROLLBACK, stop).await.0
}

async fn extent() -> (Extent, Value) {
    let rehearsed = upgraded().await;
    let before = rehearsed.at_rest().await;
    let run = roll_back(&rehearsed, None).await;
    let records = run.disk.records();
    let starts = |event: &Event| matches!(event, Event::ApplyStarted { instance, .. } if instance.as_str().starts_with("start-0/"));
    let records = records.iter().position(|record| starts(&record.event)).unwrap() as u64;
    let rehearsed = upgraded().await;
    let run = roll_back(&rehearsed, Some(Stop::Record(CrashPoint::Before(records)))).await;
    let effects = run.effects.load(Ordering::Relaxed);
    (Extent { records, effects }, before)
}

async fn extent_of_the_way_back(given_up: Stop) -> Extent {
    let rehearsed = upgraded().await;
    let run = roll_back(&rehearsed, Some(given_up)).await;
    assert_eq!(rehearsed.abort(&run).await.unwrap(), Outcome::Closed(Verdict::Aborted));
    Extent { records: run.disk.len() as u64, effects: run.effects.load(Ordering::Relaxed) }
}

async fn given_up(point: Point) -> Value {
    let rehearsed = upgraded().await;
    let run = roll_back(&rehearsed, Some(point.given_up)).await;
    // Cut off before its plan was written down: nothing was done, and nothing is there to give up.
    if !run.begun() {
        return rehearsed.at_rest().await;
    }
    let outcome = match rehearsed.abort_until(&run, point.on_the_way_back).await {
        Some(Ok(outcome)) => outcome,
        // What a person asked for is gone with the engine if it was not durable: it is asked for again.
        _ => rehearsed.abort(&run).await.unwrap(),
    };
    assert_eq!(outcome, Outcome::Closed(Verdict::Aborted), "{point:?}");
    assert_eq!(rehearsed.twin.judge(), [], "{point:?}");
    assert!(rehearsed.has("written-after-the-upgrade"), "{point:?}: a write is lost");
    rehearsed.at_rest().await
}

/// Paths at which two worlds differ. A control plane that a reset made and nobody started is no matter, and neither are
/// the releases that were fetched.
fn differences(left: &Value, right: &Value) -> Vec<String> {
    let (Some(a), Some(b)) = (left.as_object(), right.as_object()) else {
        return if left == right { Vec::new() } else { vec![format!("{left} != {right}")] };
    };
    let keys = a.keys().chain(b.keys().filter(|key| !a.contains_key(*key)));
    let keys = keys.filter(|key| !["control_planes", "releases"].contains(&key.as_str()));
    let below = |key: &String| {
        let found = differences(a.get(key).unwrap_or(&Value::Null), b.get(key).unwrap_or(&Value::Null));
        found.into_iter().map(move |rest| format!("{key}: {rest}")).collect::<Vec<_>>()
    };
    keys.flat_map(below).collect()
}
