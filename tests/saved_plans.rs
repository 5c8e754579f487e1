//! Plans in files: a run applies exactly what was saved, or says what is another thing now. And what `plan` says of
//! those who use the cluster.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use rke2flow_twin::serve::Ask;
use serde_json::{Value, json};

use crate::scenario::Scenario;

const HOLD: &str = r#"
Runbook(
  format: 1, name: "hold",
  params: { "note": Text("nothing") },
  phases: [(id: "work", clock: Before, budget: (ha: "10m", single: "10m"))],
  steps: [
    (id: "hold", phase: "work", on: Servers, do: [HoldUnit()]),
    (id: "say", phase: "work", on: Operator, needs: [All("hold")], do: [Gate(show: "${param.note}")]),
    (id: "release", phase: "work", on: Servers, needs: [All("say")], do: [ReleaseHold()]),
  ],
)
"#;

/// A cluster of one server, and a saved plan for it.
fn saved() -> Scenario {
    let scenario = Scenario::with_twin().file("hold.ron", HOLD);
    scenario
        .rke2flow(&["plan", "hold.ron", "--set", "note=it's fine", "--out", "plan.json"])
        .ends_with(0)
        .says("run hold.ron --plan plan.json");
    scenario
}

/// Nothing was begun.
fn no_run(scenario: &Scenario) {
    let runs: Value = serde_json::from_str(&scenario.rke2flow(&["runs", "-o", "json"]).stdout).unwrap();
    assert_eq!(runs["runs"], json!([]));
}

fn document(scenario: &Scenario) -> Value {
    serde_json::from_str(&fs::read_to_string(scenario.path("plan.json")).unwrap()).unwrap()
}

#[test]
fn a_saved_plan_is_applied_exactly_without_saying_its_parameters_again() {
    let scenario = saved();
    let document = document(&scenario);
    scenario.rke2flow(&["run", "hold.ron", "--plan", "plan.json", "--yes"]).ends_with(0);
    let records = scenario.records(&scenario.only_run());
    let pieces = records.iter().filter(|record| record["kind"] == "PlanChunk");
    let plan: String = pieces.map(|record| record["data"]["text"].as_str().unwrap()).collect();
    assert_eq!(serde_json::from_str::<Value>(&plan).unwrap(), document["plan"]);
    assert_eq!(records[0]["data"]["params"], json!({ "note": "it's fine" }));
}

#[test]
fn a_saved_plan_is_for_its_owner_alone_and_has_no_secret_in_it() {
    let scenario = saved();
    let mode = fs::metadata(scenario.path("plan.json")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let text = fs::read_to_string(scenario.path("plan.json")).unwrap();
    let mut secrets = 0;
    for entry in fs::read_dir(scenario.path("twin")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let public = name.ends_with(".ron") || name.ends_with(".pub") || name.contains("known_hosts");
        let Ok(content) = fs::read_to_string(&path) else { continue };
        for line in content.lines().map(str::trim).filter(|line| !public && line.len() >= 16 && !line.contains("---")) {
            secrets += 1;
            assert!(!text.contains(line), "a line of {name} is in the plan");
        }
    }
    assert!(secrets > 0, "the twin has no secrets to look for");
}

#[test]
fn an_edited_runbook_an_edited_cluster_file_and_another_parameter_are_drift() {
    let mut scenario = saved();
    let refused = |scenario: &Scenario, more: &[&str], what: &str| {
        let mut arguments = vec!["run", "hold.ron", "--plan", "plan.json", "--yes"];
        arguments.extend(more);
        scenario
            .rke2flow(&arguments)
            .ends_with(4)
            .says(what)
            .says(r"rke2flow plan hold --set 'note=it'\''s fine' --out FILE");
        no_run(scenario);
    };
    refused(&scenario, &["--set", "note=other"], r#"parameter note: "it's fine" then, "other" now"#);
    scenario = scenario.file("hold.ron", format!("{HOLD}// edited\n"));
    refused(&scenario, &[], "the runbook: sha256");
    scenario = scenario.file("hold.ron", HOLD).cluster(|text| format!("{text}\n// edited\n"));
    refused(&scenario, &[], "the cluster file: sha256");
}

#[test]
fn a_world_that_has_changed_since_is_drift() {
    let scenario = saved();
    let other = json!({ "Install": { "host": "server-0", "version": "v1.35.0+rke2r1" } });
    scenario.ask_twin(Ask::Set, other);
    let run = ["run", "hold.ron", "--plan", "plan.json", "--yes"];
    scenario.rke2flow(&run).ends_with(4).says("server-0: installed v1.").says("v1.35.0+rke2r1 now");
    no_run(&scenario);

    scenario.rke2flow(&["plan", "hold.ron", "--out", "plan.json"]).ends_with(0);
    scenario.ask_twin(Ask::Set, json!({ "Hold": "server-0" }));
    scenario.ask_twin(Ask::Set, json!({ "HoldDropIn": "server-0" }));
    scenario.rke2flow(&run).ends_with(4).says("hold/HoldUnit@server-0: would run then, done now");
    no_run(&scenario);

    scenario.rke2flow(&["plan", "hold.ron", "--out", "plan.json"]).ends_with(0);
    scenario.rke2flow(&run).ends_with(0);
}

#[test]
fn damaged_huge_foreign_and_streamed_plans_are_refused_by_name() {
    let scenario = saved();
    let whole = fs::read_to_string(scenario.path("plan.json")).unwrap();
    let run = |plan: &str, code: i32, says: &str| {
        scenario.rke2flow(&["run", "hold.ron", "--plan", plan, "--yes"]).ends_with(code).says(says);
    };
    fs::write(scenario.path("half.json"), &whole[..whole.len() / 2]).unwrap();
    run("half.json", 2, "it is no saved plan: EOF while parsing");
    fs::File::create(scenario.path("huge.json")).unwrap().set_len(300 << 20).unwrap();
    run("huge.json", 2, "it has 314572800 bytes, more than 268435456");
    let mut other = document(&scenario);
    other["tool"] = "0.0.1".into();
    fs::write(scenario.path("older.json"), other.to_string()).unwrap();
    run("older.json", 4, "rke2flow 0.0.1 made it");
    other["schema"] = "rke2flow.dev/plan/v2".into();
    fs::write(scenario.path("newer.json"), other.to_string()).unwrap();
    run("newer.json", 4, "in the form rke2flow.dev/plan/v2");
    run("-", 2, "a plan is read from a file");
    run("/dev/stdin", 2, "it is not a regular file");
    run("missing.json", 2, "No such file");
    no_run(&scenario);
}

#[test]
fn a_plan_is_not_saved_where_it_would_replace_a_device() {
    let scenario = Scenario::new().file("hold.ron", HOLD);
    scenario.rke2flow(&["plan", "hold.ron", "--out", "/dev/stdout"]).ends_with(2).says("not a regular file");
    scenario.rke2flow(&["plan", "hold.ron", "--out", "-"]).ends_with(2).says("plan … -o json");
}

#[test]
fn a_plan_that_was_saved_offline_compares_files_and_says_so() {
    let scenario = Scenario::with_twin().file("hold.ron", HOLD);
    scenario.rke2flow(&["plan", "hold.ron", "--offline", "--out", "plan.json"]).ends_with(0);
    let run = ["run", "hold.ron", "--plan", "plan.json", "--yes"];
    scenario.rke2flow(&run).ends_with(0).says("the plan was saved with --offline");
}

#[test]
fn a_plan_names_the_nodes_the_api_loss_and_the_workloads_of_one_pod() {
    let scenario = Scenario::with_twin_of(&["--servers", "3", "--agents", "1", "--speed", "100"]);
    let labels = json!({ "app": "lone" });
    let post = |path: &str, body: Value| {
        scenario.ask_twin(Ask::Write, json!({ "method": "POST", "path": path, "body": body }));
    };
    post(
        "/apis/apps/v1/namespaces/shop/deployments",
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "lone", "namespace": "shop" },
            "spec": { "replicas": 1, "selector": { "matchLabels": labels }, "template": { "metadata": { "labels": labels } } },
        }),
    );
    post(
        "/api/v1/namespaces/shop/pods",
        json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {
                "name": "lone-1", "namespace": "shop", "labels": labels,
                "ownerReferences": [{ "kind": "ReplicaSet", "name": "lone", "uid": "x", "apiVersion": "apps/v1" }],
            },
            "spec": { "nodeName": "agent-0" }, "status": { "phase": "Running" },
        }),
    );
    scenario
        .rke2flow(&["plan", "upgrade"])
        .ends_with(0)
        .prints("restarted: server-0 server-1 server-2 agent-0")
        .prints("no API for 0s (3 servers restart, at most 1 at once, and the others keep quorum)")
        .prints("Deployment shop/lone on agent-0")
        .prints("no rollback brings back: data in persistent volumes");
    let plan: Value = serde_json::from_str(&scenario.rke2flow(&["plan", "rollback", "-o", "json"]).stdout).unwrap();
    let radius = &plan["blast_radius"];
    assert_eq!(radius["killed"], json!(["server-0", "server-1", "server-2", "agent-0"]));
    assert!(radius["api_loss"]["why"].as_str().unwrap().contains("budget 15m"), "{radius}");
    let single = radius["single_replicas"]["known"]["named"].as_array().unwrap();
    assert!(single.contains(&json!({ "kind": "Deployment", "name": "shop/lone", "node": "agent-0" })), "{radius}");
}

#[test]
fn what_an_api_that_is_down_would_know_cannot_be_told() {
    let scenario = Scenario::with_twin();
    scenario.ask_twin(Ask::Set, json!({ "KillNode": "server-0" }));
    scenario
        .rke2flow(&["plan", "upgrade"])
        .ends_with(0)
        .prints("(the only server restarts)")
        .prints("workloads of one pod there: cannot tell: ");
}
