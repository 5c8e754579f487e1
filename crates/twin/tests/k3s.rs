//! K3s: what is another behaviour than RKE2's.

#![allow(clippy::unwrap_used)] // what tests are made of is test code as well

mod hand;

use hand::{Hand, done, host};
use rke2flow_engine::cluster::Distribution;
use rke2flow_steps::answer::ReceiptAnswer;
use rke2flow_steps::command::Change;
use rke2flow_twin::{Fault, TwinSpec, ViolationKind};
use serde_json::Value;

const OLD: &str = "v1.33.4+k3s1";
const NEW: &str = "v1.34.1+k3s1";

#[tokio::test(start_paused = true)]
async fn etcd_and_api_stop_with_the_unit_and_the_other_containers_run_on() {
    let cut = Fault::UnitCut { host: None, change: "KillNode".to_owned(), stage: 1, times: 2 };
    let mut hand = Hand::on(TwinSpec { faults: vec![cut], ..TwinSpec::of(Distribution::K3s) });
    for name in ["server-0", "server-1"] {
        let receipt = hand.change(&host(name), Change::KillNode { grace_seconds: 5 }).await;
        assert!(matches!(receipt, ReceiptAnswer::Interrupted { .. }), "{receipt:?}");
        let survey = hand.survey(&host(name));
        assert_eq!((survey.unit.as_str(), survey.etcd_health.as_str()), ("inactive", ""));
        assert!(survey.shims > 0 && survey.open_ports.is_empty(), "{survey:#?}");
    }
    assert_eq!(hand.survey(&host("server-2")).etcd_health, "false", "two of three are gone");
    hand.must(&host("server-0"), Change::KillNode { grace_seconds: 5 }).await;
    assert_eq!(hand.survey(&host("server-0")).shims, 0);
}

#[tokio::test(start_paused = true)]
async fn a_server_has_no_static_pods_and_its_supervisor_is_on_the_ports_of_the_api() {
    let hand = Hand::on(TwinSpec::of(Distribution::K3s));
    let survey = hand.survey(&host("server-1"));
    assert_eq!((survey.open_ports, survey.static_pods), (vec![2379, 2380, 6443], Vec::<String>::new()));
    assert_eq!((survey.api_version.as_str(), survey.datastore.as_str()), (OLD, "etcd"));
    assert_eq!(survey.configured_server, "https://127.0.1.1:6443");
    assert_eq!(survey.members.len(), 3);
    let pods = hand.get("/api/v1/namespaces/kube-system/pods");
    let names = pods["items"].as_array().unwrap().iter().map(|pod| pod["metadata"]["name"].as_str().unwrap());
    assert_eq!(names.filter(|name| name.starts_with("etcd") || name.starts_with("kube-")).count(), 0);
}

#[tokio::test(start_paused = true)]
async fn snapshots_and_passwords_carry_the_name_of_k3s() {
    let mut hand = Hand::on(TwinSpec::of(Distribution::K3s));
    let snapshot = hand.snapshot("point").await.unwrap();
    assert!(snapshot.path.starts_with("/var/lib/rancher/k3s/server/db/snapshots/point-server-0-"), "{snapshot:?}");
    let key = hand.twin.bucket().keys("twin-backups", "twin-etcd/point").remove(0);
    let object = hand.twin.bucket().look("twin-backups", &key).unwrap().unwrap();
    assert_eq!(object.metadata["k3s-node-name"], "server-0");
    let records = hand.get("/apis/k3s.cattle.io/v1/etcdsnapshotfiles");
    assert!(records.to_string().contains("etcd.k3s.cattle.io/snapshot-token-hash"), "{records}");
    let secret = "/api/v1/namespaces/kube-system/secrets/agent-0.node-password.k3s";
    assert_eq!(hand.kube("server-0", "GET", secret, Value::Null).0, 200);
}

#[tokio::test(start_paused = true)]
async fn a_rollback_by_hand_takes_objects_versions_and_charts_back() {
    let mut hand = Hand::on(TwinSpec::of(Distribution::K3s));
    hand.fetch(&[OLD, NEW]).await;
    hand.config_map("before");
    let snapshot = hand.snapshot("point").await.unwrap();
    hand.config_map("after");
    hand.upgrade(NEW).await;
    let survey = hand.survey(&host("server-1"));
    assert_eq!((survey.shipped_charts, survey.api_version.as_str()), (6, NEW));
    hand.next_run("261122-0500-back");
    hand.rollback(&snapshot, OLD).await;
    assert!(hand.has_config_map("server-1", "before") && !hand.has_config_map("server-1", "after"));
    hand.no_violation();
    for name in hand.servers() {
        let survey = hand.survey(&name);
        assert_eq!((survey.members.len(), survey.shipped_charts, survey.api_version.as_str()), (3, 5, OLD), "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_reset_beside_living_servers_is_seen() {
    let mut hand = Hand::on(TwinSpec::of(Distribution::K3s));
    let snapshot = hand.snapshot("point").await.unwrap();
    hand.kill(&[host("server-0")]).await;
    hand.clean(&[host("server-0")]).await;
    assert!(done(&hand.reset(&snapshot).await));
    assert!(hand.kinds().contains(&ViolationKind::TwoControlPlanes), "{:?}", hand.kinds());
}
