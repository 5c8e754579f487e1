//! Upgrades that stop halfway, with the real binary: what is said, what is left, and every way on.

use rke2flow_twin::serve::Ask;
use serde_json::{Value, json};

use crate::scenario::Scenario;

const OLD: &str = "v1.33.4+rke2r1";
const NEW: &str = "v1.34.1+rke2r1";

/// An upgrade whose second server cannot be installed. Server 0 leads etcd, so that it goes last.
fn stopped_at_the_second_server() -> (Scenario, String) {
    let fault = r#"UnitFails(host: "server-2", change: "InstallVersion", stage: 0, times: 99)"#;
    let shape = ["--servers", "3", "--agents", "1", "--speed", "100", "--fault", fault];
    let scenario = Scenario::with_twin_of(&shape);
    let stopped = scenario.rke2flow(&["run", "upgrade", "--yes"]).ends_with(1);
    let run = scenario.only_run();
    stopped
        .says("servers/InstallVersion@server-2")
        .says(&format!("server-0: runs {OLD}, votes in etcd"))
        .says(&format!("server-1: runs {NEW}, votes in etcd"))
        .says(&format!("server-2: runs {OLD}, cordoned, votes in etcd"))
        .says(&format!("agent-0: runs {OLD}"))
        .says("server-2: cordoned")
        .says("backup schedules are paused")
        .says(&format!("resume {run}"))
        .says(&format!("abort {run}   (leaves every host on the version that it has"))
        .says(&format!("run rollback --set to={run}"));
    (scenario, run)
}

/// The kinds of violations, each once.
fn kinds(scenario: &Scenario) -> Vec<String> {
    let judged = scenario.ask_twin(Ask::Judge, Value::Null);
    let kind = |violation: &Value| violation["kind"].as_str().unwrap().to_owned();
    let mut kinds: Vec<String> = judged.as_array().unwrap().iter().map(kind).collect();
    kinds.sort();
    kinds.dedup();
    kinds
}

#[test]
fn an_upgrade_that_stops_on_the_second_server_says_what_runs_and_its_abort_leaves_a_healthy_cluster() {
    let (scenario, run) = stopped_at_the_second_server();
    let status = scenario.rke2flow(&["status", &run]).ends_with(0);
    status
        .prints(&format!("server-1: runs {NEW}"))
        .prints("server-2: its version was being changed, and what runs is not proved")
        .prints("server-0, agent-0: not touched yet")
        .prints("server-2: cordoned")
        .prints(&format!("run rollback --set to={run}"));
    assert_eq!(scenario.status(&run)["versions"][1]["host"], "server-1");

    let aborted = scenario.rke2flow(&["abort", &run]).ends_with(0);
    aborted
        .says("no cordon, no fence, no hold of it is left")
        .says(&format!("server-0, server-2: runs {OLD}, votes in etcd"))
        .says(&format!("server-1: runs {NEW}, votes in etcd"))
        .says("run upgrade   (goes on from where it is)")
        .says(&format!("run rollback --set to={run}"));
    // Servers of two versions, and nothing else that is wrong.
    assert_eq!(kinds(&scenario), ["VersionsDiffer"]);
    scenario.rke2flow(&["run", "health"]).ends_with(0);

    scenario.rke2flow(&["run", "rollback", "--set", &format!("to={run}"), "--yes"]).ends_with(0);
    assert_eq!(scenario.ask_twin(Ask::Judge, Value::Null), json!([]));
    let print = scenario.ask_twin(Ask::Fingerprint, Value::Null);
    for host in print["hosts"].as_object().unwrap().values() {
        assert_eq!(host["running"], OLD, "{print}");
    }
}

#[test]
fn an_upgrade_that_stopped_is_rolled_back_to_its_own_point_without_an_abort_or_goes_on() {
    let (scenario, run) = stopped_at_the_second_server();
    scenario.rke2flow(&["run", "rollback", "--set", &format!("to={run}"), "--yes"]).ends_with(0).says("superseded");
    assert_eq!(scenario.ask_twin(Ask::Judge, Value::Null), json!([]));
    scenario.rke2flow(&["resume", &run]).ends_with(0).says("superseded");
}
