//! The embedded runbooks, rehearsed: a twin in a process of its own, killed in the middle, judged by itself.

use crate::scenario::Scenario;

/// Fast enough for a test, slow enough for a loaded machine to keep the deadlines of cluster time.
const SPEED: &str = "100";

#[test]
fn an_upgrade_that_is_killed_in_the_middle_goes_on_and_hurts_nothing() {
    let rehearsal = Scenario::new().rke2flow(&["rehearse", "upgrade", "--speed", SPEED, "--kill-after", "150"]);
    rehearsal.ends_with(0).says("killed after record 150").says("the twin saw no violation").says("finalize");
}

#[test]
fn a_rollback_that_is_killed_in_the_middle_goes_on_and_hurts_nothing() {
    let rehearsal = Scenario::new().rke2flow(&["rehearse", "rollback", "--speed", SPEED, "--kill-after", "150"]);
    rehearsal.ends_with(0).says("killed after record 150").says("the twin saw no violation").says("outage");
}

#[test]
fn a_single_server_is_upgraded_and_rolled_back() {
    let shape = ["--servers", "1", "--agents", "1", "--speed", SPEED];
    let rehearse = |runbook| Scenario::new().rke2flow(&[&["rehearse", runbook], shape.as_slice()].concat());
    rehearse("rollback").ends_with(0).says("the twin saw no violation");
}

#[test]
fn k3s_is_upgraded_and_rolled_back_by_the_same_runbooks() {
    // A version that no other distribution has.
    let shape = ["--distribution", "k3s", "--version", "v1.33.4+k3s1", "--speed", SPEED];
    let rehearse = |runbook| Scenario::new().rke2flow(&[&["rehearse", runbook], shape.as_slice()].concat());
    rehearse("upgrade").ends_with(0).says("the twin saw no violation");
    rehearse("rollback").ends_with(0).says("the twin saw no violation").says("outage");
}

#[test]
fn a_version_of_another_distribution_is_bad_input() {
    let arguments = ["rehearse", "upgrade", "--distribution", "k3s", "--version", "v1.33.4+rke2r1"];
    Scenario::new().rke2flow(&arguments).ends_with(2).says("no release of K3s");
}

#[test]
fn a_runbook_that_resets_without_killing_the_others_fails_the_rehearsal() {
    let wrong = r#"
Runbook(
  format: 1, name: "wrong",
  phases: [(id: "work", clock: Outage, budget: (ha: "60m", single: "60m"))],
  steps: [
    (id: "one", phase: "work", on: Init, do: [HoldUnit(), KillNode(grace: "1s"), MoveAside(parts: [Etcd])]),
    (id: "start", phase: "work", on: Init, needs: [All("one")], do: [ReleaseHold(), StartUnit()]),
  ],
)
"#;
    let scenario = Scenario::new().file("wrong.ron", wrong);
    scenario.rke2flow(&["rehearse", "wrong.ron", "--speed", SPEED]).ends_with(1).says("violation");
}

#[test]
fn a_fault_that_cannot_be_read_is_bad_input_with_an_example() {
    let refused = Scenario::new().rke2flow(&["rehearse", "upgrade", "--fault", "Meteor"]).ends_with(2);
    refused.says("Meteor").says("UploadFails(1)");
}
