//! The fence: a host refuses what an operator sends who has lost the right to act, whatever program he sends it with.

use std::io::Write;
use std::process::{Command, Stdio};

use rke2flow_engine::action::Claim;
use rke2flow_engine::cluster::{self, Cluster};
use rke2flow_engine::id::{InstanceId, RunId, StepId, Target, UnitName};
use rke2flow_steps::command::{Change, ENVELOPE_VERSION, Envelope, HostCommand, Order};
use rke2flow_steps::paths::HostPaths;
use rke2flow_steps::render;
use rke2flow_twin::serve::Ask;
use serde_json::Value;

use crate::scenario::{Scenario, WITH_GATE, text};

/// The script that this run would send to the only server.
fn order(cluster: &Cluster, claim: Claim) -> String {
    let host = cluster.hosts[0].clone();
    let step = StepId::new("kill").unwrap();
    let instance = InstanceId::new(&step, "KillNode", 1, &Target::Host(host.name));
    let unit = UnitName::new(&claim.run, &instance, 1);
    let order = Order {
        run: claim.run.clone(),
        instance,
        attempt: 1,
        unit,
        claim,
        change: Change::KillNode { grace_seconds: 0 },
    };
    render::script(&Envelope {
        v: ENVELOPE_VERSION,
        cluster: cluster.name.clone(),
        role: host.role,
        paths: HostPaths::of(cluster),
        command: HostCommand::Change(order),
    })
}

/// Sends a script with OpenSSH's own client.
fn ssh(scenario: &Scenario, cluster: &Cluster, script: &str) -> String {
    let ssh = cluster.ssh_of(&cluster.hosts[0]);
    let known_hosts = format!("UserKnownHostsFile={}", text(&scenario.path("twin/known_hosts")));
    let mut client = Command::new("ssh")
        .args(["-F", "none", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes", "-o", &known_hosts, "-i"])
        .arg(ssh.key.unwrap())
        .args(["-p", &ssh.port.unwrap().to_string(), &format!("root@{}", cluster.hosts[0].address), "sh -s"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    client.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
    String::from_utf8(client.wait_with_output().unwrap().stdout).unwrap()
}

fn claim_of(scenario: &Scenario, run: &str, cluster: &Cluster) -> Claim {
    let taken = scenario.records(run).into_iter().find(|record| record["kind"] == "ClaimTaken").unwrap();
    Claim {
        number: taken["data"]["number"].as_u64().unwrap(),
        holder: taken["data"]["holder"].as_str().unwrap().to_owned(),
        run: RunId::new(run).unwrap(),
        cluster: cluster.name.clone(),
    }
}

#[test]
fn a_stale_order_sent_by_a_plain_ssh_client_is_refused_by_the_host() {
    let scenario = Scenario::with_twin().file("gate.ron", WITH_GATE);
    let cluster = cluster::read(&scenario.path("cluster.ron")).unwrap().cluster;
    scenario.rke2flow(&["run", "gate.ron"]).ends_with(3);
    let first = scenario.only_run();
    let stale = order(&cluster, claim_of(&scenario, &first, &cluster));
    scenario.rke2flow(&["run", "gate.ron", "--takeover"]).ends_with(3);
    is_refused_and_changes_nothing(&scenario, &cluster, &stale);
}

#[test]
fn an_order_of_a_run_that_is_over_is_refused_by_the_host() {
    let scenario = Scenario::with_twin().file("gate.ron", WITH_GATE);
    let cluster = cluster::read(&scenario.path("cluster.ron")).unwrap().cluster;
    scenario.rke2flow(&["run", "gate.ron", "--yes"]).ends_with(0);
    let over = order(&cluster, claim_of(&scenario, &scenario.only_run(), &cluster));
    is_refused_and_changes_nothing(&scenario, &cluster, &over);
}

#[track_caller]
fn is_refused_and_changes_nothing(scenario: &Scenario, cluster: &Cluster, order: &str) {
    let before = scenario.ask_twin(Ask::Fingerprint, Value::Null);
    let answer = ssh(scenario, cluster, order);
    assert!(answer.contains("Refused"), "{answer}");
    assert_eq!(scenario.ask_twin(Ask::Fingerprint, Value::Null), before);
    let log = scenario.ask_twin(Ask::Log, Value::Null).to_string();
    assert!(log.contains("change KillNode") && !log.contains("start KillNode"), "{log}");
}

#[test]
fn an_order_of_the_run_that_holds_the_cluster_is_accepted() {
    let scenario = Scenario::with_twin().file("gate.ron", WITH_GATE);
    let cluster = cluster::read(&scenario.path("cluster.ron")).unwrap().cluster;
    scenario.rke2flow(&["run", "gate.ron"]).ends_with(3);
    let script = order(&cluster, claim_of(&scenario, &scenario.only_run(), &cluster));
    let answer = ssh(&scenario, &cluster, &script);
    assert!(answer.contains("Running") || answer.contains("Finished"), "{answer}");
}
