//! What a run was spent on: its phases against their budgets, and its critical path.

use std::time::Duration;

use serde_json::Value;

/// Asserts that every phase of a report kept its budget, and prints what the run was spent on.
#[track_caller]
pub fn within_budget(report: &Value, wall: Duration) {
    let seconds = |value: &Value| value.as_f64().unwrap();
    for phase in report["phases"].as_array().unwrap() {
        eprintln!("  {:16} {:6.1} s, {}", phase["id"].as_str().unwrap(), seconds(&phase["seconds"]), phase["verdict"]);
        assert_ne!(phase["verdict"], "Over", "{phase}");
    }
    assert_eq!(report["recovery"]["verdict"], "Within", "{}", report["recovery"]);
    let path = report["critical_path"].as_array().unwrap();
    let sum = |of: &dyn Fn(&Value) -> bool| -> f64 {
        path.iter().filter(|segment| of(&segment["kind"])).map(|segment| seconds(&segment["seconds"])).sum()
    };
    let (whole, own) = (sum(&|_| true), sum(&|kind| kind["Wait"]["wait"] == "Engine"));
    eprintln!(
        "{}: wall {:.1} s, outage {:.1} s, critical path {whole:.1} s, our own share {:.2} %",
        report["runbook"],
        wall.as_secs_f64(),
        seconds(&report["recovery"]["seconds"]),
        100.0 * own / whole
    );
    let outside = wall.as_secs_f64() - whole;
    assert!(whole > 0.0 && outside < 5.0, "{outside:.1} s of the wall time are on no critical path");
}
