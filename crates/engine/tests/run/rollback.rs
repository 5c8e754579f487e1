//! `on_failure: Rollback`: a run that failed asks whether it is to be rolled back, and another run does it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use rke2flow_engine::clock::Clock;
use rke2flow_engine::id::RunId;
use rke2flow_engine::inbox::Inbox;
use rke2flow_engine::journal::{CrashPoint, JournalError, MemoryJournal};
use rke2flow_engine::plan::{OnFailure, Plan};
use rke2flow_engine::record::{Command, Event, RunOpened, Verdict};
use rke2flow_engine::run::{Consent, Consented, Engine, EngineError, Gates, NewRun, Outcome, RollbackOffer, Run};
use rke2flow_engine::state::{OpenGate, Rollback, State};
use serde_json::json;

use crate::world::{Scenario, act, doing, failed, new_run, plan, step};

/// A step that fails so often, and one beside it that takes its time.
fn failing(times: u32) -> Plan {
    let bad = doing(step("bad"), vec![act("Make", json!({"mark": "bad", "fails": times, "class": "Permanent"}))]);
    let slow = doing(step("slow"), vec![act("Make", json!({"mark": "slow", "takes": 20}))]);
    Plan { on_failure: OnFailure::Rollback, ..plan(vec![bad, slow]) }
}

/// Says that it is possible, or not, and counts how often it is asked and what was under way then.
#[derive(Default)]
struct Offers {
    impossible: Option<&'static str>,
    asked: AtomicUsize,
    busy: AtomicUsize,
}

#[async_trait]
impl RollbackOffer for Offers {
    async fn offer(&self, _opened: &RunOpened, state: &State) -> Result<String, String> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        self.busy.fetch_add(state.in_flight().len(), Ordering::SeqCst);
        self.impossible.map_or_else(|| Ok("go back?".to_owned()), |why| Err(why.to_owned()))
    }
}

fn offering(engine: Engine) -> (Engine, Arc<Offers>) {
    let offers = Arc::new(Offers::default());
    (engine.rollback(offers.clone()), offers)
}

struct Says(Consented);

#[async_trait]
impl Consent for Says {
    async fn ask(&self, gate: &OpenGate) -> Consented {
        assert_eq!((gate.step.as_str(), gate.show.as_str()), ("rollback", "go back?"));
        self.0.clone()
    }
}

fn approve() -> Command {
    Command::Approve { step: "rollback".to_owned(), who: "bob".to_owned(), reason: String::new() }
}

#[tokio::test(start_paused = true)]
async fn a_rollback_is_offered_when_nothing_is_under_way_and_without_a_person_the_run_waits_for_consent() {
    let scenario = Scenario::new();
    let (engine, offers) = offering(scenario.begin(failing(1)));
    let outcome = engine.drive().await.unwrap();
    let Outcome::WaitingAtGate { gates } = outcome else { panic!("{outcome:?}") };
    assert_eq!((gates[0].step.as_str(), gates[0].show.as_str()), ("rollback", "go back?"));
    assert!(scenario.world.has("slow@operator"), "what had begun came to its end");
    assert_eq!((offers.asked.load(Ordering::SeqCst), offers.busy.load(Ordering::SeqCst)), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn yes_at_every_gate_is_no_consent_to_a_rollback_and_consent_beforehand_is() {
    let scenario = Scenario::new();
    let outcome = offering(scenario.begin(failing(1)).gates(Gates::Yes)).0.drive().await.unwrap();
    assert!(matches!(outcome, Outcome::WaitingAtGate { .. }), "{outcome:?}");

    let scenario = Scenario::new();
    let new = new_run(failing(1));
    let new = NewRun { opened: RunOpened { rollback: true, ..new.opened.clone() }, ..new };
    assert_eq!(offering(scenario.begin_with(new)).0.drive().await.unwrap(), Outcome::RollBack);
    let said = scenario.records().into_iter().find_map(|record| match record.event {
        Event::RollbackDecided { approved: true, who, .. } => Some(who),
        _ => None,
    });
    assert_eq!(said.unwrap(), "test, by --on-failure rollback");
}

#[tokio::test(start_paused = true)]
async fn a_person_at_the_keyboard_decides_and_a_no_holds_the_run() {
    let yes = Says(Consented::Yes { who: "alice".into() });
    let scenario = Scenario::new();
    let outcome = offering(scenario.begin(failing(1))).0.consent(Arc::new(yes)).drive().await.unwrap();
    assert_eq!(outcome, Outcome::RollBack);

    let no = Says(Consented::No { who: "alice".into(), reason: "not now".into() });
    let scenario = Scenario::new();
    let outcome = offering(scenario.begin(failing(1))).0.consent(Arc::new(no)).drive().await.unwrap();
    assert_eq!(failed(&outcome), ["bad/Make@operator"]);
    assert_eq!(scenario.resume().drive().await.unwrap(), Outcome::Closed(Verdict::Succeeded));
}

#[tokio::test(start_paused = true)]
async fn an_approval_that_comes_while_nobody_drives_counts_and_a_resume_without_one_tries_again() {
    let directory = tempfile::tempdir().unwrap();
    let inbox = Inbox::at(directory.path());
    let scenario = Scenario::new();
    offering(scenario.begin(failing(1))).0.drive().await.unwrap();
    inbox.send(&approve(), jiff::Timestamp::UNIX_EPOCH).unwrap();
    let (engine, offers) = offering(scenario.resume().inbox(inbox.clone()));
    assert_eq!(engine.drive().await.unwrap(), Outcome::RollBack);
    assert_eq!((offers.asked.load(Ordering::SeqCst), scenario.attempts().len()), (0, 2), "nothing was tried again");

    let scenario = Scenario::new();
    offering(scenario.begin(failing(1))).0.drive().await.unwrap();
    let outcome = offering(scenario.resume()).0.drive().await.unwrap();
    assert_eq!(outcome, Outcome::Closed(Verdict::Succeeded));
}

#[tokio::test(start_paused = true)]
async fn what_fails_again_after_a_resume_is_offered_again() {
    let scenario = Scenario::new();
    offering(scenario.begin(failing(2))).0.drive().await.unwrap();
    let (engine, offers) = offering(scenario.resume());
    assert!(matches!(engine.drive().await.unwrap(), Outcome::WaitingAtGate { .. }));
    assert_eq!(offers.asked.load(Ordering::SeqCst), 1);
}

struct NeverAnswers;

#[async_trait]
impl Consent for NeverAnswers {
    async fn ask(&self, _gate: &OpenGate) -> Consented {
        std::future::pending().await
    }
}

#[tokio::test(start_paused = true)]
async fn a_retry_and_an_abort_withdraw_the_offer_while_a_person_is_asked() {
    let retry = Command::Retry { step: "bad".to_owned(), who: "bob".to_owned() };
    let abort = Command::Abort { reason: String::new(), who: "bob".to_owned() };
    for (command, verdict) in [(retry, Verdict::Succeeded), (abort, Verdict::Aborted)] {
        let directory = tempfile::tempdir().unwrap();
        let inbox = Inbox::at(directory.path());
        let scenario = Scenario::new();
        let engine = scenario.begin(failing(1)).consent(Arc::new(NeverAnswers)).inbox(inbox.clone());
        let running = tokio::spawn(offering(engine).0.drive());
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert!(!running.is_finished(), "somebody is being asked");
        inbox.send(&command, jiff::Timestamp::UNIX_EPOCH).unwrap();
        assert_eq!(running.await.unwrap().unwrap(), Outcome::Closed(verdict));
    }
}

#[tokio::test(start_paused = true)]
async fn a_rollback_that_is_not_possible_is_not_offered_and_the_run_says_why() {
    let scenario = Scenario::new();
    let offers = Arc::new(Offers { impossible: Some("no point"), ..Offers::default() });
    let outcome = scenario.begin(failing(1)).rollback(offers).drive().await.unwrap();
    assert_eq!(failed(&outcome), ["bad/Make@operator"]);
    let stopped = scenario.records().into_iter().find_map(|record| match record.event {
        Event::EngineStopped { why } => Some(why),
        _ => None,
    });
    assert_eq!(stopped.unwrap(), "failed: bad/Make@operator; no rollback: no point");
    assert!(!scenario.kinds().contains(&"RollbackOffered"));
}

#[tokio::test(start_paused = true)]
async fn other_plans_and_other_operators_failures_offer_nothing() {
    let held = Plan { on_failure: OnFailure::Hold, ..failing(1) };
    let mut fenced = failing(1);
    fenced.steps[0].actions[0].fields["class"] = "Fenced".into();
    for plan in [held, fenced] {
        let (engine, offers) = offering(Scenario::new().begin(plan));
        assert!(matches!(engine.drive().await.unwrap(), Outcome::Failed { .. }));
        assert_eq!(offers.asked.load(Ordering::SeqCst), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn the_journal_says_which_run_rolls_back_before_that_run_exists_and_the_last_one_counts() {
    let scenario = Scenario::new();
    let open = |scenario: &Scenario| Run::resume(Box::new(MemoryJournal::open(scenario.disk.clone()))).unwrap();
    let child = |name: &str| RunId::new(name).unwrap();
    offering(scenario.begin(failing(1))).0.drive().await.unwrap();
    assert!(open(&scenario).begin_rollback(child("a-child"), &Clock::real()).is_err(), "nobody consented");

    let yes = Says(Consented::Yes { who: "alice".into() });
    let scenario = Scenario::new();
    offering(scenario.begin(failing(1))).0.consent(Arc::new(yes)).drive().await.unwrap();
    for name in ["a-child", "another"] {
        open(&scenario).begin_rollback(child(name), &Clock::real()).unwrap();
    }
    let run = open(&scenario);
    assert_eq!(run.replayed().state.rollback(), &Rollback::Began { run: child("another") });
    assert_eq!(scenario.resume().drive().await.unwrap(), Outcome::RollBack, "an engine does nothing more");
}

/// Drives with new engines until one says that the run is rolled back.
async fn drive_to_the_rollback(scenario: &Scenario) {
    for _ in 0..5 {
        match offering(scenario.resume()).0.drive().await.unwrap() {
            Outcome::RollBack => return,
            other => eprintln!("not yet: {other:?}"),
        }
    }
    panic!("the run was not rolled back after five engines");
}

#[tokio::test(start_paused = true)]
async fn a_crash_before_or_after_any_record_ends_in_one_consent_to_a_rollback() {
    let consenting = || {
        let new = new_run(failing(99));
        NewRun { opened: RunOpened { rollback: true, ..new.opened.clone() }, ..new }
    };
    let undisturbed = Scenario::new();
    assert_eq!(offering(undisturbed.begin_with(consenting())).0.drive().await.unwrap(), Outcome::RollBack);
    let opening = undisturbed.kinds().iter().position(|kind| *kind == "EngineStarted").unwrap() as u64;
    for seq in opening..undisturbed.disk.len() as u64 {
        for point in [CrashPoint::Before(seq), CrashPoint::After(seq)] {
            let scenario = Scenario::new();
            let journal = MemoryJournal::open(scenario.disk.clone()).crash_at(point);
            let run = Run::begin(Box::new(journal), consenting(), &Clock::real()).unwrap();
            let engine = Engine::new(run, Arc::new(scenario.world.clone()), Clock::real());
            let crashed = offering(engine).0.drive().await;
            assert!(matches!(crashed, Err(EngineError::Journal(JournalError::Crashed))), "{point:?}: {crashed:?}");
            drive_to_the_rollback(&scenario).await;
            let kinds = scenario.kinds();
            let decided = kinds.iter().filter(|kind| **kind == "RollbackDecided").count();
            assert_eq!(decided, 1, "{point:?}: {kinds:?}");
            assert!(scenario.world.has("slow@operator"), "{point:?}");
        }
    }
}
