//! The actions of one target: one after the other, and not at all when it is done already.

use rke2flow_engine::id::Target;
use rke2flow_engine::plan::StepPlan;
use rke2flow_engine::record::{Cause, Event, Verdict};
use rke2flow_engine::run::Outcome;
use serde_json::json;

use crate::world::{Scenario, act, doing, make, on, plan, step};

fn skipped(scenario: &Scenario) -> Vec<String> {
    let why = |record: rke2flow_engine::record::Record| match record.event {
        Event::Skipped { instance, why, by: Cause::Engine } => Some(format!("{instance}: {why}")),
        _ => None,
    };
    scenario.records().into_iter().filter_map(why).collect()
}

#[tokio::test(start_paused = true)]
async fn what_is_there_already_is_not_made_again() {
    let scenario = Scenario::new();
    scenario.world.mark("one@operator");
    scenario.drive(plan(vec![step("one")])).await.unwrap();
    assert_eq!(scenario.world.marks()["one@operator"], 1);
    assert!(!scenario.kinds().contains(&"ApplyStarted"));
}

#[tokio::test(start_paused = true)]
async fn a_target_whose_checks_all_hold_is_skipped_and_one_that_fails_a_check_is_done_whole() {
    let scenario = Scenario::new();
    let checks = vec![act("Watch", json!({"mark": "new"})), act("Make", json!({"mark": "up"}))];
    let roll = StepPlan { done_when: checks, ..doing(on("roll", &["h1", "h2"], 2), vec![make("new"), make("up")]) };
    scenario.world.mark("new@h1");
    scenario.world.mark("up@h1");
    scenario.world.mark("up@h2");
    let outcome = scenario.drive(plan(vec![roll])).await.unwrap();
    assert_eq!(outcome, Outcome::Closed(Verdict::Succeeded));
    let skipped = skipped(&scenario);
    assert!(skipped.contains(&"roll/Make@h1: already: Watch, Make".to_owned()), "{skipped:?}");
    assert!(skipped.contains(&"roll/Watch?@h2: new@h2 is not there".to_owned()), "{skipped:?}");
    assert!(skipped.contains(&"roll/Make?@h2: an earlier check did not hold".to_owned()), "{skipped:?}");
    assert_eq!(scenario.world.log(), ["new@h2"], "a check is never applied");
}

#[tokio::test(start_paused = true)]
async fn a_goal_must_hold_without_a_break_for_as_long_as_its_action_asks() {
    let scenario = Scenario::new();
    let watch = doing(step("watch"), vec![act("Watch", json!({"mark": "w", "steady": 10}))]);
    scenario.world.mark("w@operator");
    let before = tokio::time::Instant::now();
    scenario.drive(plan(vec![watch])).await.unwrap();
    assert!(before.elapsed().as_secs() >= 10, "{:?}", before.elapsed());
}

#[tokio::test(start_paused = true)]
async fn an_action_that_changes_nothing_waits_for_the_world() {
    let scenario = Scenario::new();
    let watch = doing(step("watch"), vec![act("Watch", json!({"mark": "made"}))]);
    let make = doing(step("make"), vec![act("Make", json!({"mark": "made", "takes": 20}))]);
    let outcome = scenario.drive(plan(vec![watch, make])).await.unwrap();
    assert_eq!(outcome, Outcome::Closed(Verdict::Succeeded));
    assert_eq!(scenario.world.log(), [format!("made@{}", Target::Operator)]);
    assert_eq!(scenario.kinds().iter().filter(|kind| **kind == "ApplyStarted").count(), 1);
}
