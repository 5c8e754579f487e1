//! What people ask of a run while it runs, and while it does not.

use std::time::Duration;

use rke2flow_engine::id::{InstanceId, PhaseId};
use rke2flow_engine::inbox::Inbox;
use rke2flow_engine::plan::{PhasePlan, StepPlan};
use rke2flow_engine::record::{Cause, Command, Event, Record, Verdict};
use rke2flow_engine::report::Report;
use rke2flow_engine::run::{Observer, Outcome};
use rke2flow_engine::state::State;
use serde_json::json;
use std::sync::{Arc, Mutex};

use crate::world::{Scenario, act, after, doing, failed, plan, step};

fn bob() -> String {
    "bob".to_owned()
}

fn slow(id: &str) -> StepPlan {
    doing(step(id), vec![act("Make", json!({"mark": id, "takes": 10}))])
}

fn broken(id: &str) -> StepPlan {
    doing(step(id), vec![act("Make", json!({"mark": id, "fails": 1, "class": "Permanent"}))])
}

struct Post {
    _directory: tempfile::TempDir,
    inbox: Inbox,
    sent: std::cell::Cell<i64>,
}

impl Post {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        Self { inbox: Inbox::at(directory.path()), _directory: directory, sent: 0.into() }
    }

    fn send(&self, command: Command) {
        self.sent.set(self.sent.get() + 1);
        self.inbox.send(&command, jiff::Timestamp::from_second(self.sent.get()).unwrap()).unwrap();
    }
}

#[derive(Clone, Default)]
struct Notices(Arc<Mutex<Vec<String>>>);

impl Observer for Notices {
    fn record(&mut self, _record: &Record, _state: &State) {}

    fn hint(&mut self, _instance: &InstanceId, _hint: &str) {}

    fn notice(&mut self, text: &str) {
        self.0.lock().unwrap().push(text.to_owned());
    }
}

#[tokio::test(start_paused = true)]
async fn a_pause_lets_what_runs_end_and_a_resume_goes_on() {
    let (scenario, post) = (Scenario::new(), Post::new());
    let engine = scenario.begin(plan(vec![slow("one"), after(slow("two"), &[0])])).inbox(post.inbox.clone());
    let running = tokio::spawn(engine.drive());
    tokio::time::sleep(Duration::from_secs(2)).await;
    post.send(Command::Pause { reason: "lunch".into(), who: bob() });
    assert_eq!(running.await.unwrap().unwrap(), Outcome::Paused { why: "bob: lunch".into() });
    assert_eq!(scenario.world.log(), ["one@operator"]);
    let outcome = scenario.resume().inbox(post.inbox.clone()).drive().await.unwrap();
    assert_eq!(outcome, Outcome::Closed(Verdict::Succeeded));
    assert!(scenario.kinds().contains(&"Continued"));
}

#[tokio::test(start_paused = true)]
async fn a_pause_that_is_taken_back_in_time_changes_nothing() {
    let (scenario, post) = (Scenario::new(), Post::new());
    let engine = scenario.begin(plan(vec![slow("one"), after(slow("two"), &[0])])).inbox(post.inbox.clone());
    let running = tokio::spawn(engine.drive());
    tokio::time::sleep(Duration::from_secs(2)).await;
    post.send(Command::Pause { reason: String::new(), who: bob() });
    tokio::time::sleep(Duration::from_secs(2)).await;
    post.send(Command::Continue { who: bob() });
    assert_eq!(running.await.unwrap().unwrap(), Outcome::Closed(Verdict::Succeeded));
}

#[tokio::test(start_paused = true)]
async fn a_failed_step_can_be_skipped_and_what_needs_it_goes_on() {
    let (scenario, post) = (Scenario::new(), Post::new());
    let steps = vec![broken("bad"), after(step("next"), &[0])];
    failed(&scenario.drive(plan(steps)).await.unwrap());
    post.send(Command::Skip { step: "bad".into(), who: bob(), reason: "done by hand".into() });
    let outcome = scenario.resume().inbox(post.inbox.clone()).drive().await.unwrap();
    assert_eq!(outcome, Outcome::Closed(Verdict::Succeeded));
    assert_eq!(scenario.world.log(), ["next@operator"]);
    let by = scenario.records().into_iter().find_map(|record| match record.event {
        Event::Skipped { by, why, .. } => Some((by, why)),
        _ => None,
    });
    assert_eq!(by, Some((Cause::Person(bob()), "done by hand".to_owned())));
}

#[tokio::test(start_paused = true)]
async fn safety_and_irreversible_steps_are_not_skipped_and_the_person_is_told() {
    for (safety, irreversible) in [(true, None), (false, Some("no way back".to_owned()))] {
        let (scenario, post, notices) = (Scenario::new(), Post::new(), Notices::default());
        let guarded = StepPlan { safety, irreversible, ..step("guarded") };
        post.send(Command::Skip { step: "guarded".into(), who: bob(), reason: String::new() });
        post.send(Command::Retry { step: "nowhere".into(), who: bob() });
        let engine = scenario.begin(plan(vec![guarded])).inbox(post.inbox.clone());
        engine.gates(rke2flow_engine::run::Gates::Yes).observe(Box::new(notices.clone())).drive().await.unwrap();
        assert!(scenario.world.has("guarded@operator"));
        let told = notices.0.lock().unwrap().clone();
        assert!(told[0].contains("cannot be skipped") && told[1].contains("neither a step"), "{told:?}");
        assert_eq!(scenario.kinds().iter().filter(|kind| **kind == "CommandReceived").count(), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn a_retry_tries_a_failed_step_again_while_others_run() {
    let (scenario, post) = (Scenario::new(), Post::new());
    let engine = scenario.begin(plan(vec![broken("bad"), slow("slow")])).inbox(post.inbox.clone());
    let running = tokio::spawn(engine.drive());
    tokio::time::sleep(Duration::from_secs(2)).await;
    post.send(Command::Retry { step: "bad/Make@operator".into(), who: bob() });
    assert_eq!(running.await.unwrap().unwrap(), Outcome::Closed(Verdict::Succeeded));
    assert!(scenario.attempts().contains(&"bad/Make@operator 2".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn a_command_is_taken_once_even_if_its_file_stays() {
    let (scenario, post) = (Scenario::new(), Post::new());
    failed(&scenario.drive(plan(vec![broken("bad"), after(slow("next"), &[0])])).await.unwrap());
    post.send(Command::Pause { reason: String::new(), who: bob() });
    let id = post.inbox.look()[0].id.clone();
    let paused = scenario.resume().inbox(post.inbox.clone()).drive().await.unwrap();
    assert_eq!(paused, Outcome::Paused { why: "bob".into() });
    // As if the engine had died between writing it down and removing the file.
    let again = post
        .inbox
        .send(&Command::Pause { reason: String::new(), who: bob() }, jiff::Timestamp::from_second(1).unwrap());
    assert_eq!(again.unwrap(), id);
    let outcome = scenario.resume().inbox(post.inbox.clone()).drive().await.unwrap();
    assert_eq!(outcome, Outcome::Closed(Verdict::Succeeded));
}

#[tokio::test(start_paused = true)]
async fn a_step_that_is_skipped_before_its_turn_lets_nothing_start_earlier() {
    let (scenario, post) = (Scenario::new(), Post::new());
    let steps = vec![slow("one"), after(slow("two"), &[0]), after(step("three"), &[1])];
    let engine = scenario.begin(plan(steps)).inbox(post.inbox.clone());
    let running = tokio::spawn(engine.drive());
    tokio::time::sleep(Duration::from_secs(2)).await;
    post.send(Command::Skip { step: "two".into(), who: bob(), reason: "not today".into() });
    assert_eq!(running.await.unwrap().unwrap(), Outcome::Closed(Verdict::Succeeded));
    assert_eq!(scenario.world.log(), ["one@operator", "three@operator"]);
}

#[tokio::test(start_paused = true)]
async fn a_retry_that_a_skip_overtakes_is_forgotten() {
    let (scenario, post) = (Scenario::new(), Post::new());
    let bad = act("Make", json!({"mark": "bad", "fails": 9, "class": "Permanent"}));
    let flaky = act("Make", json!({"mark": "flaky", "fails": 1}));
    let steps = vec![doing(step("both"), vec![bad, flaky]), slow("slow")];
    let engine = scenario.begin(plan(steps)).inbox(post.inbox.clone());
    let running = tokio::spawn(engine.drive());
    tokio::time::sleep(Duration::from_secs(2)).await;
    let instance = scenario.attempts().iter().find_map(|attempt| attempt.strip_suffix(" 1").map(str::to_owned));
    let instance = instance.filter(|name| name.starts_with("both/")).unwrap();
    post.send(Command::Retry { step: instance.clone(), who: bob() });
    post.send(Command::Skip { step: instance, who: bob(), reason: "by hand".into() });
    assert_eq!(running.await.unwrap().unwrap(), Outcome::Closed(Verdict::Succeeded));
    let by = scenario.records().into_iter().filter_map(|record| match record.event {
        Event::RetryScheduled { by, .. } => Some(by),
        _ => None,
    });
    assert_eq!(by.collect::<Vec<_>>(), [Cause::Engine]);
}

#[tokio::test(start_paused = true)]
async fn an_outage_whose_last_phase_is_skipped_whole_is_over() {
    let (scenario, post) = (Scenario::new(), Post::new());
    let mut plan = plan(vec![slow("one"), after(slow("two"), &[0])]);
    (plan.steps[0].phase, plan.steps[1].phase) = (1, 2);
    let last = PhasePlan { id: PhaseId::new("last").unwrap(), ..plan.phases[1].clone() };
    plan.phases.push(last);
    let running = tokio::spawn(scenario.begin(plan).inbox(post.inbox.clone()).drive());
    tokio::time::sleep(Duration::from_secs(2)).await;
    post.send(Command::Skip { step: "two".into(), who: bob(), reason: "not needed".into() });
    assert_eq!(running.await.unwrap().unwrap(), Outcome::Closed(Verdict::Succeeded));
    let recovery = Report::of(&scenario.records()).unwrap().recovery.unwrap();
    assert!(recovery.ended_at.is_some() && recovery.seconds < 12.0, "{recovery:?}");
}
