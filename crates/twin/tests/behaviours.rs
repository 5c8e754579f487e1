//! The unpleasant behaviours of RKE2 and Kubernetes, one by one.

#![allow(clippy::unwrap_used)] // what tests are made of is test code as well

mod hand;

use hand::{Hand, NEW, OLD, done, host, install, parts};
use rke2flow_steps::answer::{ReceiptAnswer, Tail};
use rke2flow_steps::command::{Change, Look, NodePart};
use rke2flow_steps::render::decode_text;
use rke2flow_twin::{Fault, TwinSpec};
use serde_json::{Value, json};

fn log_of(hand: &Hand, name: &str, unit: &str) -> String {
    let tail: Tail = hand.look(&host(name), Look::Log { unit: unit.to_owned(), lines: 200 });
    String::from_utf8(decode_text(&tail.text).unwrap()).unwrap()
}

fn output(receipt: &ReceiptAnswer) -> String {
    let ReceiptAnswer::Finished { tail, .. } = receipt else { panic!("{receipt:?}") };
    String::from_utf8(decode_text(tail).unwrap()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_failed_upload_prints_one_line_and_exits_0() {
    let mut hand = Hand::on(TwinSpec { faults: vec![Fault::UploadFails(1)], ..TwinSpec::default() });
    let receipt = hand.change(&host("server-0"), Change::SaveSnapshot { name: "first".to_owned() }).await;
    assert!(done(&receipt) && output(&receipt).matches("saved.").count() == 1);
    assert!(hand.twin.bucket().keys("twin-backups", "twin-etcd/first").is_empty());
    let receipt = hand.change(&host("server-0"), Change::SaveSnapshot { name: "second".to_owned() }).await;
    assert!(done(&receipt) && output(&receipt).matches("saved.").count() == 2);
    let key = hand.twin.bucket().keys("twin-backups", "twin-etcd/second").remove(0);
    let object = hand.twin.bucket().look("twin-backups", &key).unwrap().unwrap();
    assert_eq!(object.metadata["rke2-node-name"], "server-0");
    assert_eq!(object.bytes.len() % 512, 32);
}

#[tokio::test(start_paused = true)]
async fn a_failed_snapshot_prints_nothing_and_exits_0() {
    let mut hand = Hand::on(TwinSpec { faults: vec![Fault::SnapshotFails(1)], ..TwinSpec::default() });
    assert!(hand.snapshot("point").await.is_none());
    assert!(hand.snapshot("point").await.is_some());
}

#[tokio::test(start_paused = true)]
async fn a_compressed_snapshot_is_unpacked_before_it_is_restored() {
    let mut hand = Hand::on(TwinSpec { compress: true, ..TwinSpec::default() });
    let snapshot = hand.snapshot("point").await.unwrap();
    assert!(snapshot.path.ends_with(".zip"));
    hand.kill(&hand.names(None)).await;
    hand.clean(&hand.servers()).await;
    let zipped = Change::ClusterReset { snapshot: snapshot.path.clone(), sha256: snapshot.sha256.clone() };
    assert!(!done(&hand.change(&host("server-0"), zipped).await));
    assert!(done(&hand.reset(&snapshot).await));
}

#[tokio::test(start_paused = true)]
async fn applications_run_on_the_server_where_there_is_no_agent() {
    let mut hand = Hand::on(TwinSpec { servers: 1, agents: 0, ..TwinSpec::default() });
    assert_eq!(hand.twin.application("http://shop/heartbeat"), Some((200, "ok".to_owned())));
    hand.kill(&hand.names(None)).await;
    assert_eq!(hand.twin.application("http://shop/heartbeat"), None);
}

#[tokio::test(start_paused = true)]
async fn containers_outlive_the_unit_and_keep_the_quorum_until_killall() {
    let mut hand = Hand::on(TwinSpec {
        faults: vec![Fault::UnitCut { host: None, change: "KillNode".to_owned(), stage: 1, times: 2 }],
        ..TwinSpec::default()
    });
    for name in ["server-0", "server-1"] {
        let receipt = hand.change(&host(name), Change::KillNode { grace_seconds: 5 }).await;
        assert!(matches!(receipt, ReceiptAnswer::Interrupted { .. }), "{receipt:?}");
        let survey = hand.survey(&host(name));
        assert_eq!((survey.unit.as_str(), survey.etcd_health.as_str()), ("inactive", "true"));
        assert!(survey.shims > 0 && survey.open_ports == [2379, 2380, 6443]);
    }
    assert_eq!(hand.kube("server-0", "GET", "/readyz", Value::Null).0, 200);
    hand.must(&host("server-0"), Change::KillNode { grace_seconds: 5 }).await;
    assert!(hand.survey(&host("server-0")).open_ports.is_empty());
    assert_eq!(hand.kube("server-1", "GET", "/readyz", Value::Null).0, 200);
    hand.must(&host("server-1"), Change::KillNode { grace_seconds: 5 }).await;
    assert_eq!(hand.kube("server-2", "GET", "/readyz", Value::Null).0, 500);
    assert_eq!(hand.survey(&host("server-2")).etcd_health, "false");
}

#[tokio::test(start_paused = true)]
async fn a_held_node_stays_down_through_start_and_boot() {
    let mut hand = Hand::new();
    let name = host("server-1");
    hand.kill(std::slice::from_ref(&name)).await;
    assert!(!done(&hand.change(&name, Change::StartUnit).await));
    let boot = hand.survey(&name).boot;
    hand.twin.power_cycle(&name);
    hand.sleep(120).await;
    let survey = hand.survey(&name);
    assert!(survey.unit == "inactive" && survey.boot != boot, "{survey:?}");
    hand.must(&name, Change::CleanUp).await;
    hand.twin.power_cycle(&name);
    hand.sleep(30).await;
    hand.active(&name).await;
    hand.no_violation();
}

#[tokio::test(start_paused = true)]
async fn a_reset_is_refused_while_server_is_set_and_its_unit_says_so_only_in_its_log() {
    let mut hand = Hand::new();
    let snapshot = hand.snapshot("point").await.unwrap();
    hand.kill(&hand.names(None)).await;
    hand.change_all(&hand.servers(), |_| Change::MoveAside { parts: parts() }).await;
    let elsewhere = Change::PointAt { server: Some("https://server-1:9345".to_owned()) };
    hand.must(&host("server-0"), elsewhere).await;
    let receipt = hand.reset(&snapshot).await;
    assert!(output(&receipt).contains("server URL is set"), "{}", output(&receipt));
    let survey = hand.survey(&host("server-0"));
    assert!(!survey.reset.unwrap().proved && !survey.reset_flag);
    hand.must(&host("server-0"), Change::PointAt { server: None }).await;
    assert!(done(&hand.reset(&snapshot).await));
    let survey = hand.survey(&host("server-0"));
    assert!(survey.reset_flag && survey.etcd_member && survey.reset.unwrap().proved);
}

#[tokio::test(start_paused = true)]
async fn etcd_is_never_downgraded() {
    let mut hand = Hand::new();
    hand.fetch(&[OLD, NEW]).await;
    hand.upgrade(NEW).await;
    let later = hand.snapshot("later").await.unwrap();
    // The old binary does not open the new data.
    let name = host("server-2");
    hand.must(&name, install(OLD)).await;
    hand.must(&name, Change::RestartUnit).await;
    hand.sleep(60).await;
    let survey = hand.survey(&name);
    assert!(survey.unit == "activating" && survey.unit_restarts > 1, "{survey:?}");
    assert!(log_of(&hand, "server-2", "rke2-server").contains("invalid downgrade"));
    // Nor does it restore a snapshot of it.
    hand.kill(&hand.names(None)).await;
    hand.must(&host("server-0"), install(OLD)).await;
    hand.clean(&hand.servers()).await;
    let receipt = hand.reset(&later).await;
    assert!(!done(&receipt) && output(&receipt).contains("invalid downgrade"), "{receipt:?}");
    assert!(hand.survey(&host("server-0")).reset_flag, "the flag is written before success");
}

#[tokio::test(start_paused = true)]
async fn certificates_newer_than_the_datastore_stop_a_joining_server() {
    let mut hand = Hand::new();
    hand.fetch(&[OLD, NEW]).await;
    let snapshot = hand.snapshot("point").await.unwrap();
    hand.upgrade(NEW).await;
    hand.next_run("261122-0500-back");
    hand.kill(&hand.names(None)).await;
    hand.change_all(&hand.servers(), |_| install(OLD)).await;
    hand.clean(&[host("server-0")]).await;
    hand.change_all(&[host("server-1")], |_| Change::MoveAside { parts: vec![NodePart::Etcd] }).await;
    assert!(done(&hand.reset(&snapshot).await));
    hand.start(&host("server-0")).await;
    hand.must(&host("server-1"), Change::ReleaseHold).await;
    hand.must(&host("server-1"), Change::StartUnit).await;
    hand.sleep(90).await;
    assert_eq!(hand.survey(&host("server-1")).unit, "activating");
    assert!(log_of(&hand, "server-1", "rke2-server").contains("newer than datastore"));
}

#[tokio::test(start_paused = true)]
async fn a_joining_server_is_a_learner_first_and_joins_one_at_a_time() {
    let mut hand = Hand::new();
    let snapshot = hand.snapshot("point").await.unwrap();
    let servers = hand.servers();
    hand.kill(&hand.names(None)).await;
    hand.clean(&servers).await;
    assert!(done(&hand.reset(&snapshot).await));
    hand.start(&servers[0]).await;
    for name in &servers[1..] {
        hand.must(name, Change::ReleaseHold).await;
        hand.must(name, Change::StartUnit).await;
    }
    let mut learners_seen = 0;
    for _ in 0..150 {
        let members = hand.survey(&servers[0]).members;
        let learners = members.iter().filter(|member| member.learner).count();
        assert!(learners <= 1, "{members:?}");
        learners_seen += learners;
        hand.sleep(1).await;
    }
    assert!(learners_seen > 5);
    assert_eq!(hand.survey(&servers[0]).members.len(), 3);
    assert!(log_of(&hand, "server-2", "rke2-server").contains("Waiting for other members"));
}

#[tokio::test(start_paused = true)]
async fn restored_nodes_look_ready_for_a_while_although_they_are_dead() {
    let mut hand = Hand::new();
    let snapshot = hand.snapshot("point").await.unwrap();
    let revision = |hand: &Hand| {
        let list = hand.get("/api/v1/namespaces");
        list["metadata"]["resourceVersion"].as_str().unwrap().parse::<u64>().unwrap()
    };
    hand.sleep(600).await;
    let before = revision(&hand);
    hand.kill(&hand.names(None)).await;
    hand.clean(&hand.servers()).await;
    assert!(done(&hand.reset(&snapshot).await));
    hand.must(&host("server-0"), Change::ReleaseHold).await;
    hand.must(&host("server-0"), Change::StartUnit).await;
    hand.wait("the API", |hand| hand.survey(&host("server-0")).readyz == "ok").await;
    let ready = |hand: &Hand| hand.get("/api/v1/nodes/agent-2")["status"]["conditions"][0]["status"].clone();
    assert_eq!(ready(&hand), "True");
    assert!(revision(&hand) < before, "the revision went on");
    hand.sleep(60).await;
    assert_eq!(ready(&hand), "Unknown");
}

#[tokio::test(start_paused = true)]
async fn charts_of_the_newer_version_crash_loop_unless_they_are_moved_away() {
    let mut hand = Hand::new();
    hand.fetch(&[OLD, NEW]).await;
    let snapshot = hand.snapshot("point").await.unwrap();
    hand.upgrade(NEW).await;
    hand.next_run("261122-0500-back");
    hand.kill(&hand.names(None)).await;
    hand.must(&host("server-0"), install(OLD)).await;
    let all_but_charts = vec![NodePart::Etcd, NodePart::Tls, NodePart::Cred];
    hand.must(&host("server-0"), Change::MoveAside { parts: all_but_charts }).await;
    hand.must(&host("server-0"), Change::PointAt { server: None }).await;
    assert!(done(&hand.reset(&snapshot).await));
    hand.start(&host("server-0")).await;
    let job = hand.get("/apis/batch/v1/namespaces/kube-system/jobs/helm-install-rke2-only-since-1.34");
    assert!(job["status"]["failed"].as_u64().unwrap() > 0, "{job}");
}

#[tokio::test(start_paused = true)]
async fn kubelets_report_the_new_version_before_the_static_pods_run_it() {
    let mut hand = Hand::new();
    hand.fetch(&[NEW]).await;
    let name = host("server-1");
    hand.must(&name, install(NEW)).await;
    hand.must(&name, Change::RestartUnit).await;
    let version = |hand: &Hand| hand.get("/api/v1/nodes/server-1")["status"]["nodeInfo"]["kubeletVersion"].clone();
    let image = |hand: &Hand| {
        let pod = hand.get("/api/v1/namespaces/kube-system/pods/kube-apiserver-server-1");
        pod["spec"]["containers"][0]["image"].as_str().unwrap_or_default().to_owned()
    };
    hand.wait("the kubelet's version", |hand| version(hand) == NEW).await;
    assert!(image(&hand).contains("v1.33.4-rke2r1"));
    hand.wait("the static pod", |hand| image(hand).contains("v1.34.1-rke2r1")).await;
}

#[tokio::test(start_paused = true)]
async fn upgrade_plans_that_nobody_disabled_upgrade_the_cluster_by_themselves() {
    let spec = TwinSpec { upgrade_plan: Some("v1.33.5+rke2r1".to_owned()), ..TwinSpec::default() };
    let hand = Hand::on(spec.clone());
    hand.sleep(4000).await;
    for node in hand.get("/api/v1/nodes")["items"].as_array().unwrap() {
        assert_eq!(node["status"]["nodeInfo"]["kubeletVersion"], "v1.33.5+rke2r1");
    }
    let hand = Hand::on(spec);
    for name in hand.names(None) {
        let labels =
            json!({"plan.upgrade.cattle.io/server-plan": "disabled", "plan.upgrade.cattle.io/agent-plan": "disabled"});
        let path = format!("/api/v1/nodes/{name}");
        hand.kube("server-0", "PATCH", &path, json!({"metadata": {"labels": labels}}));
    }
    hand.sleep(4000).await;
    assert_eq!(hand.get("/api/v1/nodes/server-0")["status"]["nodeInfo"]["kubeletVersion"], OLD);
}

#[tokio::test(start_paused = true)]
async fn deleted_pods_come_back_younger_and_deleted_live_servers_lose_their_member() {
    let hand = Hand::new();
    hand.sleep(100).await;
    let pods = "/api/v1/namespaces/kube-system/pods";
    let list = hand.get(pods)["items"].as_array().unwrap().len();
    for name in ["etcd-server-1", "kube-proxy-server-0"] {
        let uid = hand.get(&format!("{pods}/{name}"))["metadata"]["uid"].clone();
        assert_eq!(hand.kube("server-0", "DELETE", &format!("{pods}/{name}"), Value::Null).0, 200);
        hand.sleep(20).await;
        assert_ne!(hand.get(&format!("{pods}/{name}"))["metadata"]["uid"], uid);
    }
    assert_eq!(hand.get(pods)["items"].as_array().unwrap().len(), list);
    hand.kube("server-0", "DELETE", "/api/v1/nodes/server-2", Value::Null);
    assert_eq!(hand.survey(&host("server-0")).members.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_host_without_power_answers_nothing_and_comes_back_by_itself() {
    let down = Fault::HostDown { host: host("agent-0"), at_seconds: 50, back_after_seconds: Some(60) };
    let hand = Hand::on(TwinSpec { faults: vec![down], ..TwinSpec::default() });
    hand.sleep(55).await;
    assert!(!hand.twin.reachable(&host("agent-0")));
    hand.sleep(55).await;
    assert_eq!(hand.get("/api/v1/nodes/agent-0")["status"]["conditions"][0]["status"], "Unknown");
    hand.sleep(120).await;
    assert_eq!(hand.survey(&host("agent-0")).unit, "active");
    assert_eq!(hand.get("/api/v1/nodes/agent-0")["status"]["conditions"][0]["status"], "True");
    hand.no_violation();
}
