//! How a run is closed, and what runs only then.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use rke2flow_engine::action::Claim;
use rke2flow_engine::id::RunId;
use rke2flow_engine::inbox::Inbox;
use rke2flow_engine::plan::{Always, StepPlan};
use rke2flow_engine::record::{Command, Verdict};
use rke2flow_engine::run::{ClaimError, Claims, EngineError, Gates, Outcome};
use serde_json::json;

use crate::world::{Scenario, act, after, doing, failed, plan, step};

fn on_close(id: &str, needs: &[usize]) -> StepPlan {
    StepPlan { always: Some(Always::OnClose), ..after(step(id), needs) }
}

fn abort(inbox: &Inbox) {
    let command = Command::Abort { reason: "enough".into(), who: "bob".into() };
    inbox.send(&command, jiff::Timestamp::UNIX_EPOCH).unwrap();
}

/// Remembers what was asked of it, and refuses when told to.
#[derive(Default)]
struct Hosts {
    calls: Mutex<Vec<&'static str>>,
    lost: bool,
    held: bool,
}

#[async_trait]
impl Claims for Hosts {
    async fn acquire(&self, run: &RunId) -> Result<Claim, ClaimError> {
        self.calls.lock().unwrap().push("acquire");
        if self.held {
            let (holder, since, run) = ("eve@desk".into(), "03:00".into(), "261122-0300-aaaa".into());
            return Err(ClaimError::HeldBy { holder, since, run });
        }
        Ok(Claim { number: 8, holder: "alice".into(), run: run.clone(), cluster: "toys".into() })
    }

    async fn verify(&self, _claim: &Claim) -> Result<(), ClaimError> {
        self.calls.lock().unwrap().push("verify");
        match self.lost {
            true => Err(ClaimError::HeldBy { holder: "eve".into(), since: "now".into(), run: "r".into() }),
            false => Ok(()),
        }
    }

    async fn release(&self, _claim: &Claim) -> Result<(), ClaimError> {
        self.calls.lock().unwrap().push("release");
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn steps_on_close_run_last_when_all_went_well_and_then_the_claim_is_released() {
    let (scenario, hosts) = (Scenario::new(), Arc::new(Hosts::default()));
    let steps = vec![on_close("unfence", &[1]), step("work")];
    let outcome = scenario.begin(plan(steps)).claims(hosts.clone()).drive().await.unwrap();
    assert_eq!(outcome, Outcome::Closed(Verdict::Succeeded));
    assert_eq!(scenario.world.log(), ["work@operator", "unfence@operator"]);
    assert_eq!(*hosts.calls.lock().unwrap(), ["acquire", "release"]);
    assert!(scenario.records().iter().skip(8).all(|record| record.claim == 8));
}

#[tokio::test(start_paused = true)]
async fn an_abort_lets_what_runs_end_starts_nothing_else_and_takes_down_what_the_run_has() {
    let scenario = Scenario::new();
    let directory = tempfile::tempdir().unwrap();
    let inbox = Inbox::at(directory.path());
    let slow = doing(step("slow"), vec![act("Make", json!({"mark": "slow", "takes": 10}))]);
    let steps = vec![slow, after(step("never"), &[0]), on_close("unfence", &[1])];
    let running = tokio::spawn(scenario.begin(plan(steps)).inbox(inbox.clone()).drive());
    tokio::time::sleep(Duration::from_secs(1)).await;
    abort(&inbox);
    assert_eq!(running.await.unwrap().unwrap(), Outcome::Closed(Verdict::Aborted));
    assert_eq!(scenario.world.log(), ["slow@operator", "unfence@operator"]);
}

#[tokio::test(start_paused = true)]
async fn a_failed_run_is_not_closed_until_it_is_aborted() {
    let scenario = Scenario::new();
    let directory = tempfile::tempdir().unwrap();
    let inbox = Inbox::at(directory.path());
    let bad = doing(step("bad"), vec![act("Make", json!({"mark": "bad", "fails": 99}))]);
    failed(&scenario.drive(plan(vec![bad, on_close("unfence", &[0])])).await.unwrap());
    assert!(!scenario.world.has("unfence@operator"));
    abort(&inbox);
    let outcome = scenario.resume().inbox(inbox).drive().await.unwrap();
    assert_eq!(outcome, Outcome::Closed(Verdict::Aborted));
    assert!(scenario.world.has("unfence@operator"));
    // A closed run says so, and does nothing.
    let records = scenario.disk.len();
    assert_eq!(scenario.resume().drive().await.unwrap(), Outcome::Closed(Verdict::Aborted));
    assert_eq!(scenario.disk.len(), records);
}

#[tokio::test(start_paused = true)]
async fn a_cluster_that_another_operator_holds_is_left_alone() {
    let scenario = Scenario::new();
    let hosts = Hosts { held: true, ..Hosts::default() };
    let error = scenario.begin(plan(vec![step("work")])).claims(Arc::new(hosts)).drive().await.unwrap_err();
    assert!(matches!(&error, EngineError::Claim(ClaimError::HeldBy { holder, .. }) if holder == "eve@desk"), "{error}");
    assert!(scenario.world.log().is_empty());
}

#[tokio::test(start_paused = true)]
async fn the_claim_is_read_again_before_what_cannot_be_undone() {
    let scenario = Scenario::new();
    let hosts = Arc::new(Hosts { lost: true, ..Hosts::default() });
    let last = StepPlan { irreversible: Some("no way back".into()), ..step("last") };
    let engine = scenario.begin(plan(vec![last])).claims(hosts).gates(Gates::Yes);
    assert_eq!(failed(&engine.drive().await.unwrap()), ["last/Make@operator"]);
    assert!(scenario.world.log().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_run_whose_place_another_one_takes_is_closed_without_an_engine() {
    use rke2flow_engine::clock::Clock;
    use rke2flow_engine::journal::MemoryJournal;
    use rke2flow_engine::run::Run;
    let scenario = Scenario::new();
    let bad = doing(step("bad"), vec![act("Make", json!({"mark": "bad", "fails": 99}))]);
    failed(&scenario.drive(plan(vec![bad])).await.unwrap());
    let by = RunId::new("261122-0400-abcd").unwrap();
    let run = Run::resume(Box::new(MemoryJournal::open(scenario.disk.clone()))).unwrap();
    run.close(Verdict::Superseded { by: by.clone() }, "a rollback took its place", &Clock::real()).unwrap();
    assert_eq!(scenario.resume().drive().await.unwrap(), Outcome::Closed(Verdict::Superseded { by }));
}
