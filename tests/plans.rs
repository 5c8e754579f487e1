//! Dry runs on a simulated cluster: nothing is changed, and the answers come from the world, not from a journal.

use rke2flow_twin::serve::Ask;
use serde_json::Value;

use crate::scenario::Scenario;

/// What the twin itself noted, without what was only looked at.
fn changes(scenario: &Scenario) -> Vec<Value> {
    let log = scenario.ask_twin(Ask::Log, Value::Null);
    log.as_array().unwrap().iter().filter(|entry| entry["kind"] == "Write").cloned().collect()
}

/// The verdicts of a dry run: instance and what would happen.
fn verdicts(scenario: &Scenario, runbook: &str) -> Vec<(String, String)> {
    let plan = scenario.rke2flow(&["plan", runbook, "-o", "json"]).ends_with(0);
    let plan: Value = serde_json::from_str(&plan.stdout).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let findings = plan["findings"].as_array().unwrap();
    findings.iter().map(|finding| (text(&finding["instance"]), text(&finding["verdict"]))).collect()
}

#[test]
fn dry_runs_change_nothing_and_know_before_and_after_an_upgrade_what_is_done() {
    let scenario = Scenario::with_twin_of(&["--servers", "3", "--agents", "1", "--speed", "100"]);
    let before = changes(&scenario);
    scenario.rke2flow(&["plan", "upgrade", "--exit-code"]).ends_with(6).prints("would run");
    scenario.rke2flow(&["plan", "rollback"]).ends_with(0).prints("will not be rolled back");
    assert_eq!(changes(&scenario), before, "a dry run changed something");

    scenario.rke2flow(&["run", "upgrade", "--yes"]).ends_with(0);
    let after = changes(&scenario);
    assert!(after.len() > before.len(), "the twin does not note what is changed");
    scenario.rke2flow(&["plan", "upgrade", "--exit-code"]).ends_with(0).prints("all is done");
    let with_journal = verdicts(&scenario, "rollback");
    assert!(with_journal.iter().any(|(_, verdict)| verdict == "would_run"), "{with_journal:?}");
    std::fs::remove_dir_all(scenario.path("state")).unwrap();
    assert_eq!(verdicts(&scenario, "rollback"), with_journal);
    assert_eq!(changes(&scenario), after, "a dry run changed something");
}
