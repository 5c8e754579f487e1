//! An upgrade of many agents: how much of its longest way is the engine's own. Eight agents unless `RKE2FLOW_SCALE_AGENTS`
//! says more; `RKE2FLOW_SCALE_AT_ONCE` and `RKE2FLOW_SCALE_SPEED` go with it. The figures of decision 139 come from here.

use serde_json::Value;

use crate::scenario::Scenario;

/// The engine's part of the longest way that is still accepted: generous, for a rehearsal turns each millisecond of a
/// busy machine into many of cluster time. At the speed of life it is below a hundredth.
const ENGINE_SHARE_MAX: f64 = 0.5;

fn setting(name: &str, default: u32) -> String {
    let set = std::env::var(name).ok().and_then(|value| value.parse().ok());
    set.unwrap_or(default).to_string()
}

/// The part of the critical path during which nothing but the engine worked.
fn engine_share(report: &Value) -> f64 {
    let segments = report["critical_path"].as_array().unwrap();
    let seconds = |of: &dyn Fn(&Value) -> bool| -> f64 {
        segments.iter().filter(|segment| of(segment)).filter_map(|segment| segment["seconds"].as_f64()).sum()
    };
    seconds(&|segment| segment["kind"]["Wait"]["wait"] == "Engine") / seconds(&|_| true)
}

#[test]
fn an_upgrade_of_many_agents_takes_as_long_as_its_longest_way() {
    let (agents, speed) = (setting("RKE2FLOW_SCALE_AGENTS", 8), setting("RKE2FLOW_SCALE_SPEED", 60));
    let at_once = setting("RKE2FLOW_SCALE_AT_ONCE", 4);
    let shape = ["--servers", "1", "--agents", &agents, "--speed", &speed];
    let scenario = Scenario::with_twin_of(&shape);
    let set = format!("agents_at_once={at_once}");
    let mut engine = scenario.start(&["run", "upgrade", "--set", &set, "--yes", "-o", "json"]);
    let mut memory = String::new();
    while engine.reads(1) {
        let status = std::fs::read_to_string(format!("/proc/{}/status", engine.id())).unwrap_or_default();
        let peak = status.lines().find(|line| line.starts_with("VmHWM")).map(str::to_owned);
        memory = peak.unwrap_or(memory);
    }
    assert_eq!(engine.end(), Some(0));
    let report = scenario.rke2flow(&["report", "-o", "json"]).ends_with(0).stdout;
    let share = engine_share(&serde_json::from_str(&report).unwrap());
    eprintln!("{agents} agents, {at_once} at once, speed {speed}: engine {:.2} % of the way, {memory}", share * 100.0);
    assert!(share < ENGINE_SHARE_MAX, "{share}");
}
