//! Right sequences: the twin comes to the end that RKE2 would come to, and the judge has nothing to say.

mod hand;

use hand::{Hand, NEW, OLD, host};
use rke2flow_twin::TwinSpec;
use serde_json::json;

#[tokio::test(start_paused = true)]
async fn a_cluster_left_alone_stays_healthy() {
    let hand = Hand::new();
    hand.sleep(3600).await;
    hand.no_violation();
    for name in hand.servers() {
        let survey = hand.survey(&name);
        assert_eq!(
            (survey.unit.as_str(), survey.etcd_health.as_str(), survey.readyz.as_str()),
            ("active", "true", "ok")
        );
        assert_eq!(survey.members.len(), 3);
    }
    for node in hand.get("/api/v1/nodes")["items"].as_array().unwrap() {
        assert_eq!(node["status"]["conditions"][0]["status"], "True");
    }
}

#[tokio::test(start_paused = true)]
async fn an_upgrade_one_node_after_the_other_keeps_every_write() {
    let mut hand = Hand::new();
    hand.fetch(&[NEW]).await;
    hand.upgrade(NEW).await;
    hand.no_violation();
    for node in hand.get("/api/v1/nodes")["items"].as_array().unwrap() {
        assert_eq!(node["status"]["nodeInfo"]["kubeletVersion"], NEW);
    }
    let pod = hand.get("/api/v1/namespaces/kube-system/pods/kube-apiserver-server-2");
    assert!(pod["spec"]["containers"][0]["image"].as_str().unwrap().contains("v1.34.1-rke2r1"));
}

#[tokio::test(start_paused = true)]
async fn a_rollback_after_an_upgrade_takes_objects_and_versions_back() {
    let mut hand = Hand::new();
    hand.fetch(&[OLD, NEW]).await;
    hand.config_map("before");
    let snapshot = hand.snapshot("point").await.unwrap();
    hand.config_map("after");
    hand.upgrade(NEW).await;
    assert_eq!(hand.survey(&host("server-1")).shipped_charts, 7);
    hand.next_run("261122-0500-back");
    hand.rollback(&snapshot, OLD).await;

    assert!(hand.has_config_map("server-1", "before"));
    assert!(!hand.has_config_map("server-1", "after"));
    hand.no_violation();
    for name in hand.names(None) {
        assert_eq!(hand.survey(&name).installed, OLD);
    }
    for name in hand.servers() {
        let survey = hand.survey(&name);
        assert_eq!((survey.members.len(), survey.shipped_charts, survey.reset_flag), (3, 6, false), "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_single_server_can_be_upgraded_and_rolled_back() {
    let mut hand = Hand::on(TwinSpec { servers: 1, agents: 1, ..TwinSpec::default() });
    hand.fetch(&[OLD, NEW]).await;
    let snapshot = hand.snapshot("point").await.unwrap();
    hand.upgrade(NEW).await;
    hand.no_violation();
    hand.next_run("261122-0500-back");
    hand.rollback(&snapshot, OLD).await;
    hand.no_violation();
}

#[tokio::test(start_paused = true)]
async fn two_equal_runs_have_equal_fingerprints_and_a_fence_shows_in_them() {
    let prints = |fence: bool| async move {
        let mut hand = Hand::new();
        hand.fetch(&[NEW]).await;
        if fence {
            hand.sleep(33).await;
        }
        hand.upgrade(NEW).await;
        hand.twin.fingerprint()
    };
    let (one, later) = (prints(false).await, prints(true).await);
    assert_eq!(one, later);
    let hand = Hand::new();
    let before = hand.twin.fingerprint();
    hand.kube("server-0", "PATCH", "/api/v1/nodes/agent-0", json!({"spec": {"unschedulable": true}}));
    assert_ne!(before, hand.twin.fingerprint());
}
