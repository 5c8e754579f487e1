//! Stopping the engine, in two stages, and what an engine accepts when it goes on.

use std::time::Duration;

use rke2flow_engine::record::Verdict;
use rke2flow_engine::run::{EngineError, Outcome, Revisions, Stop};
use serde_json::json;
use tokio::sync::watch;

use crate::world::{Scenario, act, after, doing, plan, step};

fn two_slow_steps() -> rke2flow_engine::plan::Plan {
    let slow = |id: &str| doing(step(id), vec![act("Make", json!({"mark": id, "takes": 10}))]);
    plan(vec![slow("one"), after(slow("two"), &[0])])
}

#[tokio::test(start_paused = true)]
async fn draining_lets_attempts_end_and_starts_nothing_new() {
    let scenario = Scenario::new();
    let (stop, stopping) = watch::channel(Stop::Run);
    let running = tokio::spawn(scenario.begin(two_slow_steps()).stop(stopping).drive());
    tokio::time::sleep(Duration::from_secs(1)).await;
    stop.send(Stop::Drain).unwrap();
    assert_eq!(running.await.unwrap().unwrap(), Outcome::Stopped { going_on: Vec::new() });
    assert_eq!(scenario.world.log(), ["one@operator"]);
    assert_eq!(scenario.resume().drive().await.unwrap(), Outcome::Closed(Verdict::Succeeded));
    assert_eq!(scenario.world.marks().values().sum::<u32>(), 2);
}

#[tokio::test(start_paused = true)]
async fn stopping_now_names_what_goes_on_and_a_resume_takes_it_up_under_the_same_attempt() {
    let scenario = Scenario::new();
    let (stop, stopping) = watch::channel(Stop::Run);
    let running = tokio::spawn(scenario.begin(two_slow_steps()).stop(stopping).drive());
    tokio::time::sleep(Duration::from_secs(1)).await;
    stop.send(Stop::Now).unwrap();
    let before = tokio::time::Instant::now();
    let Outcome::Stopped { going_on } = running.await.unwrap().unwrap() else { panic!("not stopped") };
    assert!(before.elapsed() < Duration::from_secs(1));
    assert_eq!(going_on.len(), 1);
    assert_eq!(going_on[0].instance.as_str(), "one/Make@operator");
    assert!(going_on[0].unit.as_ref().unwrap().as_str().ends_with("-a1"));
    assert_eq!(scenario.resume().drive().await.unwrap(), Outcome::Closed(Verdict::Succeeded));
    assert_eq!(scenario.attempts()[..2], ["one/Make@operator 1", "one/Make@operator 1"]);
    assert_eq!(scenario.kinds().iter().filter(|kind| **kind == "ApplyStarted").count(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_unfinished_action_of_another_revision_is_refused_unless_accepted() {
    let scenario = Scenario::new();
    let mut plan = two_slow_steps();
    plan.steps[1].actions[0].revision = 7;
    let error = scenario.begin(plan).drive().await.unwrap_err();
    assert!(matches!(&error, EngineError::Revision { planned: 7, here: 1, tool, .. } if tool == "0.1.0"), "{error}");
    let outcome = scenario.resume().revisions(Revisions::Accepted).drive().await.unwrap();
    assert_eq!(outcome, Outcome::Closed(Verdict::Succeeded));
}

#[tokio::test(start_paused = true)]
async fn an_action_that_this_program_does_not_have_is_refused_before_anything_is_done() {
    let scenario = Scenario::new();
    let error = scenario.drive(plan(vec![step("one"), doing(step("two"), vec![act("Gone", json!({}))])])).await;
    assert!(matches!(error, Err(EngineError::UnknownAction { .. })), "{error:?}");
    assert!(scenario.world.log().is_empty());
}

#[tokio::test(start_paused = true)]
async fn draining_enters_no_phase_in_which_nothing_is_begun() {
    let scenario = Scenario::new();
    let (stop, stopping) = watch::channel(Stop::Run);
    let mut plan = two_slow_steps();
    plan.steps[1].phase = 1;
    let running = tokio::spawn(scenario.begin(plan).stop(stopping).drive());
    tokio::time::sleep(Duration::from_secs(1)).await;
    stop.send(Stop::Drain).unwrap();
    running.await.unwrap().unwrap();
    assert_eq!(scenario.kinds().iter().filter(|kind| **kind == "PhaseEntered").count(), 1);
}
