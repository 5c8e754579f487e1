//! Giving a rollback up, with the real binary: before server 0 is started the old state comes back, after it only
//! forward.

use rke2flow_twin::serve::Ask;
use serde_json::{Value, json};

use crate::scenario::Scenario;

/// A cluster that was upgraded and is written to.
fn upgraded() -> Scenario {
    let scenario = Scenario::with_twin_of(&["--servers", "3", "--agents", "1", "--speed", "100"]);
    scenario.rke2flow(&["run", "upgrade", "--yes"]).ends_with(0);
    let body = json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "written-after", "namespace": "default"}, "data": {},
    });
    let path = "/api/v1/namespaces/default/configmaps";
    scenario.ask_twin(Ask::Write, json!({"method": "POST", "path": path, "body": body}));
    scenario
}

fn open_run(scenario: &Scenario) -> String {
    let runs: Value = serde_json::from_str(&scenario.rke2flow(&["runs", "-o", "json"]).stdout).unwrap();
    let open = |run: &&Value| !["succeeded", "aborted"].contains(&run["state"].as_str().unwrap());
    runs["runs"].as_array().unwrap().iter().find(open).unwrap()["run"].as_str().unwrap().to_owned()
}

#[test]
fn an_abort_in_the_middle_of_the_outage_puts_the_old_state_back_and_says_so() {
    let scenario = upgraded();
    let versions = |print: &Value| {
        print["hosts"].as_object().unwrap().values().map(|host| host["running"].clone()).collect::<Vec<_>>()
    };
    let before = versions(&scenario.ask_twin(Ask::Fingerprint, Value::Null));
    scenario.rke2flow(&["run", "rollback"]).ends_with(3);
    let run = open_run(&scenario);
    scenario.rke2flow(&["approve", &run, "consent"]).ends_with(0);
    // The reset is done, and the start of server 0 waits for consent.
    scenario.rke2flow(&["resume", &run]).ends_with(3).says("no: the state before is put back");
    scenario.rke2flow(&["abort", &run]).ends_with(0).says("the state before it is back");
    let after = scenario.ask_twin(Ask::Fingerprint, Value::Null);
    assert_eq!(versions(&after), before);
    assert!(after["objects"].as_object().unwrap().keys().any(|name| name.ends_with("/written-after")), "{after}");
    assert_eq!(scenario.ask_twin(Ask::Judge, Value::Null), json!([]));
}

#[test]
fn past_the_start_of_server_0_an_abort_is_refused_and_the_way_forward_is_named() {
    let scenario = upgraded();
    let mut engine = scenario.start(&["run", "rollback", "--yes", "-o", "json"]);
    assert!(engine.reads_until(r#""kind":"ApplyStarted","data":{"instance":"start-0/"#));
    engine.kill();
    let run = open_run(&scenario);
    scenario
        .rke2flow(&["abort", &run])
        .ends_with(4)
        .says("this run can only go forward")
        .says(&format!("resume {run}"));
    scenario.rke2flow(&["resume", &run]).ends_with(0).says("succeeded");
    assert_eq!(scenario.ask_twin(Ask::Judge, Value::Null), json!([]));
}
