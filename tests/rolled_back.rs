//! An upgrade that fails on server 2 of 3 and is rolled back by another run, with consent; cut off at the hand-over and
//! gone on with.

use std::fs;
use std::time::Duration;

use rke2flow_engine::clock::Clock;
use rke2flow_engine::id::RunId;
use rke2flow_engine::run::Run;
use rke2flow_twin::serve::Ask;
use serde_json::{Value, json};

use crate::collector::Collector;
use crate::scenario::Scenario;

/// Three servers and an agent, not so fast that a busy machine misses deadlines; the second server's binary cannot be replaced, as often as an upgrade tries.
fn failing() -> Scenario {
    let scenario = Scenario::with_twin_of(&["--servers", "3", "--agents", "1", "--speed", "40"]);
    let fault = json!({ "host": "server-1", "change": "InstallVersion", "stage": 0, "times": 3 });
    scenario.ask_twin(Ask::Fault, json!({ "UnitFails": fault }));
    scenario
}

const UPGRADE: [&str; 3] = ["run", "upgrade", "--yes"];

fn runs(scenario: &Scenario) -> Vec<Value> {
    let runs: Value = serde_json::from_str(&scenario.rke2flow(&["runs", "-o", "json"]).stdout).unwrap();
    runs["runs"].as_array().unwrap().clone()
}

/// The runs of a runbook, oldest first: name and state.
fn of(scenario: &Scenario, runbook: &str) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let mut found: Vec<_> = runs(scenario)
        .iter()
        .filter(|run| run["runbook"] == runbook)
        .map(|run| (text(&run["run"]), text(&run["state"])))
        .collect();
    found.reverse();
    found
}

fn versions(scenario: &Scenario) -> Vec<Value> {
    let print = scenario.ask_twin(Ask::Fingerprint, Value::Null);
    print["hosts"].as_object().unwrap().values().map(|host| host["running"].clone()).collect()
}

fn report(scenario: &Scenario, run: &str) -> Value {
    serde_json::from_str(&scenario.rke2flow(&["report", run, "-o", "json"]).stdout).unwrap()
}

/// The upgrade is superseded by the one rollback that succeeded, each names the other, and the old versions run.
#[track_caller]
fn is_rolled_back(scenario: &Scenario, before: &[Value]) {
    let upgrade = of(scenario, "upgrade");
    assert_eq!((upgrade.len(), upgrade[0].1.as_str()), (1, "superseded"), "{upgrade:?}");
    let rollback = of(scenario, "rollback");
    assert_eq!((rollback.len(), rollback[0].1.as_str()), (1, "succeeded"), "{rollback:?}");
    let (parent, child) = (&upgrade[0].0, &rollback[0].0);
    assert_eq!(report(scenario, parent)["rolled_back_by"], json!(child));
    assert_eq!(report(scenario, child)["rolls_back"], json!(parent));
    let params = &scenario.records(child)[0]["data"]["params"];
    assert_eq!(params["to"], json!(parent), "another recovery point was chosen");
    assert_eq!(versions(scenario), before);
    assert_eq!(scenario.ask_twin(Ask::Judge, Value::Null), json!([]));
}

#[test]
fn a_failed_upgrade_is_rolled_back_without_asking_when_that_was_said_beforehand_and_is_one_trace() {
    let scenario = failing();
    let before = versions(&scenario);
    let collector = Collector::listen();
    let upgrade = [&UPGRADE[..], &["--on-failure", "rollback"]].concat();
    let ended = scenario.rke2flow_with(&collector.variables(), &upgrade);
    ended.ends_with(1).says("servers/InstallVersion@server-1").says("failed, and was rolled back by run");
    is_rolled_back(&scenario, &before);
    let (parent, child) = (of(&scenario, "upgrade").remove(0).0, of(&scenario, "rollback").remove(0).0);
    scenario.rke2flow(&["report", &parent]).prints(&format!("is rolled back by run {child}"));
    scenario.rke2flow(&["report", &child]).prints(&format!("it rolls back run {parent}"));
    scenario.rke2flow(&["status", &child]).prints(&format!("it rolls back run {parent}"));

    let spans = collector.spans();
    let run = |name: &str| spans.iter().find(|span| span.name == name).unwrap_or_else(|| panic!("no span {name}"));
    let (upgrade, rollback) = (run("RUN upgrade"), run("RUN rollback"));
    assert_eq!(rollback.trace_id, upgrade.trace_id);
    assert_eq!(rollback.parent_span_id, upgrade.span_id);
    assert!(spans.iter().any(|span| span.name == "servers"), "the step that failed is not told");
}

#[test]
fn yes_is_no_consent_to_a_rollback_and_without_a_terminal_each_step_names_the_next_command() {
    let scenario = failing();
    let before = versions(&scenario);
    let upgrade = [&UPGRADE[..], &["--on-failure", "offer-rollback"]].concat();
    let stopped = scenario.rke2flow(&upgrade).ends_with(3).says("waits for consent to a rollback");
    let parent = of(&scenario, "upgrade").remove(0).0;
    stopped.says(&format!("approve {parent} rollback")).says("writes since then are lost");
    let status = scenario.status(&parent);
    assert_eq!(
        (status["state"].as_str().unwrap(), status["gates"][0]["step"].as_str().unwrap()),
        ("waiting for consent", "rollback")
    );
    assert_eq!(of(&scenario, "rollback").len(), 0);

    scenario.rke2flow(&["approve", &parent, "rollback"]).ends_with(0).says(&format!("resume {parent}"));
    let held = scenario.rke2flow(&["resume", &parent]).ends_with(3).says(&format!("run {parent} failed, and run"));
    let child = of(&scenario, "rollback").remove(0).0;
    held.says(&format!("approve {child} consent"));
    scenario.rke2flow(&["abort", &parent]).ends_with(0).says("superseded already");
    scenario.rke2flow(&["resume", "--yes"]).ends_with(0).says(&format!("run {child} of rollback"));
    is_rolled_back(&scenario, &before);
}

#[test]
fn a_resume_without_an_approval_tries_again_what_failed() {
    let scenario = failing();
    scenario.rke2flow(&[&UPGRADE[..], &["--on-failure", "offer-rollback"]].concat()).ends_with(3);
    scenario.rke2flow(&["resume"]).ends_with(0);
    assert_eq!(of(&scenario, "upgrade")[0].1, "succeeded");
    assert_eq!(scenario.ask_twin(Ask::Judge, Value::Null), json!([]));
}

#[test]
fn a_failure_before_the_recovery_point_holds_and_says_why_it_is_not_rolled_back() {
    let scenario = Scenario::with_twin_of(&["--servers", "1", "--agents", "0", "--speed", "200"]);
    let fault = json!({ "host": "server-0", "change": "SaveSnapshot", "stage": 0, "times": 99 });
    scenario.ask_twin(Ask::Fault, json!({ "UnitFails": fault }));
    scenario
        .rke2flow(&[&UPGRADE[..], &["--on-failure", "rollback"]].concat())
        .ends_with(1)
        .says("no rollback is offered: it had not recorded a recovery point yet");
    assert_eq!(runs(&scenario).len(), 1);
}

#[test]
fn a_rollback_is_not_rolled_back() {
    let scenario = Scenario::with_twin();
    scenario
        .rke2flow(&["run", "rollback", "--yes", "--on-failure", "rollback"])
        .ends_with(2)
        .says("takes the place of another run");
}

/// Kills the engine when a person's consent is on disk, or so much later.
fn killed(delay: Duration) -> (Scenario, Vec<Value>) {
    let scenario = failing();
    let before = versions(&scenario);
    let mut engine = scenario.start(&[&UPGRADE[..], &["--on-failure", "rollback", "-o", "json"]].concat());
    assert!(engine.reads_until(r#""kind":"RollbackDecided""#), "no rollback was offered");
    std::thread::sleep(delay);
    engine.kill();
    (scenario, before)
}

#[test]
fn killed_anywhere_at_the_hand_over_a_resume_goes_on_with_the_right_run() {
    for delay_ms in [0, 120, 700] {
        let (scenario, before) = killed(Duration::from_millis(delay_ms));
        // Which of both it is, nobody has to know.
        let resumed = scenario.rke2flow(&["resume"]);
        assert!(matches!(resumed.code, Some(0 | 1)), "after {delay_ms} ms: {resumed:?}");
        is_rolled_back(&scenario, &before);
    }
}

#[test]
fn a_rollback_that_was_cut_off_while_it_was_created_is_begun_anew() {
    let (scenario, before) = killed(Duration::ZERO);
    let parent = of(&scenario, "upgrade").remove(0).0;
    assert_eq!(of(&scenario, "rollback"), [], "the engine was killed too late");
    let directory = scenario.path("state/runs").join(&parent);
    for (name, journal) in [("261122-0000-aaaa", None), ("261122-0000-bbbb", Some(""))] {
        Run::open(&directory).unwrap().begin_rollback(RunId::new(name).unwrap(), &Clock::real()).unwrap();
        let child = scenario.path("state/runs").join(name);
        if let Some(text) = journal {
            fs::create_dir(&child).unwrap();
            fs::write(child.join("journal.ndjson"), text).unwrap();
        }
    }
    scenario.rke2flow(&["status", &parent]).prints("being rolled back");
    scenario.rke2flow(&["resume", &parent]).ends_with(1).says("was rolled back by run");
    is_rolled_back(&scenario, &before);
}
