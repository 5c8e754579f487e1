//! What runs before what, and how much at a time.

use rke2flow_engine::journal::CrashPoint;
use rke2flow_engine::plan::{LastPlan, NeedPlan, Plan, StepPlan};
use rke2flow_engine::record::{Event, Verdict};
use rke2flow_engine::run::Outcome;
use serde_json::json;

use crate::world::{Scenario, act, after, doing, on, plan, step};

#[tokio::test(start_paused = true)]
async fn a_chain_runs_in_order_and_closes_the_run() {
    let scenario = Scenario::new();
    let steps = vec![step("one"), after(step("two"), &[0]), after(step("three"), &[1])];
    let outcome = scenario.drive(plan(steps)).await.unwrap();
    assert_eq!(outcome, Outcome::Closed(Verdict::Succeeded));
    assert_eq!(scenario.world.log(), ["one@operator", "two@operator", "three@operator"]);
    assert_eq!(scenario.kinds().last(), Some(&"RunClosed"));
}

#[tokio::test(start_paused = true)]
async fn hosts_of_a_step_run_in_file_order_and_no_more_at_once_than_allowed() {
    let scenario = Scenario::new();
    let slow = vec![act("Make", json!({"mark": "a", "takes": 3})), act("Make", json!({"mark": "b", "takes": 3}))];
    let steps = vec![doing(on("roll", &["h1", "h2", "h3", "h4", "h5"], 2), slow)];
    scenario.drive(plan(steps)).await.unwrap();
    assert_eq!(scenario.world.most_together(), 2);
    let first: Vec<_> = scenario.world.log().into_iter().filter(|mark| mark.starts_with('a')).collect();
    assert_eq!(first, ["a@h1", "a@h2", "a@h3", "a@h4", "a@h5"]);
    // A host counts until its last action: the third begins only after the first is through.
    let log = scenario.world.log();
    let place = |mark: &str| log.iter().position(|other| other == mark).unwrap();
    assert!(place("b@h1") < place("a@h3"), "{log:?}");
}

#[tokio::test(start_paused = true)]
async fn same_host_edges_let_a_fast_host_overtake_a_slow_one() {
    let scenario = Scenario::new();
    let slow = doing(on("slow", &["h1"], 1), vec![act("Make", json!({"mark": "stop", "takes": 30}))]);
    let fast = doing(on("fast", &["h2"], 1), vec![act("Make", json!({"mark": "stop", "takes": 1}))]);
    let both = StepPlan { needs: vec![NeedPlan::SameHost(vec![0, 1])], ..on("both", &["h1", "h2"], 2) };
    scenario.drive(plan(vec![slow, fast, both])).await.unwrap();
    assert_eq!(scenario.world.log(), ["stop@h2", "both@h2", "stop@h1", "both@h1"]);
}

#[tokio::test(start_paused = true)]
async fn a_step_without_targets_passes_on_what_it_waited_for() {
    let scenario = Scenario::new();
    let first = doing(step("first"), vec![act("Make", json!({"mark": "first", "takes": 9}))]);
    let empty = after(on("empty", &[], 1), &[0]);
    let same_host = StepPlan { needs: vec![NeedPlan::SameHost(vec![1])], ..on("next", &["h1"], 1) };
    let last = after(step("last"), &[1]);
    let outcome = scenario.drive(plan(vec![first, empty, same_host, last])).await.unwrap();
    assert_eq!(outcome, Outcome::Closed(Verdict::Succeeded));
    assert_eq!(scenario.world.log()[0], "first@operator");
    assert_eq!(scenario.world.log().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_chain_of_ten_thousand_steps_without_targets_does_not_overflow_the_stack() {
    let scenario = Scenario::new();
    let mut steps = vec![step("first")];
    steps.extend((1..10_000).map(|at| after(on(&format!("s{at}"), &[], 1), &[at - 1])));
    let outcome = scenario.drive(plan(steps)).await.unwrap();
    assert_eq!(outcome, Outcome::Closed(Verdict::Succeeded));
}

/// A step that finds out who leads, and one whose hosts go one after the other, that one last.
fn leader_last(leader: &str, at_once: usize) -> Plan {
    let find = doing(step("find"), vec![act("Make", json!({"mark": "find", "fact": leader}))]);
    let slow = |mark: &str| act("Make", json!({"mark": mark, "takes": 3}));
    let roll = doing(after(on("roll", &["h1", "h2", "h3"], at_once), &[0]), vec![slow("a"), slow("b")]);
    plan(vec![find, StepPlan { last: Some(LastPlan { step: 0, fact: "fact".to_owned() }), ..roll }])
}

#[tokio::test(start_paused = true)]
async fn the_host_that_a_fact_names_begins_when_all_others_are_done() {
    for at_once in [1, 3] {
        let scenario = Scenario::new();
        let outcome = scenario.drive(leader_last("h1", at_once)).await.unwrap();
        assert_eq!(outcome, Outcome::Closed(Verdict::Succeeded));
        let log = scenario.world.log();
        let place = |mark: &str| log.iter().position(|other| other == mark).unwrap();
        assert!(place("a@h1") > place("b@h2") && place("a@h1") > place("b@h3"), "{log:?}");
        assert!(place("a@h2") < place("a@h3"), "{log:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_fact_that_names_no_host_of_the_step_leaves_the_order_as_it_is() {
    let scenario = Scenario::new();
    scenario.drive(leader_last("h9", 1)).await.unwrap();
    let begun: Vec<_> = scenario.world.log().into_iter().filter(|mark| mark.starts_with('a')).collect();
    assert_eq!(begun, ["a@h1", "a@h2", "a@h3"]);
}

#[tokio::test(start_paused = true)]
async fn a_run_that_is_resumed_keeps_the_last_host_that_it_chose_first() {
    let undisturbed = Scenario::new();
    undisturbed.drive(leader_last("h2", 1)).await.unwrap();
    let (order, records) = (undisturbed.world.log(), undisturbed.disk.len() as u64);
    for seq in 3..records {
        let scenario = Scenario::new();
        let crashed = scenario.crash_at(leader_last("h2", 1), CrashPoint::After(seq)).await;
        assert!(crashed, "record {seq}");
        let outcome = scenario.resume().drive().await.unwrap();
        assert_eq!(outcome, Outcome::Closed(Verdict::Succeeded), "after record {seq}");
        assert_eq!(scenario.world.log(), order, "after record {seq}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_record_that_begins_the_last_host_too_early_is_refused() {
    let scenario = Scenario::new();
    scenario.drive(leader_last("h1", 1)).await.unwrap();
    let mut state = rke2flow_engine::state::State::new(leader_last("h1", 1).into());
    let mut refused = None;
    for mut record in
        scenario.records().into_iter().skip_while(|record| !matches!(record.event, Event::EngineStarted { .. }))
    {
        if let Event::AttemptStarted { instance, .. } = &mut record.event
            && instance.to_string() == "roll/Make@h2"
        {
            *instance = serde_json::from_value(json!("roll/Make@h1")).unwrap();
        }
        if let Err(why) = state.apply(&record) {
            refused.get_or_insert(why.to_string());
        }
    }
    assert!(refused.unwrap().ends_with("its host goes last"));
}
