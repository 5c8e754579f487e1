//! Giving a run up before the point of no return: what was begun is taken back.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use rke2flow_engine::inbox::Inbox;
use rke2flow_engine::journal::{CrashPoint, MemoryJournal};
use rke2flow_engine::plan::{Always, NeedPlan, Plan, StepPlan};
use rke2flow_engine::record::{Command, Verdict};
use rke2flow_engine::run::{Consent, Consented, Gates, Outcome, Stop};
use rke2flow_engine::state::OpenGate;
use serde_json::json;
use tokio::sync::watch;

use crate::world::{Scenario, act, after, doing, failed, on, plan, step};

fn back(id: &str, step: StepPlan, needs: Vec<NeedPlan>) -> StepPlan {
    StepPlan {
        id: rke2flow_engine::id::StepId::new(id).unwrap(),
        always: Some(Always::OnAbort),
        phase: 1,
        needs,
        ..step
    }
}

/// 0 prepares, 1 stops h1 and h2 one after the other, 2 breaks them, 3 cannot be undone; 4 and 5 are the way back.
fn there_and_back(stops: serde_json::Value) -> Plan {
    let stop = NeedPlan::SameHost(vec![1]);
    plan(vec![
        step("prepare"),
        doing(after(on("stop", &["h1", "h2"], 1), &[0]), vec![act("Make", stops)]),
        after(on("break", &["h1", "h2"], 1), &[1]),
        StepPlan { irreversible: Some("no way back".into()), ..after(step("point"), &[2]) },
        back("mend", on("mend", &["h1", "h2"], 2), vec![NeedPlan::SameHost(vec![2])]),
        back("start", on("start", &["h1", "h2"], 2), vec![stop, NeedPlan::All(4)]),
        StepPlan { always: Some(Always::OnClose), ..after(step("unfence"), &[3]) },
    ])
}

fn easy() -> Plan {
    there_and_back(json!({"mark": "stop"}))
}

fn inbox_with_abort() -> (tempfile::TempDir, Inbox) {
    let directory = tempfile::tempdir().unwrap();
    let inbox = Inbox::at(directory.path());
    let command = Command::Abort { reason: "enough".into(), who: "bob".into() };
    inbox.send(&command, jiff::Timestamp::UNIX_EPOCH).unwrap();
    (directory, inbox)
}

struct Says(Consented);

#[async_trait]
impl Consent for Says {
    async fn ask(&self, gate: &OpenGate) -> Consented {
        assert!(gate.show.contains("no: the state before is put back"), "{}", gate.show);
        self.0.clone()
    }
}

async fn abort(scenario: &Scenario) -> Outcome {
    let (_directory, inbox) = inbox_with_abort();
    scenario.resume().inbox(inbox).drive().await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_run_that_succeeds_takes_nothing_back() {
    let scenario = Scenario::new();
    let outcome = scenario.begin(easy()).gates(Gates::Yes).drive().await.unwrap();
    assert_eq!(outcome, Outcome::Closed(Verdict::Succeeded));
    assert!(!scenario.world.has("start@h1") && !scenario.world.has("mend@h1"));
}

#[tokio::test(start_paused = true)]
async fn an_abort_takes_back_what_was_begun_where_it_was_begun_and_then_closes() {
    let scenario = Scenario::new();
    let fails = there_and_back(json!({"mark": "stop", "fails": 99, "class": "Permanent"}));
    failed(&scenario.begin(fails).gates(Gates::Yes).drive().await.unwrap());
    assert_eq!(abort(&scenario).await, Outcome::Closed(Verdict::Aborted));
    // Nothing was broken, so nothing is mended; h2 was never stopped.
    assert_eq!(scenario.world.log(), ["prepare@operator", "start@h1", "unfence@operator"]);
}

#[tokio::test(start_paused = true)]
async fn an_abort_before_anything_is_begun_takes_nothing_back() {
    let scenario = Scenario::new();
    let mut early = easy();
    early.steps[0].actions = vec![act("Make", json!({"mark": "prepare", "fails": 99, "class": "Permanent"}))];
    failed(&scenario.begin(early).gates(Gates::Yes).drive().await.unwrap());
    assert_eq!(abort(&scenario).await, Outcome::Closed(Verdict::Aborted));
    assert_eq!(scenario.world.log(), ["unfence@operator"]);
}

#[tokio::test(start_paused = true)]
async fn a_no_after_something_was_begun_goes_back_in_order_and_says_so_beforehand() {
    let scenario = Scenario::new();
    let no = Says(Consented::No { who: "bob".into(), reason: "not now".into() });
    let outcome = scenario.begin(easy()).consent(Arc::new(no)).drive().await.unwrap();
    assert_eq!(outcome, Outcome::Closed(Verdict::Aborted));
    let log = scenario.world.log();
    let back = ["mend@h1", "mend@h2", "start@h1", "start@h2", "unfence@operator"];
    assert_eq!(log[log.len() - back.len()..], back);
    assert!(!scenario.world.has("point@operator"));
}

#[tokio::test(start_paused = true)]
async fn past_the_point_an_abort_is_refused_and_the_run_goes_forward() {
    let scenario = Scenario::new();
    let mut plan = easy();
    plan.steps[3].actions = vec![act("Make", json!({"mark": "point", "fails": 1}))];
    failed(&scenario.begin(plan).gates(Gates::Yes).drive().await.unwrap());
    let (_directory, inbox) = inbox_with_abort();
    let outcome = scenario.resume().inbox(inbox).gates(Gates::Yes).drive().await.unwrap();
    assert_eq!(outcome, Outcome::Closed(Verdict::Succeeded));
    assert!(scenario.world.has("point@operator") && !scenario.world.has("start@h1"));
}

#[tokio::test(start_paused = true)]
async fn a_way_back_that_fails_leaves_the_run_open_and_is_gone_on_with() {
    let scenario = Scenario::new();
    let mut plan = easy();
    plan.steps[4].actions = vec![act("Make", json!({"mark": "mend", "fails": 1, "class": "Permanent"}))];
    plan.steps[4].targets = vec![crate::world::host("h1")];
    plan.steps[5].needs = vec![NeedPlan::SameHost(vec![1]), NeedPlan::SameHost(vec![4, 2])];
    plan.steps[3].actions = vec![act("Watch", json!({"mark": "never-there"}))];
    failed(&scenario.begin(plan).gates(Gates::Yes).drive().await.unwrap());
    assert_eq!(failed(&abort(&scenario).await), ["mend/Make@h1"]);
    assert!(scenario.world.has("start@h2"), "the other host goes on");
    assert!(!scenario.world.has("start@h1") && !scenario.world.has("unfence@operator"));
    assert_eq!(scenario.resume().drive().await.unwrap(), Outcome::Closed(Verdict::Aborted));
    assert!(scenario.world.has("start@h1") && scenario.world.has("unfence@operator"));
}

#[tokio::test(start_paused = true)]
async fn an_abort_lets_a_change_that_has_begun_end_and_lets_none_begin() {
    let scenario = Scenario::new();
    let crashed = MemoryJournal::open(scenario.disk.clone());
    let clock = rke2flow_engine::clock::Clock::real();
    let slow = doing(step("slow"), vec![act("Make", json!({"mark": "slow"}))]);
    // The attempt was begun and has not looked yet when the engine goes away.
    let begun =
        |scenario: &Scenario| scenario.kinds().iter().position(|kind| *kind == "AttemptStarted").unwrap() as u64;
    let whole = Scenario::new();
    whole.drive(plan(vec![slow.clone()])).await.unwrap();
    let journal = crashed.crash_at(CrashPoint::After(begun(&whole)));
    let run =
        rke2flow_engine::run::Run::begin(Box::new(journal), crate::world::new_run(plan(vec![slow])), &clock).unwrap();
    let engine = rke2flow_engine::run::Engine::new(run, Arc::new(scenario.world.clone()), clock);
    engine.drive().await.unwrap_err();
    assert_eq!(abort(&scenario).await, Outcome::Closed(Verdict::Aborted));
    assert!(scenario.world.log().is_empty(), "{:?}", scenario.world.log());
}

#[tokio::test(start_paused = true)]
async fn a_way_back_that_is_stopped_at_any_record_comes_to_the_same_end() {
    let stopped = || async {
        let scenario = Scenario::new();
        let mut plan = easy();
        plan.steps[3].actions = vec![act("Watch", json!({"mark": "never-there"}))];
        failed(&scenario.begin(plan).gates(Gates::Yes).drive().await.unwrap());
        scenario
    };
    let whole = stopped().await;
    let from = whole.disk.len() as u64;
    assert_eq!(abort(&whole).await, Outcome::Closed(Verdict::Aborted));
    let expected: Vec<String> = whole.world.marks().into_keys().collect();
    for seq in from..whole.disk.len() as u64 {
        for point in [CrashPoint::Before(seq), CrashPoint::After(seq)] {
            let scenario = stopped().await;
            let (_directory, inbox) = inbox_with_abort();
            let journal = MemoryJournal::open(scenario.disk.clone()).crash_at(point);
            scenario.resume_from(journal).inbox(inbox).drive().await.unwrap_err();
            let outcome = abort(&scenario).await;
            assert_eq!(outcome, Outcome::Closed(Verdict::Aborted), "{point:?}");
            let marks: Vec<String> = scenario.world.marks().into_keys().collect();
            assert_eq!(marks, expected, "{point:?}");
        }
    }
}

/// Hosts that never answer about the claim.
struct Deaf {
    acquires: bool,
}

#[async_trait]
impl rke2flow_engine::run::Claims for Deaf {
    async fn acquire(
        &self,
        run: &rke2flow_engine::id::RunId,
    ) -> Result<rke2flow_engine::action::Claim, rke2flow_engine::run::ClaimError> {
        if !self.acquires {
            std::future::pending::<()>().await;
        }
        rke2flow_engine::run::NoClaims.acquire(run).await
    }

    async fn verify(&self, _: &rke2flow_engine::action::Claim) -> Result<(), rke2flow_engine::run::ClaimError> {
        Ok(())
    }

    async fn release(&self, _: &rke2flow_engine::action::Claim) -> Result<(), rke2flow_engine::run::ClaimError> {
        std::future::pending().await
    }
}

#[tokio::test(start_paused = true)]
async fn a_person_who_stops_is_heard_while_the_claim_is_taken_and_while_it_is_given_back() {
    for acquires in [false, true] {
        let scenario = Scenario::new();
        let (stop, stopping) = watch::channel(Stop::Run);
        let engine = scenario.begin(plan(vec![step("one")])).claims(Arc::new(Deaf { acquires })).stop(stopping);
        let running = tokio::spawn(engine.drive());
        tokio::time::sleep(Duration::from_secs(1)).await;
        let before = tokio::time::Instant::now();
        stop.send(Stop::Drain).unwrap();
        assert_eq!(running.await.unwrap().unwrap(), Outcome::Stopped { going_on: Vec::new() });
        assert!(before.elapsed() < Duration::from_secs(1), "acquires {acquires}");
        assert_eq!(scenario.resume().drive().await.unwrap(), Outcome::Closed(Verdict::Succeeded));
    }
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_the_hosts_refuse_stops_whatever_its_steps_are_worth() {
    let scenario = Scenario::new();
    let fenced = vec![act("Make", json!({"mark": "fenced", "fails": 99, "class": "Fenced"}))];
    let best_effort =
        StepPlan { best_effort: Some(rke2flow_engine::duration::Span::from_secs(9)), ..doing(step("fenced"), fenced) };
    let mut plan = plan(vec![best_effort, after(step("next"), &[0])]);
    plan.on_failure = rke2flow_engine::plan::OnFailure::Finish;
    assert_eq!(failed(&scenario.drive(plan).await.unwrap()), ["fenced/Make@operator"]);
    assert!(scenario.world.log().is_empty());
}

struct SaysYesLater;

#[async_trait]
impl Consent for SaysYesLater {
    async fn ask(&self, _gate: &OpenGate) -> Consented {
        tokio::time::sleep(Duration::from_secs(60)).await;
        Consented::Yes { who: "bob".into() }
    }
}

#[tokio::test(start_paused = true)]
async fn a_failure_elsewhere_does_not_end_the_drive_while_a_person_is_asked() {
    let scenario = Scenario::new();
    let bad = doing(step("bad"), vec![act("Make", json!({"mark": "bad", "fails": 99, "class": "Permanent"}))]);
    let ask = doing(step("ask"), vec![act("Ask", json!({"mark": "ask", "show": "go on?"}))]);
    let mut plan = plan(vec![bad, ask, after(step("next"), &[1])]);
    plan.on_failure = rke2flow_engine::plan::OnFailure::Finish;
    let outcome = scenario.begin(plan).consent(Arc::new(SaysYesLater)).drive().await.unwrap();
    assert_eq!(failed(&outcome), ["bad/Make@operator"]);
    assert!(scenario.world.has("next@operator"));
}
