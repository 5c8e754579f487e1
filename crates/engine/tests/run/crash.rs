//! The engine is stopped before and after every record, gone on with, and compared with a run that was left alone.

use rke2flow_engine::inbox::Inbox;
use rke2flow_engine::journal::{CrashPoint, JournalError, MemoryJournal};
use rke2flow_engine::plan::{Always, NeedPlan, Plan, StepPlan};
use rke2flow_engine::record::{Command, Event, Verdict};
use rke2flow_engine::run::{Engine, EngineError, Gates, Outcome, Run, RunError};
use serde_json::json;

use crate::world::{Scenario, act, after, doing, make, new_run, on, plan, step};

/// Everything that a plan can have, in small.
fn rich_plan() -> Plan {
    let flaky = doing(step("flaky"), vec![act("Make", json!({"mark": "flaky", "fails": 1}))]);
    let roll = doing(
        on("roll", &["h1", "h2", "h3"], 2),
        vec![
            act("Make", json!({"mark": "stop", "takes": 3})),
            act("Make", json!({"mark": "start", "steady": 5})),
            act("Watch", json!({"mark": "start"})),
        ],
    );
    let known = StepPlan { done_when: vec![act("Watch", json!({"mark": "flaky"}))], ..after(step("known"), &[0]) };
    let unknown =
        StepPlan { done_when: vec![act("Watch", json!({"mark": "nowhere"}))], ..after(step("unknown"), &[0]) };
    let hopeless = StepPlan {
        best_effort: Some("2s".parse_span()),
        ..doing(step("hopeless"), vec![act("Make", json!({"mark": "x", "never": true})), make("after-x")])
    };
    let ask = after(doing(step("ask"), vec![act("Ask", json!({"mark": "ask", "show": "go on?"}))]), &[1]);
    let last = StepPlan {
        phase: 1,
        irreversible: Some("no way back".to_owned()),
        needs: vec![NeedPlan::All(5), NeedPlan::SameHost(vec![1])],
        ..on("last", &["h1", "h2"], 1)
    };
    let unfence = StepPlan { always: Some(Always::OnClose), ..after(step("unfence"), &[6]) };
    plan(vec![flaky, roll, known, unknown, hopeless, ask, last, unfence])
}

trait ParseSpan {
    fn parse_span(&self) -> rke2flow_engine::duration::Span;
}

impl ParseSpan for str {
    fn parse_span(&self) -> rke2flow_engine::duration::Span {
        rke2flow_engine::duration::Span::parse(self).unwrap()
    }
}

/// Runs until the run is closed, each time with a new engine, at most so many times.
async fn drive_to_the_end(scenario: &Scenario) -> Outcome {
    for _ in 0..5 {
        let engine = match Run::resume(Box::new(MemoryJournal::open(scenario.disk.clone()))) {
            Err(RunError::NeverBegun) => {
                let disk = Scenario { world: scenario.world.clone(), ..Scenario::default() };
                let outcome = disk.begin(rich_plan()).gates(Gates::Yes).drive().await.unwrap();
                disk.disk.lines().is_empty().then(|| panic!("nothing was written"));
                return outcome;
            }
            _ => scenario.resume().gates(Gates::Yes),
        };
        match engine.drive().await.unwrap() {
            Outcome::Closed(verdict) => return Outcome::Closed(verdict),
            other => eprintln!("not yet: {other:?}"),
        }
    }
    panic!("the run was not closed after five engines")
}

async fn crash_and_go_on(point: CrashPoint) -> Scenario {
    let scenario = Scenario::new();
    let journal = MemoryJournal::open(scenario.disk.clone()).crash_at(point);
    let clock = rke2flow_engine::clock::Clock::real();
    match Run::begin(Box::new(journal), new_run(rich_plan()), &clock) {
        Ok(run) => {
            let engine = Engine::new(run, std::sync::Arc::new(scenario.world.clone()), clock).gates(Gates::Yes);
            let crashed = engine.drive().await;
            assert!(matches!(crashed, Err(EngineError::Journal(JournalError::Crashed))), "{point:?}: {crashed:?}");
        }
        Err(error) => assert!(matches!(error, RunError::Journal(JournalError::Crashed)), "{error}"),
    }
    let outcome = drive_to_the_end(&scenario).await;
    assert_eq!(outcome, Outcome::Closed(Verdict::Succeeded), "{point:?}");
    scenario
}

#[tokio::test(start_paused = true)]
async fn a_crash_before_or_after_any_record_changes_nothing_about_the_world_in_the_end() {
    let undisturbed = Scenario::new();
    let outcome = undisturbed.begin(rich_plan()).gates(Gates::Yes).drive().await.unwrap();
    assert_eq!(outcome, Outcome::Closed(Verdict::Succeeded));
    let expected: Vec<String> = undisturbed.world.marks().into_keys().collect();
    let records = undisturbed.disk.len() as u64;
    let mut points = 0;
    for seq in 0..records {
        for point in [CrashPoint::Before(seq), CrashPoint::After(seq)] {
            let scenario = crash_and_go_on(point).await;
            points += 1;
            let marks: Vec<String> = scenario.world.marks().into_keys().collect();
            assert_eq!(marks, expected, "{point:?}");
            check_records(&scenario);
        }
    }
    println!("{points} crash points, {records} records");
    assert!(records > 80, "the plan is too small to prove anything: {records} records");
    assert_eq!(points, 2 * records);
}

/// Nothing begins after its end, and a change is never begun anew under the same attempt.
fn check_records(scenario: &Scenario) {
    let mut ended = std::collections::HashSet::new();
    let mut applied = std::collections::HashSet::new();
    for record in scenario.records() {
        match record.event {
            Event::AttemptStarted { instance, attempt } => {
                assert!(!ended.contains(&instance), "{instance} {attempt} began after it had settled");
            }
            Event::ApplyStarted { unit, .. } => {
                assert!(applied.insert(unit.clone()), "{unit} was begun twice");
            }
            Event::Settled { instance, .. } => assert!(ended.insert(instance.clone()), "{instance} settled twice"),
            _ => {}
        }
    }
}

/// A run that failed, and what a person then asks of it: the engine that takes it up dies at any record.
async fn command_survives(command: Command, expected: Verdict, marks: &[&str]) {
    let mut seq = None;
    loop {
        let scenario = Scenario::new();
        let bad = doing(step("bad"), vec![act("Make", json!({"mark": "bad", "fails": 1000}))]);
        let unfence = StepPlan { always: Some(Always::OnClose), ..step("unfence") };
        let steps = vec![bad, after(step("next"), &[0]), unfence];
        assert!(matches!(scenario.drive(plan(steps)).await.unwrap(), Outcome::Failed { .. }));
        let directory = tempfile::tempdir().unwrap();
        let inbox = Inbox::at(directory.path());
        inbox.send(&command, jiff::Timestamp::UNIX_EPOCH).unwrap();
        let at: u64 = *seq.get_or_insert(scenario.disk.len() as u64);
        let journal = MemoryJournal::open(scenario.disk.clone()).crash_at(CrashPoint::After(at));
        let crashed = scenario.resume_from(journal).inbox(inbox.clone()).drive().await;
        if let Ok(outcome) = crashed {
            assert_eq!(outcome, Outcome::Closed(expected), "undisturbed");
            return;
        }
        let outcome = scenario.resume().inbox(inbox.clone()).drive().await.unwrap();
        assert_eq!(outcome, Outcome::Closed(expected.clone()), "after record {at}");
        assert_eq!(scenario.world.marks().into_keys().collect::<Vec<_>>(), marks, "after record {at}");
        let received = scenario.kinds().into_iter().filter(|kind| *kind == "CommandReceived").count();
        assert_eq!((received, inbox.look().len()), (1, 0), "after record {at}");
        seq = Some(at + 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_skip_and_an_abort_are_carried_out_wherever_the_engine_dies_after_receiving_them() {
    let who = || "bob".to_owned();
    let skip = Command::Skip { step: "bad".into(), who: who(), reason: "by hand".into() };
    command_survives(skip, Verdict::Succeeded, &["next@operator", "unfence@operator"]).await;
    let abort = Command::Abort { reason: "enough".into(), who: who() };
    command_survives(abort, Verdict::Aborted, &["unfence@operator"]).await;
}
