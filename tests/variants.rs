//! Hosts that are gone, come back and are cleaned, and machines that are made anew: the whole story over real SSH.

use rke2flow_twin::TwinSpec;
use rke2flow_twin::serve::Ask;
use serde_json::{Value, json};

use crate::scenario::Scenario;

fn set(scenario: &Scenario, tamper: Value) {
    scenario.ask_twin(Ask::Set, tamper);
}

#[track_caller]
fn nothing_wrong(scenario: &Scenario) {
    assert_eq!(scenario.ask_twin(Ask::Judge, Value::Null), json!([]));
}

#[test]
fn a_lost_server_is_left_behind_then_refused_by_every_run_and_comes_back_by_rejoin() {
    let scenario = Scenario::with_twin_of(&["--servers", "3", "--agents", "1", "--speed", "50"]);
    scenario.rke2flow(&["run", "backup", "--yes"]).ends_with(0);

    // It answers: then it is not lost.
    let refused = scenario.rke2flow(&["run", "rollback", "--lost", "server-1", "--yes"]).ends_with(4);
    refused.says("server-1 is declared lost and answers").says("leave `--lost server-1` away");
    scenario.rke2flow(&["run", "rollback", "--init", "server-9"]).ends_with(2).says("server-9");

    set(&scenario, json!({"PowerOff": "server-1"}));
    let silent = scenario.rke2flow(&["run", "rollback", "--yes"]).ends_with(4);
    silent.says("server-1").says("--lost HOST");
    scenario.rke2flow(&["run", "rollback", "--lost", "server-1", "--yes"]).ends_with(0);
    nothing_wrong(&scenario);

    // Back again, with the data of the control plane that is no more: whoever runs whatever is told.
    set(&scenario, json!({"PowerOn": "server-1"}));
    for arguments in [["run", "backup"], ["run", "upgrade"], ["run", "rollback"]] {
        let refused = scenario.rke2flow(&arguments).ends_with(4);
        refused.says("server-1 was lost and has not been cleaned").says("rejoin --set host=server-1");
    }
    scenario.rke2flow(&["run", "rejoin", "--set", "host=server-1", "--yes"]).ends_with(0);
    nothing_wrong(&scenario);
    let healthy = scenario.rke2flow(&["run", "rejoin", "--set", "host=server-1", "--yes"]).ends_with(4);
    healthy.says("server-1 is a healthy member of the cluster");
}

#[test]
fn new_machines_are_rebuilt_with_the_token_that_the_cluster_file_names_and_it_is_seen_nowhere() {
    let scenario = Scenario::with_twin_of(&["--servers", "1", "--agents", "1", "--speed", "50"]);
    scenario.rke2flow(&["run", "backup", "--yes"]).ends_with(0);
    for host in ["server-0", "agent-0"] {
        set(&scenario, json!({"Replace": host}));
    }
    let missing = scenario.rke2flow(&["run", "rebuild", "--yes"]).ends_with(4);
    missing.says("FAIL server token").says("PASS host server-0: a new machine");

    let token = TwinSpec::default().token;
    let scenario = scenario.file("token", &token);
    let scenario = scenario.cluster(|text| text.replacen("token: None,", "token: File(\"token\"),", 1));
    let done = scenario.rke2flow(&["run", "rebuild", "--yes"]).ends_with(0);
    nothing_wrong(&scenario);
    let password = token.rsplit(':').next().unwrap();
    assert!(!done.stdout.contains(password) && !done.stderr.contains(password));
    let state = scenario.path("state");
    let grep = std::process::Command::new("grep").arg("-rl").arg(password).arg(&state).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&grep.stdout), "");
}
