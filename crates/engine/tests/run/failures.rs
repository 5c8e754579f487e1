//! What becomes of a run when something fails.

use rke2flow_engine::duration::Span;
use rke2flow_engine::journal::JournalError;
use rke2flow_engine::plan::{OnFailure, Plan, Retry, StepPlan};
use rke2flow_engine::record::{Cause, Event, Verdict};
use rke2flow_engine::run::{EngineError, Outcome};
use rke2flow_engine::state::Waiver;
use serde_json::{Value, json};

use crate::world::{Scenario, act, after, doing, failed, make, new_run, on, plan, step};

fn failing(id: &str, fields: Value) -> StepPlan {
    let mut all = json!({ "mark": id });
    all.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    doing(step(id), vec![act("Make", all)])
}

#[tokio::test(start_paused = true)]
async fn a_transient_failure_is_tried_again_after_a_journaled_wait_that_doubles() {
    let scenario = Scenario::new();
    let outcome = scenario.drive(plan(vec![failing("flaky", json!({"fails": 2}))])).await.unwrap();
    assert_eq!(outcome, Outcome::Closed(Verdict::Succeeded));
    assert_eq!(scenario.attempts(), ["flaky/Make@operator 1", "flaky/Make@operator 2", "flaky/Make@operator 3"]);
    let records = scenario.records();
    let waits: Vec<i64> = records
        .iter()
        .filter_map(|record| match &record.event {
            Event::RetryScheduled { at, by: Cause::Engine, .. } => Some(at.duration_since(record.at).as_secs()),
            _ => None,
        })
        .map(|seconds| seconds + 1)
        .collect();
    // Rounded down from just under 5 s and 10 s.
    assert!(waits == [5, 10] || waits == [6, 11], "{waits:?}");
}

#[tokio::test(start_paused = true)]
async fn attempts_run_out_and_the_run_stays_open_until_a_resume_gives_it_a_fresh_round() {
    let scenario = Scenario::new();
    let outcome = scenario.drive(plan(vec![failing("flaky", json!({"fails": 4}))])).await.unwrap();
    assert_eq!(failed(&outcome), ["flaky/Make@operator"]);
    assert_eq!(scenario.attempts().len(), 3);
    assert_eq!(scenario.kinds().last(), Some(&"EngineStopped"));
    let outcome = scenario.resume().drive().await.unwrap();
    assert_eq!(outcome, Outcome::Closed(Verdict::Succeeded));
    assert_eq!(scenario.attempts().last().unwrap(), "flaky/Make@operator 5", "numbers go on");
}

#[tokio::test(start_paused = true)]
async fn permanent_refused_and_fenced_failures_are_not_tried_again() {
    for class in ["Permanent", "Refused", "Fenced"] {
        let scenario = Scenario::new();
        let steps = vec![failing("bad", json!({"fails": 1, "class": class}))];
        let outcome = scenario.drive(plan(steps)).await.unwrap();
        assert_eq!(failed(&outcome), ["bad/Make@operator"]);
        assert_eq!(scenario.attempts().len(), 1, "{class}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_refuses_and_a_fact_that_is_missing_are_permanent() {
    let scenario = Scenario::new();
    let outcome = scenario.drive(plan(vec![failing("war", json!({"refused": true}))])).await.unwrap();
    assert_eq!(failed(&outcome), ["war/Make@operator"]);
    assert!(scenario.world.log().is_empty());

    let scenario = Scenario::new();
    let wants = failing("wants", json!({"fact": "${fact.gives.colour}"}));
    let outcome = scenario.drive(plan(vec![step("gives"), after(wants, &[0])])).await.unwrap();
    let Outcome::Failed { instances } = outcome else { panic!("{outcome:?}") };
    assert!(instances[0].1.observed.contains("`gives` on operator"), "{:?}", instances[0].1);
    assert_eq!(scenario.attempts().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn facts_of_one_step_are_in_place_in_the_fields_of_another() {
    let scenario = Scenario::new();
    let gives = failing("gives", json!({"fact": "blue"}));
    let takes = doing(step("takes"), vec![make("${fact.gives.fact}-thing")]);
    scenario.drive(plan(vec![gives, after(takes, &[0])])).await.unwrap();
    assert!(scenario.world.has("blue-thing@operator"));
}

#[tokio::test(start_paused = true)]
async fn an_attempt_ends_at_its_deadline_and_says_what_it_waited_for() {
    let scenario = Scenario::new();
    let never = StepPlan {
        retry: Retry { attempts: 1, backoff: Span::from_secs(1) },
        ..failing("never", json!({"never": true}))
    };
    let outcome = scenario.drive(plan(vec![never])).await.unwrap();
    let Outcome::Failed { instances } = outcome else { panic!("{outcome:?}") };
    let failure = &instances[0].1;
    assert!(failure.what.contains("within 1m"), "{failure:?}");
    assert_eq!(failure.observed, "never@operator is not there");
}

#[tokio::test(start_paused = true)]
async fn a_panic_is_a_failure_of_its_step_and_not_of_the_run() {
    let scenario = Scenario::new();
    let mut plan = plan(vec![failing("bomb", json!({"panics": true})), step("calm")]);
    plan.on_failure = OnFailure::Finish;
    let outcome = scenario.drive(plan).await.unwrap();
    let Outcome::Failed { instances } = outcome else { panic!("{outcome:?}") };
    assert!(instances[0].1.observed.contains("bomb@operator panics"), "{instances:?}");
    assert!(scenario.world.has("calm@operator"));
}

/// Three hosts one after the other, a step after them, and a branch of its own.
fn branches(on_failure: OnFailure, bad: Option<usize>) -> Plan {
    let slow = |id: &str| doing(step(id), vec![act("Make", json!({"mark": id, "takes": 2}))]);
    let steps = vec![slow("a"), after(slow("b"), &[0]), slow("x"), after(slow("y"), &[2]), after(slow("z"), &[1, 3])];
    let mut plan = plan(steps);
    if let Some(bad) = bad {
        let id = plan.steps[bad].id.to_string();
        plan.steps[bad] = StepPlan {
            needs: plan.steps[bad].needs.clone(),
            ..failing(&id, json!({"fails": 1, "takes": 1, "class": "Permanent"}))
        };
    }
    plan.on_failure = on_failure;
    plan
}

#[tokio::test(start_paused = true)]
async fn whichever_step_fails_nothing_that_needs_it_runs_and_a_resume_finishes_the_run() {
    let needs = |plan: &Plan, step: usize, of: usize| {
        let mut waiting = vec![step];
        let mut found = false;
        while let Some(at) = waiting.pop() {
            found |= at == of;
            for need in &plan.steps[at].needs {
                if let rke2flow_engine::plan::NeedPlan::All(before) = need {
                    waiting.push(*before);
                }
            }
        }
        found
    };
    for on_failure in [OnFailure::Hold, OnFailure::Finish] {
        for bad in 0..5 {
            let scenario = Scenario::new();
            let plan = branches(on_failure, Some(bad));
            let outcome = scenario.drive(plan.clone()).await.unwrap();
            assert_eq!(failed(&outcome), [format!("{}/Make@operator", plan.steps[bad].id)]);
            for (index, step) in plan.steps.iter().enumerate() {
                let ran = scenario.world.has(&format!("{}@operator", step.id));
                let depends = needs(&plan, index, bad);
                assert!(!(ran && depends), "{} ran although {} failed", step.id, plan.steps[bad].id);
                if on_failure == OnFailure::Finish {
                    assert_eq!(ran, !depends, "{} with {} failed", step.id, plan.steps[bad].id);
                }
            }
            if on_failure == OnFailure::Hold && bad == 0 {
                assert!(!scenario.world.has("y@operator"), "held: it had not begun");
                assert!(scenario.world.has("x@operator"), "what ran has ended");
            }
            let outcome = scenario.resume().drive().await.unwrap();
            assert_eq!(outcome, Outcome::Closed(Verdict::Succeeded));
            assert_eq!(scenario.world.marks().values().sum::<u32>(), 5, "nothing was done twice");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_failed_host_holds_those_of_its_step_that_have_not_begun_and_begun_ones_finish() {
    for on_failure in [OnFailure::Hold, OnFailure::Finish] {
        let scenario = Scenario::new();
        let roll = doing(
            on("roll", &["h1", "h2", "h3"], 2),
            vec![act("Make", json!({"mark": "a-${host.name}", "takes": 4})), make("b")],
        );
        let mut plan = plan(vec![roll]);
        plan.on_failure = on_failure;
        plan.hosts = serde_json::from_value(json!([
            {"name": "h1", "address": "1", "role": "Server"},
            {"name": "h2", "address": "2", "role": "Server"},
            {"name": "h3", "address": "3", "role": "Server"},
        ]))
        .unwrap();
        // The first host's first action can never be reached, at once.
        plan.steps[0].retry.attempts = 1;
        scenario.world.fail_for_good("a-h1@h1");
        let outcome = scenario.drive(plan).await.unwrap();
        assert_eq!(failed(&outcome), ["roll/Make@h1"]);
        assert_eq!(scenario.world.log(), ["a-h2@h2", "b@h2"], "{on_failure:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_best_effort_step_gives_up_in_its_time_and_holds_nothing() {
    let scenario = Scenario::new();
    let hopeless = StepPlan { best_effort: Some(Span::from_secs(5)), ..failing("hopeless", json!({"never": true})) };
    let hopeless = StepPlan { actions: vec![hopeless.actions[0].clone(), make("rest")], ..hopeless };
    let outcome = scenario.drive(plan(vec![hopeless, after(step("next"), &[0])])).await.unwrap();
    assert_eq!(outcome, Outcome::Closed(Verdict::Succeeded));
    assert!(scenario.world.has("next@operator") && !scenario.world.has("rest@operator"));
    let records = scenario.records();
    let skipped = records
        .iter()
        .filter(|record| matches!(&record.event, Event::Skipped { why, .. } if why.starts_with("best effort")));
    assert_eq!(skipped.count(), 2);
    let took = records.last().unwrap().at.duration_since(records[0].at);
    assert!(took.as_secs() < 7, "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_waived_guard_is_passed_over_and_another_failure_of_it_is_not() {
    for (class, waived) in [("Refused", true), ("Permanent", false)] {
        let scenario = Scenario::new();
        let guard = failing("guard", json!({"fails": 1, "class": class}));
        let mut new = new_run(plan(vec![guard, after(step("next"), &[0])]));
        let (guard, reason, who) = ("guard".to_owned(), "known".to_owned(), "alice".to_owned());
        new.waivers.push(Waiver { guard, reason, who });
        let outcome = scenario.begin_with(new).drive().await.unwrap();
        assert_eq!(outcome == Outcome::Closed(Verdict::Succeeded), waived, "{class}: {outcome:?}");
        assert_eq!(scenario.world.has("next@operator"), waived);
    }
}

#[tokio::test(start_paused = true)]
async fn facts_that_do_not_fit_into_a_record_fail_their_step() {
    let scenario = Scenario::new();
    let big = failing("big", json!({"fact": "x".repeat(70_000)}));
    // The plan itself is cut into pieces that fit.
    let outcome = scenario.drive(plan(vec![big])).await.unwrap();
    let Outcome::Failed { instances } = outcome else { panic!("{outcome:?}") };
    assert!(instances[0].1.what.contains("more than a record holds"), "{instances:?}");
}

#[tokio::test(start_paused = true)]
async fn a_journal_that_cannot_be_written_stops_the_engine_at_once() {
    use rke2flow_engine::journal::{CrashPoint, MemoryJournal};
    let scenario = Scenario::new();
    drop(scenario.begin(plan(vec![step("one"), after(step("two"), &[0])])));
    let journal = MemoryJournal::open(scenario.disk.clone()).crash_at(CrashPoint::Before(8));
    let error = scenario.resume_from(journal).drive().await.unwrap_err();
    assert!(matches!(error, EngineError::Journal(JournalError::Crashed)), "{error}");
    assert!(scenario.world.log().is_empty(), "nothing was changed whose beginning was not durable");
}

#[tokio::test(start_paused = true)]
async fn an_irreversible_step_is_not_tried_again_by_itself_once_its_change_has_begun() {
    use rke2flow_engine::run::Gates;
    let scenario = Scenario::new();
    let last = StepPlan { irreversible: Some("no way back".to_owned()), ..failing("last", json!({"fails": 1})) };
    let outcome = scenario.begin(plan(vec![last])).gates(Gates::Yes).drive().await.unwrap();
    assert_eq!(failed(&outcome), ["last/Make@operator"]);
    assert_eq!(scenario.attempts().len(), 1);
    let outcome = scenario.resume().gates(Gates::Yes).drive().await.unwrap();
    assert_eq!(outcome, Outcome::Closed(Verdict::Succeeded), "a person asked to go on");
}
