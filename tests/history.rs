//! What earlier runs took: forecasts from it, times to recover, and rehearsals, which never count.

use serde_json::Value;

use crate::scenario::{Scenario, THREE_STEPS};

/// An outage: the server is held, released and started.
fn outage() -> String {
    THREE_STEPS.replace("clock: Before", "clock: Outage").replace("three-steps", "short-outage")
}

/// A simulated cluster at the speed of life whose cluster file does not say that it is one.
fn taken_for_real() -> Scenario {
    Scenario::with_twin_of(&["--servers", "1", "--agents", "0", "--speed", "1"])
        .cluster(without_rehearsal)
        .file("outage.ron", outage())
}

fn without_rehearsal(text: String) -> String {
    let begins = text.find("    rehearsal:").unwrap();
    let length = text[begins..].find("),\n").unwrap() + "),\n".len();
    format!("{}{}", &text[..begins], &text[begins + length..])
}

fn mttr(scenario: &Scenario) -> Value {
    serde_json::from_str(&scenario.rke2flow(&["mttr", "-o", "json"]).ends_with(0).stdout).unwrap()
}

#[test]
fn a_real_run_is_measured_and_the_next_one_is_forecast_from_it() {
    let scenario = taken_for_real();
    scenario.rke2flow(&["run", "outage.ron"]).ends_with(0).says("typical: nothing was measured on this cluster yet");
    let run = scenario.only_run();
    scenario.rke2flow(&["plan", "outage.ron", "--offline"]).ends_with(0).prints("measured in 1 run").prints("(p90 ");
    let plan = scenario.rke2flow(&["plan", "outage.ron", "--offline", "-o", "json"]).stdout;
    let plan: Value = serde_json::from_str(&plan).unwrap();
    assert_eq!(plan["forecast"]["basis"]["runs"], 1, "{plan}");

    let told = mttr(&scenario);
    let outages = &told["clusters"][0]["runbooks"][0];
    assert_eq!((&outages["runbook"], &outages["recovered"]), (&"short-outage".into(), &1.into()), "{told}");
    assert_eq!(outages["outages"][0]["run"], run.as_str());
    scenario.rke2flow(&["mttr"]).ends_with(0).prints(&run).prints("time to recover median");
    scenario.rke2flow(&["mttr", "-o", "markdown"]).ends_with(0).prints(&format!("| {run} |"));
    scenario.rke2flow(&["mttr", "elsewhere"]).ends_with(2).says("no run on a cluster named elsewhere has ended");
    scenario.rke2flow(&["report", &run]).ends_with(0).prints("against the forecast (typical");

    std::fs::remove_dir_all(scenario.path("state/runs").join(&run)).unwrap();
    assert_eq!(mttr(&scenario)["clusters"][0]["runbooks"][0]["recovered"], 1, "history outlives the run's directory");
}

#[test]
fn rehearsals_never_count_at_whichever_speed() {
    for speed in ["1", "200"] {
        let scenario =
            Scenario::with_twin_of(&["--servers", "1", "--agents", "0", "--speed", speed]).file("outage.ron", outage());
        scenario.rke2flow(&["run", "outage.ron"]).ends_with(0);
        let told = mttr(&scenario);
        assert_eq!(told["clusters"][0]["rehearsals"], 1, "{told}");
        assert_eq!(told["clusters"][0]["runbooks"], serde_json::json!([]), "{told}");
        scenario.rke2flow(&["mttr"]).ends_with(0).prints("1 rehearsal");
        scenario.rke2flow(&["plan", "outage.ron", "--offline"]).ends_with(0).prints("typical: nothing was measured");
    }
}

#[test]
fn without_any_run_mttr_says_what_to_do() {
    let scenario = Scenario::new();
    scenario.rke2flow(&["mttr"]).ends_with(0).prints("no run has ended").prints("rke2flow rehearse rollback");
    scenario.rke2flow(&["mttr", "-o", "json"]).ends_with(0).prints("rke2flow.dev/mttr/v1");
    scenario.rke2flow(&["mttr", "-o", "dot"]).ends_with(2).says("no dot form");
}

#[test]
fn a_run_under_way_says_when_it_will_be_over() {
    let scenario = Scenario::with_slow_twin().file("three.ron", THREE_STEPS);
    let mut engine = scenario.start(&["run", "three.ron", "-o", "json"]);
    engine.wait_for("\"AttemptStarted\"");
    engine.signal("STOP");
    let run = scenario.only_run();
    let forecast = &scenario.status(&run)["forecast"];
    assert!(forecast["p50_seconds"].as_f64().is_some() && forecast["ends_at"].is_string(), "{forecast}");
    scenario.rke2flow(&["status", &run]).ends_with(0).prints("to go: ends at");
    engine.kill();
    scenario.rke2flow(&["status", &run]).ends_with(0).prints("to go once it goes on");
    scenario.rke2flow(&["resume", &run]).ends_with(0);
    assert_eq!(scenario.status(&run)["forecast"], Value::Null);
}

#[test]
fn a_history_that_cannot_be_used_stops_no_run() {
    let scenario = Scenario::with_twin().file("three.ron", THREE_STEPS);
    std::fs::create_dir_all(scenario.path("state")).unwrap();
    std::fs::write(scenario.path("state/history.ndjson"), "{\"v\":99}\n").unwrap();
    scenario.rke2flow(&["run", "three.ron"]).ends_with(0).says("written by a newer rke2flow").says("succeeded");
    scenario.rke2flow(&["mttr"]).ends_with(2).says("written by a newer rke2flow");
}
