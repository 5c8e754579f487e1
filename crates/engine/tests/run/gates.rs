//! Where a person decides.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use rke2flow_engine::inbox::Inbox;
use rke2flow_engine::plan::StepPlan;
use rke2flow_engine::record::{Command, Event, Verdict};
use rke2flow_engine::run::{Consent, Consented, Gates, Outcome};
use rke2flow_engine::state::OpenGate;
use serde_json::json;

use crate::world::{Scenario, act, after, doing, failed, on, plan, step};

fn gated() -> rke2flow_engine::plan::Plan {
    let ask = doing(step("ask"), vec![act("Ask", json!({"mark": "m", "show": "really, ${run.id}?"}))]);
    plan(vec![ask, after(step("next"), &[0])])
}

struct Says(Consented);

#[async_trait]
impl Consent for Says {
    async fn ask(&self, _gate: &OpenGate) -> Consented {
        self.0.clone()
    }
}

struct NeverAnswers;

#[async_trait]
impl Consent for NeverAnswers {
    async fn ask(&self, _gate: &OpenGate) -> Consented {
        std::future::pending().await
    }
}

fn approve(step: &str) -> Command {
    Command::Approve { step: step.to_owned(), who: "bob".to_owned(), reason: "fine".to_owned() }
}

#[tokio::test(start_paused = true)]
async fn without_a_person_the_run_stops_at_the_gate_at_once_and_goes_on_once_it_is_approved() {
    let scenario = Scenario::new();
    let directory = tempfile::tempdir().unwrap();
    let inbox = Inbox::at(directory.path());
    let before = tokio::time::Instant::now();
    let outcome = scenario.begin(gated()).drive().await.unwrap();
    let Outcome::WaitingAtGate { gates } = outcome else { panic!("{outcome:?}") };
    assert_eq!((gates[0].step.as_str(), gates[0].show.as_str()), ("ask", "really, 261122-0312-k7q2?"));
    assert!(before.elapsed().as_secs() < 1);
    inbox.send(&approve("ask"), jiff::Timestamp::UNIX_EPOCH).unwrap();
    let outcome = scenario.resume().inbox(inbox.clone()).drive().await.unwrap();
    assert_eq!(outcome, Outcome::Closed(Verdict::Succeeded));
    assert!(inbox.look().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_person_at_the_keyboard_is_asked_and_a_no_fails_the_step_until_it_is_asked_anew() {
    let scenario = Scenario::new();
    let no = Says(Consented::No { who: "alice".into(), reason: "not now".into() });
    let outcome = scenario.begin(gated()).consent(Arc::new(no)).drive().await.unwrap();
    assert_eq!(failed(&outcome), ["ask/Ask@operator"]);
    assert!(!scenario.world.has("next@operator"));
    let yes = Says(Consented::Yes { who: "alice".into() });
    let outcome = scenario.resume().consent(Arc::new(yes)).drive().await.unwrap();
    assert_eq!(outcome, Outcome::Closed(Verdict::Succeeded));
}

#[tokio::test(start_paused = true)]
async fn an_answer_through_the_inbox_ends_the_question_at_the_keyboard() {
    let scenario = Scenario::new();
    let directory = tempfile::tempdir().unwrap();
    let inbox = Inbox::at(directory.path());
    let engine = scenario.begin(gated()).consent(Arc::new(NeverAnswers)).inbox(inbox.clone());
    let running = tokio::spawn(engine.drive());
    tokio::time::sleep(std::time::Duration::from_secs(3)).await;
    assert!(!running.is_finished(), "somebody is being asked");
    inbox.send(&approve("ask"), jiff::Timestamp::UNIX_EPOCH).unwrap();
    assert_eq!(running.await.unwrap().unwrap(), Outcome::Closed(Verdict::Succeeded));
}

#[tokio::test(start_paused = true)]
async fn an_irreversible_step_asks_once_before_its_first_action_on_any_target() {
    let scenario = Scenario::new();
    let roll = StepPlan { irreversible: Some("no way back".into()), ..on("roll", &["h1", "h2", "h3"], 2) };
    let outcome = scenario.begin(plan(vec![roll.clone()])).drive().await.unwrap();
    assert!(matches!(&outcome, Outcome::WaitingAtGate { gates } if gates.len() == 1 && gates[0].show == "no way back"));
    assert!(scenario.world.log().is_empty());
    assert_eq!(scenario.attempts().len(), 0);

    let scenario = Scenario::new();
    let outcome = scenario.begin(plan(vec![roll])).gates(Gates::Yes).drive().await.unwrap();
    assert_eq!(outcome, Outcome::Closed(Verdict::Succeeded));
    let decided = scenario
        .records()
        .into_iter()
        .filter(|record| matches!(&record.event, Event::GateDecided { who, .. } if who == "--yes"));
    assert_eq!(decided.count(), 1);
}

struct Confused;

#[async_trait]
impl Consent for Confused {
    async fn ask(&self, _gate: &OpenGate) -> Consented {
        tokio::time::sleep(Duration::from_secs(5)).await;
        panic!("the terminal is gone")
    }
}

#[tokio::test(start_paused = true)]
async fn a_prompt_that_panics_leaves_the_run_at_its_gate_instead_of_waiting_for_ever() {
    let scenario = Scenario::new();
    let steps = vec![StepPlan { irreversible: Some("no way back".to_owned()), ..step("point") }];
    let engine = scenario.begin(plan(steps)).consent(Arc::new(Confused));
    let outcome = tokio::time::timeout(Duration::from_secs(600), engine.drive()).await;
    assert!(matches!(outcome, Ok(Ok(Outcome::WaitingAtGate { .. }))), "{outcome:?}");
}
