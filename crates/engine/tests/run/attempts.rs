//! What one attempt does with what it sees: when it changes the world, and when it believes that the goal is reached.

use std::time::Duration;

use rke2flow_engine::plan::{Retry, StepPlan};
use rke2flow_engine::record::{Event, Verdict};
use rke2flow_engine::run::{Gates, Outcome, Stop};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::world::{Scenario, act, doing, failed, plan, step};

fn making(fields: Value) -> StepPlan {
    let mut all = json!({ "mark": "it" });
    all.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    doing(step("it"), vec![act("Make", all)])
}

#[tokio::test(start_paused = true)]
async fn what_was_under_way_and_stopped_short_of_the_goal_is_changed_once_after_it_is_written_down() {
    let scenario = Scenario::new();
    let begun = tokio::time::Instant::now();
    let outcome = scenario.drive(plan(vec![making(json!({"under_way": 3}))])).await.unwrap();
    assert_eq!(outcome, Outcome::Closed(Verdict::Succeeded));
    assert!(begun.elapsed() < Duration::from_secs(30), "the deadline was waited for");
    assert_eq!(scenario.attempts(), ["it/Make@operator 1"]);
    assert_eq!(scenario.world.marks()["it@operator"], 1);
    let kinds = scenario.kinds();
    let at = |kind: &str| kinds.iter().position(|other| *other == kind).unwrap();
    assert!(at("ApplyStarted") < at("ApplyEnded") && at("ApplyEnded") < at("Settled"), "{kinds:?}");
}

#[tokio::test(start_paused = true)]
async fn a_change_that_does_not_lead_to_the_goal_is_made_once_per_attempt() {
    let scenario = Scenario::new();
    let mut never = making(json!({"under_way": 2, "never": true}));
    never.retry = Retry { attempts: 1, ..never.retry };
    failed(&scenario.drive(plan(vec![never])).await.unwrap());
    assert_eq!(scenario.world.marks()["it@operator"], 1);
}

#[tokio::test(start_paused = true)]
async fn a_goal_that_did_not_hold_steadily_after_the_change_is_not_reached_by_one_look_of_the_next_attempt() {
    let scenario = Scenario::new();
    let outcome = scenario.drive(plan(vec![making(json!({"steady": 10, "flickers": true}))])).await.unwrap();
    assert_eq!(failed(&outcome), ["it/Make@operator"]);
    assert_eq!(scenario.attempts().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_change_that_was_begun_is_looked_at_again_when_its_host_cannot_be_seen_for_a_moment_after_a_resume() {
    let scenario = Scenario::new();
    let (stop, stopping) = watch::channel(Stop::Run);
    let step = StepPlan { irreversible: Some("for good".to_owned()), ..making(json!({"takes": 10})) };
    let running = tokio::spawn(scenario.begin(plan(vec![step])).gates(Gates::Yes).stop(stopping).drive());
    tokio::time::sleep(Duration::from_secs(1)).await;
    stop.send(Stop::Now).unwrap();
    running.await.unwrap().unwrap();
    scenario.world.blind("it@operator", 2);
    let outcome = scenario.resume().gates(Gates::Yes).drive().await.unwrap();
    assert_eq!(outcome, Outcome::Closed(Verdict::Succeeded));
    assert_eq!(scenario.attempts(), ["it/Make@operator 1", "it/Make@operator 1"]);
}

#[tokio::test(start_paused = true)]
async fn a_receipt_with_a_long_tail_keeps_its_end_and_does_not_end_the_run() {
    let scenario = Scenario::new();
    let outcome = scenario.drive(plan(vec![making(json!({"tail": 100_000}))])).await.unwrap();
    assert_eq!(outcome, Outcome::Closed(Verdict::Succeeded));
    let tail = scenario.records().into_iter().find_map(|record| match record.event {
        Event::ApplyEnded { applied, .. } => applied.receipt,
        _ => None,
    });
    let tail = tail.unwrap().tail;
    assert!(tail.ends_with("the end") && tail.len() <= 4096, "{} bytes", tail.len());
}
