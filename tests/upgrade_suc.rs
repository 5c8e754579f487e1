//! The upgrade through the system-upgrade-controller, by the binary on a simulated cluster.

use crate::scenario::Scenario;

const NEW: &str = "version=v1.34.1+rke2r1";

#[test]
fn an_upgrade_through_the_controller_is_planned_carried_out_and_done_when_it_is_asked_for_again() {
    let scenario = Scenario::with_twin_of(&["--servers", "1", "--agents", "1", "--speed", "50"]);
    let plan = ["plan", "upgrade-suc", "--set", NEW, "--exit-code"];
    scenario.rke2flow(&plan).ends_with(6).prints("would run").prints("RemoveUpgradePlans");
    scenario.rke2flow(&["run", "upgrade-suc", "--set", NEW, "--yes"]).ends_with(0);
    let report = scenario.rke2flow(&["report"]).ends_with(0);
    report.prints("whether every node can pull rancher/rke2-upgrade:v1.34.1-rke2r1 cannot be told beforehand");
    scenario.rke2flow(&plan).ends_with(0).prints("all is done");
    scenario.rke2flow(&["run", "upgrade-suc", "--set", NEW, "--yes"]).ends_with(0);
}

#[test]
fn an_upgrade_through_the_controller_that_is_killed_in_the_middle_goes_on_and_hurts_nothing() {
    let rehearsal = Scenario::new().rke2flow(&["rehearse", "upgrade-suc", "--speed", "50", "--kill-after", "200"]);
    rehearsal.ends_with(0).says("killed after record 200").says("the twin saw no violation").says("finalize");
}

#[test]
fn plans_that_are_left_behind_fail_the_rehearsal() {
    let wrong = include_str!("wrong/plans-left.ron");
    let scenario = Scenario::new().file("plans-left.ron", wrong);
    let shape = ["--servers", "1", "--agents", "1", "--speed", "50"];
    scenario.rke2flow(&[&["rehearse", "plans-left.ron"], shape.as_slice()].concat()).ends_with(1).says("PlanLeft");
}
