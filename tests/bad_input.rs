//! What people write wrong is refused within seconds, with its place, its cause and what to write; nothing is changed.

use std::time::{Duration, Instant};

use crate::scenario::Scenario;

const CLUSTER: &str = r#"(format: 1, name: "prod", hosts: [
  (name: "server-0", address: "192.0.2.1", role: Server),
  (name: "agent-0", address: "192.0.2.2", role: Agent),
])"#;

/// A runbook with these steps.
fn runbook(steps: &str) -> String {
    format!(
        "Runbook(\n  format: 1, name: \"bad\",\n  phases: [(id: \"work\", clock: Before)],\n  steps: [\n{steps}\n  ],\n)\n"
    )
}

/// Both `validate` and `run` refuse it with exit code 2 and these words.
#[track_caller]
fn refused(text: impl AsRef<[u8]>, words: &[&str]) {
    let began = Instant::now();
    let scenario = Scenario::new().file("bad.ron", text).file("cluster.ron", CLUSTER);
    for command in ["validate", "run"] {
        let mut outcome = scenario.rke2flow(&[command, "bad.ron"]).ends_with(2);
        for word in words {
            outcome = outcome.says(word);
        }
    }
    assert!(began.elapsed() < Duration::from_secs(10), "it took {:?}", began.elapsed());
    assert!(!scenario.path("state").exists(), "a run was created");
}

#[test]
fn a_misspelt_action_is_refused_with_its_line_and_the_right_name() {
    let steps = r#"    (id: "stop", phase: "work", on: Servers, do: [KilNode()]),"#;
    refused(runbook(steps), &["bad.ron:5:", "KillNode"]);
}

#[test]
fn a_cycle_is_refused_as_a_path() {
    let steps = r#"    (id: "a", phase: "work", on: Servers, needs: [All("b")], do: [HoldUnit()]),
    (id: "b", phase: "work", on: Servers, needs: [All("a")], do: [ReleaseHold()]),"#;
    refused(runbook(steps), &["bad.ron:5:", "a → b → a"]);
}

#[test]
fn an_unknown_need_is_refused_with_its_line_and_the_right_name() {
    let steps = r#"    (id: "first", phase: "work", on: Servers, do: [HoldUnit()]),
    (id: "second", phase: "work", on: Servers, needs: [All("frist")], do: [ReleaseHold()]),"#;
    refused(runbook(steps), &["bad.ron:6:", "did you mean `first`"]);
}

#[test]
fn a_wrong_type_is_refused_with_its_line() {
    let steps = r#"    (id: "stop", phase: "work", on: Servers, timeout: 90, do: [HoldUnit()]),"#;
    refused(runbook(steps), &["bad.ron:5:"]);
}

#[test]
fn what_is_no_runbook_at_all_is_refused() {
    refused("", &["empty"]);
    refused([0_u8, 159, 146, 150, 255, 0], &["not text"]);
    refused("]", &["bad.ron:1:1"]);
}

#[test]
fn fifty_megabytes_of_parentheses_are_refused_unread() {
    refused("(".repeat(50 * 1024 * 1024), &["larger than"]);
}

#[test]
fn as_many_parentheses_as_are_read_do_not_exhaust_the_stack() {
    refused("(".repeat(1000 * 1024), &["bad.ron"]);
}

#[test]
fn a_directory_is_refused() {
    let scenario = Scenario::new().file("cluster.ron", CLUSTER);
    std::fs::create_dir(scenario.path("bad.ron")).unwrap();
    scenario.rke2flow(&["run", "bad.ron"]).ends_with(2).says("is a directory");
    scenario.rke2flow(&["run", "upgrade", "--cluster", "bad.ron"]).ends_with(2).says("is a directory");
}

#[test]
fn a_runbook_that_is_not_there_is_refused_with_the_embedded_ones() {
    let scenario = Scenario::new().file("cluster.ron", CLUSTER);
    scenario.rke2flow(&["run", "upgrad"]).ends_with(2).says("did you mean `upgrade`");
}

#[test]
fn a_parameter_that_is_not_there_is_refused() {
    let scenario = Scenario::new().file("cluster.ron", CLUSTER);
    scenario.rke2flow(&["plan", "rollback", "--offline", "--set", "dta=shop"]).ends_with(2).says("did you mean `data`");
}

#[test]
fn two_hosts_of_one_name_are_refused_with_the_line_of_the_second() {
    let scenario = Scenario::new().file("cluster.ron", CLUSTER.replace("agent-0", "server-0"));
    scenario.rke2flow(&["validate", "cluster.ron"]).ends_with(2).says("cluster.ron:3:").says("server-0");
    scenario.rke2flow(&["run", "upgrade"]).ends_with(2).says("server-0");
}

#[test]
fn two_init_hosts_are_refused() {
    let twice = CLUSTER.replace("name: \"prod\",", "name: \"prod\", init: \"server-0\", init: \"agent-0\",");
    let scenario = Scenario::new().file("cluster.ron", twice);
    scenario.rke2flow(&["run", "upgrade"]).ends_with(2).says("cluster.ron:1:").says("init");
}

#[test]
fn an_agent_as_init_host_is_refused() {
    let agent = CLUSTER.replace("name: \"prod\",", "name: \"prod\", init: \"agent-0\",");
    let scenario = Scenario::new().file("cluster.ron", agent);
    scenario.rke2flow(&["run", "upgrade"]).ends_with(2).says("agent-0");
}
