//! Guards from the outside: what `doctor` says of them, and what `--waive` may name.

use rke2flow_twin::serve::Ask;
use serde_json::Value;

use crate::scenario::Scenario;

fn without_csi() -> Scenario {
    Scenario::with_twin().cluster(|text| text.replace("csi: true", "csi: false"))
}

fn checks_of(scenario: &Scenario, code: i32) -> Vec<Value> {
    let told = scenario.rke2flow(&["doctor", "-o", "json"]).ends_with(code);
    let told: Value = serde_json::from_str(&told.stdout).unwrap();
    assert_eq!(told["schema"], "rke2flow.dev/doctor/v1");
    told["checks"].as_array().unwrap().clone()
}

fn check(checks: &[Value], name: &str) -> Value {
    checks.iter().find(|check| check["check"] == name).unwrap_or_else(|| panic!("no {name} in {checks:?}")).clone()
}

#[test]
fn doctor_warns_and_is_content_or_refuses_with_what_was_seen_and_what_to_do() {
    let scenario = Scenario::with_twin();
    let told = scenario.rke2flow(&["doctor"]).ends_with(0).stdout;
    assert!(told.contains("PASS") && told.contains("WARN") && !told.contains("FAIL"), "{told}");
    let warned = check(&checks_of(&scenario, 0), "backup_freshness");
    assert!(warned["outcome"] == "warn" && warned["pass"] == true, "{warned}");
    assert!(warned["fix"] == "rke2flow run backup" && warned["observed"].to_string().contains("no recovery point"));

    let scenario = scenario.cluster(|text| text.replace("csi: true", "csi: false"));
    let refused = scenario.rke2flow(&["doctor"]).ends_with(4);
    assert!(refused.stdout.contains("fix: install a CSI driver"), "{}", refused.stdout);
    let checks = checks_of(&scenario, 4);
    let failed = check(&checks, "velero_requires_csi");
    assert!(failed["outcome"] == "fail" && failed["pass"] == false && failed["source"] == "velero.io/docs/main/csi");
    // Nothing was changed, and nobody holds the cluster.
    assert!(check(&checks, "claim")["observed"].to_string().contains("nobody has ever claimed it"), "{checks:?}");
    let log = scenario.ask_twin(Ask::Log, Value::Null);
    assert!(log.as_array().unwrap().iter().all(|entry| !entry.to_string().contains("\"Claim")), "{log}");
}

#[test]
fn a_waived_check_is_passed_over_alone_and_written_down() {
    let scenario = without_csi();
    scenario.rke2flow(&["run", "backup", "--yes"]).ends_with(4).says("--waive velero_requires_csi=REASON");
    let refused = scenario.only_run();
    scenario.rke2flow(&["abort", &refused, "--reason", "again with a waiver"]).ends_with(0);
    let told = scenario
        .rke2flow(&["run", "backup", "--yes", "--waive", "velero_requires_csi=volumes are hostPath here"])
        .ends_with(0);
    assert!(told.stderr.contains("WAIVED velero_requires_csi") || told.stdout.contains("WAIVED velero_requires_csi"));
    let runs: Value = serde_json::from_str(&scenario.rke2flow(&["runs", "-o", "json"]).stdout).unwrap();
    let runs = runs["runs"].as_array().unwrap().iter().map(|run| run["run"].as_str().unwrap().to_owned());
    let run = runs.into_iter().find(|run| *run != refused).unwrap();
    let waived = scenario.records(&run).into_iter().find(|record| record["kind"] == "Waived").unwrap();
    assert_eq!(waived["data"]["guard"], "velero_requires_csi");
    assert!(waived["data"]["reason"] == "volumes are hostPath here" && waived["data"]["who"].is_string(), "{waived}");
}

#[test]
fn what_waives_nothing_or_must_not_be_waived_is_bad_input_before_anything_is_connected_to() {
    let scenario = Scenario::with_twin();
    let refused = |waiver: &str| scenario.rke2flow(&["run", "upgrade", "--yes", "--waive", waiver]).ends_with(2);
    refused("disk_fre=checked").says("there is no check `disk_fre`").says("disk_free");
    refused("etcd_quorum=it will be fine").says("etcd_quorum cannot be waived");
    refused("guards=all of them").says("each is waived by its own name");
    refused("Guard=all of them").says("each is waived by its own name");
    refused("disk_free=").says("not of the form");
    assert!(scenario.rke2flow(&["runs", "-o", "json"]).stdout.contains("\"runs\": []"), "a run was begun");
}
