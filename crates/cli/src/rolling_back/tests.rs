//! What counts as changed behind a recovery point.

use rke2flow_engine::plan::{self, Request};

use super::*;

const CLUSTER: &str = r#"(format: 1, name: "test", version: "v1.34.1+rke2r1", hosts: [
    (name: "server-0", address: "10.0.0.1", role: Server), (name: "server-1", address: "10.0.0.2", role: Server),
    (name: "server-2", address: "10.0.0.3", role: Server),
])"#;

fn upgrade() -> Plan {
    let file = cluster_file(&RunId::new("a-run").unwrap(), CLUSTER).unwrap();
    let runbook = reading::read_runbook(&reading::find_runbook("upgrade").unwrap()).unwrap();
    plan::build(&runbook, &file.cluster, &Request::default(), &StepsCatalogue::offline()).unwrap().plan
}

/// The record of a change that began.
fn change(instance: &str) -> Record {
    let line = format!(
        r#"{{"v":1,"seq":1,"at":"2026-11-22T03:00:00Z","boot":"b","mono_ms":1,"run":"a-run","claim":1,"prev":"","kind":"ApplyStarted","data":{{"instance":"{instance}","attempt":1,"unit":"rke2flow-a-run-00000000-a1","inputs":""}}}}"#
    );
    Record::from_line(line.as_bytes()).unwrap()
}

#[test]
fn what_is_behind_the_point_and_comes_back_with_a_restore_is_a_change() {
    let plan = upgrade();
    let recorded = plan.steps.iter().position(|step| step.id.as_str() == "record").unwrap();
    let changed = |instances: &[&str]| {
        let records: Vec<Record> = instances.iter().map(|instance| change(instance)).collect();
        named(&changed_since(&plan, recorded, &records))
    };
    let harmless = ["fence/PauseSchedules@operator", "prefetch-new/FetchRelease@server-0", "servers/Cordon@server-0"];
    assert_eq!(changed(&harmless), "");
    assert_eq!(
        changed(&["servers/InstallVersion@server-1", "servers/InstallVersion@server-1"]),
        "servers/InstallVersion@server-1"
    );
    let many: Vec<String> = (0..6).map(|at| format!("servers/RestartUnit@server-{at}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    assert!(changed(&many).ends_with("servers/RestartUnit@server-3, 2 more"), "{}", changed(&many));
}
