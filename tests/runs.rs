//! Runs on a simulated cluster: killed, resumed, paused, approved, aborted, looked at.

use std::process::Command;

use crate::scenario::{Scenario, THREE_STEPS, WITH_GATE, text};

#[test]
fn a_run_succeeds_and_says_what_each_phase_took() {
    let scenario = Scenario::with_twin().file("three.ron", THREE_STEPS);
    let outcome = scenario.rke2flow(&["run", "three.ron"]).ends_with(0);
    outcome.says("phase work begins, budget 10:00").says("within budget").says("succeeded").says("report");
    let run = scenario.only_run();
    assert_eq!(scenario.status(&run)["state"], "succeeded");
    scenario.rke2flow(&["resume", &run]).ends_with(0).says("succeeded already");
    for step in ["hold", "release", "start"] {
        scenario.rke2flow(&["logs", &run, step]).ends_with(0).prints("holds");
    }
}

#[test]
fn runs_of_the_same_minute_are_listed_newest_first() {
    let scenario = Scenario::with_twin().file("three.ron", THREE_STEPS);
    for _ in 0..5 {
        scenario.rke2flow(&["run", "three.ron"]).ends_with(0);
    }
    let runs: serde_json::Value = serde_json::from_str(&scenario.rke2flow(&["runs", "-o", "json"]).stdout).unwrap();
    let opened = runs["runs"].as_array().unwrap().iter().map(|run| run["opened_at"].as_str().unwrap());
    assert!(opened.clone().count() == 5 && opened.is_sorted_by(|one, next| one > next), "{runs}");
    let newest = scenario.rke2flow(&["report", "-o", "json"]).stdout;
    assert!(newest.contains(runs["runs"][0]["run"].as_str().unwrap()));
}

#[test]
fn a_run_that_was_killed_is_resumed_and_repeats_nothing() {
    let scenario = Scenario::with_slow_twin().file("three.ron", THREE_STEPS);
    let mut engine = scenario.start(&["run", "three.ron", "-o", "json"]);
    engine.wait_for("\"Settled\"");
    engine.kill();
    let run = scenario.only_run();
    assert_eq!(scenario.status(&run)["state"], "interrupted");
    scenario.rke2flow(&["resume"]).ends_with(0);
    let records = scenario.records(&run);
    let settled = |instance: &str| {
        let is = |record: &&serde_json::Value| record["kind"] == "Settled" && record["data"]["instance"] == instance;
        records.iter().filter(is).count()
    };
    for instance in ["hold/HoldUnit@server-0", "release/ReleaseHold@server-0", "start/StartUnit@server-0"] {
        assert_eq!(settled(instance), 1, "{instance}");
    }
    let engines = records.iter().filter(|record| record["kind"] == "EngineStarted").count();
    assert_eq!(engines, 2);
}

#[test]
fn a_run_that_another_engine_drives_is_not_resumed_and_its_process_is_named() {
    let scenario = Scenario::with_slow_twin().file("three.ron", THREE_STEPS);
    let mut engine = scenario.start(&["run", "three.ron", "-o", "json"]);
    engine.wait_for("\"AttemptStarted\"");
    engine.signal("STOP");
    let run = scenario.only_run();
    let outcome = scenario.rke2flow(&["resume", &run]).ends_with(5);
    outcome.says("driven by another engine: process").says(&format!("watch {run}"));
    assert_eq!(scenario.status(&run)["state"], "running");
    engine.signal("CONT");
    assert_eq!(engine.end(), Some(0));
}

#[test]
fn a_gate_without_a_terminal_stops_at_once_and_is_approved_from_outside() {
    let scenario = Scenario::with_twin().file("gate.ron", WITH_GATE);
    let outcome = scenario.rke2flow(&["run", "gate.ron"]).ends_with(3);
    let run = scenario.only_run();
    outcome.says("the servers are held").says(&format!("approve {run} consent"));
    assert_eq!(scenario.status(&run)["state"], "waiting for consent");
    let held = scenario.status(&run)["on_hosts"].to_string();
    assert!(held.contains("server-0") && held.contains("held down"), "{held}");
    scenario.rke2flow(&["approve", &run, "consent", "--reason", "ticket 7"]).ends_with(0).says("resume");
    scenario.rke2flow(&["resume", &run]).ends_with(0).says("ticket 7");
}

#[test]
fn yes_answers_gates_before_they_are_asked() {
    let scenario = Scenario::with_twin().file("gate.ron", WITH_GATE);
    scenario.rke2flow(&["run", "gate.ron", "--yes"]).ends_with(0);
}

#[test]
fn an_abort_of_a_run_that_nobody_drives_closes_it() {
    let scenario = Scenario::with_twin().file("gate.ron", WITH_GATE);
    scenario.rke2flow(&["run", "gate.ron"]).ends_with(3);
    let run = scenario.only_run();
    scenario.rke2flow(&["abort", &run, "--reason", "wrong night"]).ends_with(0).says("aborted");
    assert_eq!(scenario.status(&run)["state"], "aborted");
    scenario.rke2flow(&["abort", &run]).ends_with(0).says("nothing to abort");
    scenario.rke2flow(&["approve", &run, "consent"]).ends_with(2).says("aborted already");
}

#[test]
fn a_pause_stops_what_is_next_and_a_continue_lets_it_go_on() {
    let scenario = Scenario::with_twin().file("gate.ron", WITH_GATE);
    scenario.rke2flow(&["run", "gate.ron"]).ends_with(3);
    let run = scenario.only_run();
    scenario.rke2flow(&["pause", &run, "--reason", "lunch"]).ends_with(0);
    scenario.rke2flow(&["resume", &run]).ends_with(3).says("lunch").says(&format!("resume {run}"));
    scenario.rke2flow(&["continue", &run]).ends_with(0);
    scenario.rke2flow(&["approve", &run, "consent"]).ends_with(0);
    scenario.rke2flow(&["resume", &run]).ends_with(0);
}

#[test]
fn ctrl_c_lets_what_runs_end_and_leaves_the_run_resumable() {
    let scenario = Scenario::with_slow_twin().file("three.ron", THREE_STEPS);
    let mut engine = scenario.start(&["run", "three.ron", "-o", "json"]);
    engine.wait_for("\"AttemptStarted\"");
    engine.signal("INT");
    assert_eq!(engine.end(), Some(3));
    scenario.rke2flow(&["resume"]).ends_with(0);
}

#[test]
fn a_run_is_looked_at_and_paused_while_it_is_driven() {
    let scenario = Scenario::with_slow_twin().file("three.ron", THREE_STEPS);
    let mut engine = scenario.start(&["run", "three.ron", "-o", "json"]);
    engine.wait_for("\"AttemptStarted\"");
    let run = scenario.only_run();
    let status = scenario.status(&run);
    assert_eq!(status["state"], "running");
    assert_eq!(status["engine"]["pid"], engine.id());
    scenario.rke2flow(&["status"]).ends_with(0).prints("under way").prints(&format!("watch {run}"));
    scenario.rke2flow(&["pause", &run, "--reason", "look first"]).ends_with(0).says("asked");
    assert_eq!(engine.end(), Some(3));
    assert_eq!(scenario.status(&run)["state"], "paused");
    scenario.rke2flow(&["resume", &run]).ends_with(0);
    scenario.rke2flow(&["watch", &run]).ends_with(0).prints("look first").prints("succeeded");
}

#[test]
fn a_second_ctrl_c_stops_waiting_and_names_what_goes_on() {
    let scenario = Scenario::with_slow_twin().file("three.ron", THREE_STEPS);
    let mut engine = scenario.start(&["run", "three.ron", "-o", "json"]);
    engine.wait_for("\"ApplyStarted\"");
    engine.signal("TERM");
    engine.signal("INT");
    assert_eq!(engine.end(), Some(3));
    scenario.rke2flow(&["resume"]).ends_with(0);
}

#[test]
fn several_open_runs_are_listed_and_none_is_guessed() {
    let scenario = Scenario::with_twin().file("gate.ron", WITH_GATE);
    scenario.rke2flow(&["run", "gate.ron"]).ends_with(3);
    let first = scenario.only_run();
    scenario.rke2flow(&["run", "gate.ron", "--takeover"]).ends_with(3);
    scenario.rke2flow(&["resume"]).ends_with(2).says("several runs are open").says(&first);
}

#[test]
fn a_cluster_that_is_held_is_refused_with_who_and_since_when_and_no_run_is_created() {
    let scenario = Scenario::with_twin().file("gate.ron", WITH_GATE);
    scenario.rke2flow(&["run", "gate.ron"]).ends_with(3);
    let first = scenario.only_run();
    let refused = scenario.rke2flow(&["run", "gate.ron"]).ends_with(5);
    refused.says("held by").says("since 20").says(&format!("resume {first}"));
    assert_eq!(scenario.only_run(), first);
}

#[test]
fn an_operator_who_was_overtaken_is_refused_by_the_hosts() {
    let scenario = Scenario::with_twin().file("gate.ron", WITH_GATE);
    scenario.rke2flow(&["run", "gate.ron"]).ends_with(3);
    let first = scenario.only_run();
    scenario.rke2flow(&["run", "gate.ron", "--takeover", "--yes"]).ends_with(0);
    scenario.rke2flow(&["run", "gate.ron", "--takeover"]).ends_with(3);
    scenario.rke2flow(&["resume", &first, "--yes"]).ends_with(5).says("held by");
}

#[test]
fn a_step_that_is_not_there_cannot_be_asked_for() {
    let scenario = Scenario::with_twin().file("gate.ron", WITH_GATE);
    scenario.rke2flow(&["run", "gate.ron"]).ends_with(3);
    let run = scenario.only_run();
    scenario.rke2flow(&["skip", &run, "consnt"]).ends_with(2).says("did you mean `consent`");
    scenario.rke2flow(&["retry", &run, "consent"]).ends_with(4).says("nothing of `consent` has failed");
    scenario.rke2flow(&["logs", &run, "hold"]).ends_with(0).prints("HoldUnit@server-0");
    scenario.rke2flow(&["show", &run]).ends_with(0).prints("gate.ron").prints("consent");
}

#[test]
fn a_report_is_text_json_or_markdown() {
    let scenario = Scenario::with_twin().file("three.ron", THREE_STEPS);
    scenario.rke2flow(&["run", "three.ron"]).ends_with(0);
    scenario.rke2flow(&["report"]).ends_with(0).prints("three-steps").prints("work");
    scenario.rke2flow(&["report", "-o", "markdown"]).ends_with(0).prints("# Run ");
    let json = scenario.rke2flow(&["report", "-o", "json"]).ends_with(0).stdout;
    let report: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(report["schema"], "rke2flow.dev/report/v1");
    scenario.rke2flow(&["report", "-o", "dot"]).ends_with(2);
}

#[test]
fn a_plan_changes_nothing_and_says_per_host_what_would_happen() {
    let scenario = Scenario::with_twin().file("three.ron", THREE_STEPS);
    let plan = scenario.rke2flow(&["plan", "three.ron", "--exit-code"]).ends_with(6);
    plan.prints("HoldUnit").prints("server-0: would run").prints("would touch: server-0");
    assert!(!scenario.path("state").exists(), "a dry run left something");
    scenario.rke2flow(&["plan", "three.ron", "-o", "json"]).ends_with(0).prints("rke2flow.dev/plan/v1");
    scenario.rke2flow(&["plan", "three.ron", "-o", "dot"]).ends_with(0).prints("digraph");
}

#[test]
fn a_saved_plan_is_applied_exactly_or_refused() {
    let scenario = Scenario::with_twin().file("three.ron", THREE_STEPS);
    scenario.rke2flow(&["plan", "three.ron", "--out", "saved.json"]).ends_with(0);
    let scenario = scenario.file("other.ron", THREE_STEPS.replace("10m", "11m"));
    scenario.rke2flow(&["run", "other.ron", "--plan", "saved.json"]).ends_with(4).says("the runbook: sha256");
    scenario.rke2flow(&["run", "three.ron", "--plan", "saved.json"]).ends_with(0);
}

#[test]
fn a_host_that_cannot_be_reached_or_shows_another_key_refuses_before_anything_is_done() {
    let scenario =
        Scenario::with_twin_of(&["--servers", "3", "--agents", "0", "--speed", "200"]).file("three.ron", THREE_STEPS);
    let known_hosts = scenario.path("twin/known_hosts");
    let known = std::fs::read_to_string(&known_hosts).unwrap();
    let mut lines: Vec<String> = known.lines().map(str::to_owned).collect();
    // The second host's key is remembered for the first one: a changed host key.
    let other: Vec<String> = lines[1].split_whitespace().skip(1).map(str::to_owned).collect();
    let address = lines[0].split_whitespace().next().unwrap().to_owned();
    lines[0] = format!("{address} {}", other.join(" "));
    std::fs::write(&known_hosts, lines.join("\n") + "\n").unwrap();
    let outcome = scenario.rke2flow(&["run", "three.ron"]).ends_with(4);
    outcome.says("server-0").says("nothing was changed").says("trust");
    scenario.rke2flow(&["trust"]).ends_with(3).prints("CHANGED").says("--yes");
    scenario.rke2flow(&["trust", "--yes"]).ends_with(0);
    scenario.rke2flow(&["run", "three.ron"]).ends_with(0);
}

#[test]
fn a_wrong_login_key_is_refused_for_every_host_at_once() {
    let scenario =
        Scenario::with_twin_of(&["--servers", "2", "--agents", "1", "--speed", "200"]).file("three.ron", THREE_STEPS);
    let key = scenario.path("other_key");
    let made = Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f", &text(&key)]).status().unwrap();
    assert!(made.success());
    let own = text(&scenario.path("twin/id_ed25519"));
    let scenario = scenario.cluster(|cluster| cluster.replace(&own, &text(&key)));
    let outcome = scenario.rke2flow(&["run", "three.ron"]).ends_with(4);
    outcome.says("server-0").says("server-1").says("agent-0");
    assert!(!scenario.path("state/runs").exists(), "a run was created");
}
