//! Several minor releases in one run, from the outside.

use serde_json::Value;

use crate::scenario::Scenario;

const HOPS: &str = "version=v1.34.1+rke2r1,v1.35.1+rke2r1";

#[test]
fn a_rehearsed_upgrade_over_two_minors_hurts_nothing() {
    let rehearse = ["rehearse", "upgrade", "--servers", "3", "--agents", "1", "--speed", "100", "--set", HOPS];
    let rehearsal = Scenario::new().rke2flow(&rehearse).ends_with(0);
    rehearsal.says("the twin saw no violation").says("servers-1").says("servers-2");
}

#[test]
fn a_plan_tells_what_each_round_would_do_and_after_the_run_that_all_is_done() {
    let scenario = Scenario::with_twin();
    let verdict_of = |instance: &str| {
        let plan = scenario.rke2flow(&["plan", "upgrade", "--set", HOPS, "-o", "json"]).ends_with(0);
        let plan: Value = serde_json::from_str(&plan.stdout).unwrap();
        let findings = plan["findings"].as_array().unwrap();
        let found = findings.iter().find(|finding| finding["instance"] == instance).unwrap();
        (found["verdict"].as_str().unwrap().to_owned(), found["why"].as_str().unwrap().to_owned())
    };
    scenario.rke2flow(&["plan", "upgrade", "--set", HOPS]).ends_with(0).prints("round 2 of 2: v1.35.1+rke2r1");
    assert_eq!(verdict_of("servers-2/RestartUnit@server-0").0, "would_run");
    // Asked now, the second release would skip a minor one.
    let (verdict, why) = verdict_of("guards-2/Guard@operator");
    assert_eq!((verdict.as_str(), why.as_str()), ("known_after", "servers-1"));
    scenario.rke2flow(&["run", "upgrade", "--set", HOPS, "--yes"]).ends_with(0);
    scenario.rke2flow(&["plan", "upgrade", "--set", HOPS, "--exit-code"]).ends_with(0).prints("all is done");
    let points = scenario.only_run();
    let chosen = |to: &str| {
        let to = format!("to={to}");
        let plan = scenario.rke2flow(&["plan", "rollback", "--set", &to]).ends_with(0);
        plan.stdout
    };
    assert!(chosen(&points).contains(&format!("{points}-2")) && chosen("latest").contains(&format!("{points}-2")));
}

#[test]
fn releases_that_skip_a_minor_are_refused_before_anything_is_asked() {
    let scenario = Scenario::with_twin();
    let skipping = "version=v1.34.1+rke2r1,v1.36.0+rke2r1";
    let refused = scenario.rke2flow(&["run", "upgrade", "--set", skipping, "--yes"]).ends_with(2);
    refused.says("2 minor releases at once").says("one of v1.35 is missing between them");
}
