//! A run in its directory: created, interrupted, read by others, gone on with.

use std::sync::Arc;
use std::time::Duration;

use rke2flow_engine::clock::Clock;
use rke2flow_engine::inbox::Inbox;
use rke2flow_engine::journal::{JournalError, Tail};
use rke2flow_engine::record::{Command, Event, Record, Verdict};
use rke2flow_engine::report::Report;
use rke2flow_engine::run::{Engine, Outcome, Replay, Run, RunError, Stop};
use serde_json::json;
use tokio::sync::watch;

use crate::world::{World, act, after, doing, new_run, plan, step};

#[tokio::test(start_paused = true)]
async fn a_run_is_created_stopped_read_locked_and_gone_on_with() {
    let runs = tempfile::tempdir().unwrap();
    let world = World::default();
    let slow = doing(step("slow"), vec![act("Make", json!({"mark": "slow", "takes": 10}))]);
    let new = new_run(plan(vec![slow, after(step("next"), &[0])]));
    let directory = runs.path().join(new.id.as_str());
    let clock = Clock::real();
    let run = Run::create(runs.path(), new.clone(), &clock).unwrap();
    assert!(Run::create(runs.path(), new, &clock).is_err(), "a run is created once");

    let (stop, stopping) = watch::channel(Stop::Run);
    let engine = Engine::new(run, Arc::new(world.clone()), clock).stop(stopping);
    let running = tokio::spawn(engine.drive());
    tokio::time::sleep(Duration::from_secs(1)).await;
    let refused = Run::open(&directory).err().unwrap();
    assert!(matches!(refused, RunError::Journal(JournalError::Locked { .. })), "{refused}");
    let (replayed, tail) = Replay::read(&directory).unwrap();
    assert_eq!((tail, replayed.state.in_flight().len()), (Tail::Clean, 1));

    stop.send(Stop::Now).unwrap();
    assert!(matches!(running.await.unwrap().unwrap(), Outcome::Stopped { .. }));
    // The inbox of a run lies in its directory, and is read when the run is taken up.
    let pause = Command::Pause { reason: String::new(), who: "bob".into() };
    Inbox::at(directory.join("inbox")).send(&pause, jiff::Timestamp::UNIX_EPOCH).unwrap();
    let drive = || Engine::new(Run::open(&directory).unwrap(), Arc::new(world.clone()), Clock::real()).drive();
    assert_eq!(drive().await.unwrap(), Outcome::Paused { why: "bob".into() });
    assert_eq!(drive().await.unwrap(), Outcome::Closed(Verdict::Succeeded));
    assert_eq!(Report::read(&directory).unwrap().engines, 3);
    assert_eq!(Run::open(&directory).unwrap().notes(), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn what_a_record_has_no_place_for_is_kept_in_a_file_by_its_digest() {
    let runs = tempfile::tempdir().unwrap();
    let mark = "x".repeat(10_000);
    let new = new_run(plan(vec![doing(step("loud"), vec![act("Make", json!({"mark": mark, "panics": true}))])]));
    let directory = runs.path().join(new.id.as_str());
    let clock = Clock::real();
    let run = Run::create(runs.path(), new, &clock).unwrap();
    let outcome = Engine::new(run, Arc::new(World::default()), clock).drive().await.unwrap();
    assert!(matches!(outcome, Outcome::Failed { .. }));
    let kept = |record: Record| match record.event {
        Event::AttemptFailed { failure, output, .. } => Some((failure.observed, output.unwrap())),
        _ => None,
    };
    let mut found = Vec::new();
    rke2flow_engine::journal::read(&directory, &mut |record| found.extend(kept(record))).unwrap();
    let (observed, name) = &found[0];
    let whole = std::fs::read_to_string(directory.join("out").join(name)).unwrap();
    assert!(observed.len() <= 4096 && whole.len() > 10_000 && whole.ends_with("panics, as asked"), "{whole}");
}

#[tokio::test(start_paused = true)]
async fn a_directory_without_a_plan_is_a_run_that_never_began() {
    let runs = tempfile::tempdir().unwrap();
    let directory = runs.path().join("r");
    std::fs::create_dir(&directory).unwrap();
    std::fs::write(directory.join("journal.ndjson"), "").unwrap();
    assert!(matches!(Run::open(&directory), Err(RunError::NeverBegun)));
}
