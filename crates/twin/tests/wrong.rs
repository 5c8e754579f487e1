//! Deliberately wrong sequences: the judge names each of them.

#![allow(clippy::unwrap_used)] // what tests are made of is test code as well

mod hand;

use std::time::Duration;

use hand::{Hand, NEW, OLD, Snapshot, done, host, install, parts};
use rke2flow_steps::answer::{REFUSED_EXIT, ReceiptAnswer};
use rke2flow_steps::command::Change;
use rke2flow_twin::{Fault, Tamper, TwinSpec, ViolationKind as V};
use serde_json::json;

/// A cluster of the new version, and a snapshot of when it had the old one.
async fn upgraded() -> (Hand, Snapshot) {
    let mut hand = Hand::new();
    hand.fetch(&[OLD, NEW]).await;
    let snapshot = hand.snapshot("point").await.unwrap();
    hand.upgrade(NEW).await;
    hand.next_run("261122-0500-back");
    (hand, snapshot)
}

#[tokio::test(start_paused = true)]
async fn a_reset_while_other_servers_still_serve_makes_two_control_planes() {
    let (mut hand, snapshot) = upgraded().await;
    hand.kill(&[host("server-0")]).await;
    hand.must(&host("server-0"), install(OLD)).await;
    hand.clean(&[host("server-0")]).await;
    assert!(done(&hand.reset(&snapshot).await));
    assert!(hand.kinds().contains(&V::TwoControlPlanes), "{:#?}", hand.twin.judge());
}

#[tokio::test(start_paused = true)]
async fn servers_that_start_with_their_old_data_are_a_second_control_plane() {
    let (mut hand, snapshot) = upgraded().await;
    let servers = hand.servers();
    hand.kill(&hand.names(None)).await;
    hand.must(&host("server-0"), install(OLD)).await;
    hand.clean(&servers[..1]).await;
    assert!(done(&hand.reset(&snapshot).await));
    hand.start(&servers[0]).await;
    for name in &servers[1..] {
        hand.must(name, Change::ReleaseHold).await;
        hand.must(name, Change::StartUnit).await;
    }
    hand.sleep(60).await;
    let kinds = hand.kinds();
    assert!(kinds.contains(&V::StaleJoiner) && kinds.contains(&V::TwoControlPlanes), "{kinds:?}");
}

#[tokio::test(start_paused = true)]
async fn a_reset_repeated_after_the_start_is_refused_for_the_run_and_judged_if_it_happens() {
    let (mut hand, snapshot) = upgraded().await;
    hand.rollback(&snapshot, OLD).await;
    hand.no_violation();
    hand.kill(&hand.names(None)).await;
    assert!(
        matches!(hand.reset(&snapshot).await, ReceiptAnswer::Finished { exit: REFUSED_EXIT, .. }),
        "the guard let it through"
    );
    // Another run takes away what the guard goes by; then the first one comes back.
    let back = hand.claim.run.to_string();
    hand.next_run("261122-0600-else");
    hand.must(&host("server-0"), Change::MoveAside { parts: parts() }).await;
    hand.must(&host("server-0"), Change::PointAt { server: None }).await;
    hand.next_run(&back);
    assert!(done(&hand.reset(&snapshot).await));
    assert!(hand.kinds().contains(&V::ResetAfterStart), "{:#?}", hand.twin.judge());
}

#[tokio::test(start_paused = true)]
async fn a_server_with_no_data_and_nobody_to_join_is_an_empty_cluster() {
    let mut hand = Hand::on(TwinSpec { servers: 1, ..TwinSpec::default() });
    let server = host("server-0");
    hand.kill(std::slice::from_ref(&server)).await;
    hand.must(&server, Change::MoveAside { parts: parts() }).await;
    hand.must(&server, Change::ReleaseHold).await;
    assert!(!done(&hand.change(&server, Change::StartUnit).await), "the guard let it through");
    hand.twin.power_cycle(&server);
    hand.sleep(120).await;
    assert!(hand.kinds().contains(&V::EmptyCluster), "{:#?}", hand.twin.judge());
    assert!(hand.kinds().contains(&V::AcknowledgedWriteLost));
}

#[tokio::test(start_paused = true)]
async fn two_servers_restarted_at_once_lose_the_quorum() {
    let mut hand = Hand::new();
    hand.fetch(&[NEW]).await;
    let two = &hand.servers()[..2];
    hand.change_all(two, |_| install(NEW)).await;
    hand.change_all(two, |_| Change::RestartUnit).await;
    hand.sleep(120).await;
    assert!(hand.kinds().contains(&V::QuorumLost), "{:#?}", hand.twin.judge());
}

#[tokio::test(start_paused = true)]
async fn an_upgrade_that_stops_halfway_leaves_different_versions() {
    let mut hand = Hand::new();
    hand.fetch(&[NEW]).await;
    hand.must(&host("server-0"), install(NEW)).await;
    hand.must(&host("server-0"), Change::RestartUnit).await;
    hand.active(&host("server-0")).await;
    assert_eq!(hand.kinds(), [V::VersionsDiffer]);
    hand.must(&host("server-1"), install(NEW)).await;
    let detail: Vec<String> = hand.twin.judge().into_iter().map(|found| found.detail).collect();
    assert!(detail.iter().any(|text| text.contains("is installed")), "{detail:?}");
}

#[tokio::test(start_paused = true)]
async fn whatever_keeps_others_from_acting_must_be_gone_at_the_end() {
    let mut hand = Hand::on(TwinSpec { upgrade_plan: Some(OLD.to_owned()), ..TwinSpec::default() });
    hand.no_violation();
    let paths = [
        ("/api/v1/nodes/agent-0", json!({"spec": {"unschedulable": true}}), json!({"spec": {"unschedulable": null}})),
        (
            "/apis/velero.io/v1/namespaces/velero/schedules/velero-six-hourly",
            json!({"spec": {"paused": true}}),
            json!({"spec": {"paused": false}}),
        ),
        (
            "/api/v1/nodes/agent-1",
            json!({"metadata": {"labels": {"plan.upgrade.cattle.io/agent-plan": "disabled"}}}),
            json!({"metadata": {"labels": {"plan.upgrade.cattle.io/agent-plan": null}}}),
        ),
        (
            "/apis/upgrade.cattle.io/v1/namespaces/system-upgrade/plans/server-plan",
            json!({"spec": {"concurrency": 0}}),
            json!({"spec": {"concurrency": 1}}),
        ),
        (
            "/apis/apps/v1/namespaces/system-upgrade/deployments/system-upgrade-controller",
            json!({"spec": {"replicas": 0}}),
            json!({"spec": {"replicas": 1}}),
        ),
    ];
    for (path, up, down) in paths {
        assert_eq!(hand.kube("server-0", "PATCH", path, up).0, 200, "{path}");
        assert_eq!(hand.kinds(), [V::FenceLeftUp], "{path}");
        assert_eq!(hand.kube("server-0", "PATCH", path, down).0, 200, "{path}");
        hand.no_violation();
    }
    hand.must(&host("agent-0"), Change::Hold).await;
    assert_eq!(hand.kinds(), [V::FenceLeftUp]);
    hand.must(&host("agent-0"), Change::CleanUp).await;
    hand.must(&host("server-1"), Change::PointAt { server: None }).await;
    assert_eq!(hand.kinds(), [V::FenceLeftUp]);
    hand.must(&host("server-1"), Change::CleanUp).await;
    hand.no_violation();
}

#[tokio::test(start_paused = true)]
async fn a_secret_in_arguments_or_in_an_order_is_seen() {
    let hand = Hand::new();
    hand.twin.saw_arguments(&host("agent-0"), "sudo -n sh -s");
    hand.no_violation();
    let token = hand.twin.spec().token.clone();
    hand.twin.saw_arguments(&host("agent-0"), &format!("rke2 server --token {token}"));
    assert_eq!(hand.kinds(), [V::SecretExposed]);

    let mut hand = Hand::new();
    let key = hand.twin.spec().secret_key.clone();
    hand.change(&host("agent-0"), Change::Script { script: format!("true {key}") }).await;
    assert_eq!(hand.kinds(), [V::SecretExposed]);
}

#[tokio::test(start_paused = true)]
async fn writes_that_vanish_without_a_rollback_are_lost_writes() {
    let hand = Hand::new();
    hand.sleep(120).await;
    hand.no_violation();
    let (status, _) = hand.kube("server-0", "DELETE", "/api/v1/namespaces/shop/configmaps/marker-3", json!(null));
    assert_eq!((status, hand.kinds()), (200, vec![V::AcknowledgedWriteLost]));
}

#[tokio::test(start_paused = true)]
async fn a_write_after_the_snapshot_that_is_still_there_after_the_rollback_is_seen() {
    let (mut hand, snapshot) = upgraded().await;
    let survivor = hand.get("/api/v1/namespaces/shop/configmaps/marker-3")["data"].clone();
    hand.rollback(&snapshot, OLD).await;
    let path = "/api/v1/namespaces/shop/configmaps/marker-3";
    let create = json!({"metadata": {"name": "marker-3"}, "data": survivor});
    hand.kube("server-0", "DELETE", path, json!(null));
    assert_eq!(hand.kube("server-0", "POST", "/api/v1/namespaces/shop/configmaps", create).0, 201);
    assert_eq!(hand.kinds(), [V::WriteSurvivedRollback]);
}

#[tokio::test(start_paused = true)]
async fn a_unit_that_runs_again_because_its_receipt_is_gone_is_seen() {
    let mut hand = Hand::new();
    let order = hand.order(&host("agent-0"), Change::Hold);
    hand.give(&host("agent-0"), &order);
    hand.sleep(60).await;
    assert!(done(&hand.give(&host("agent-0"), &order)));
    assert_eq!(hand.kinds(), [V::FenceLeftUp]);
    hand.twin.tamper(Tamper::ForgetReceipts(host("agent-0"))).unwrap();
    hand.give(&host("agent-0"), &order);
    assert!(hand.kinds().contains(&V::UnitRunTwice), "{:#?}", hand.twin.judge());
}

#[tokio::test(start_paused = true)]
async fn what_is_not_there_cannot_be_made_wrong() {
    let hand = Hand::new();
    let (host, nobody) = (host("agent-0"), host("agent-9"));
    let path = "/nowhere".to_owned();
    assert!(hand.twin.tamper(Tamper::StopUnit(nobody)).unwrap_err().contains("agent-9"));
    assert!(hand.twin.tamper(Tamper::Corrupt { host, path: path.clone() }).unwrap_err().contains("/nowhere"));
    assert!(hand.twin.tamper(Tamper::RemoveFromBucket(path)).unwrap_err().contains("/nowhere"));
    hand.no_violation();
}

#[tokio::test(start_paused = true)]
async fn a_cluster_whose_server_hangs_is_down() {
    let hangs = Fault::RestartHangs { host: host("server-2"), times: 1 };
    let mut hand = Hand::on(TwinSpec { faults: vec![hangs], ..TwinSpec::default() });
    hand.must(&host("server-2"), Change::RestartUnit).await;
    hand.twin.clock().sleep(Duration::from_secs(600)).await;
    assert_eq!(hand.survey(&host("server-2")).unit, "activating");
    assert_eq!(hand.kinds(), [V::ClusterDown]);
    hand.must(&host("server-2"), Change::RestartUnit).await;
    hand.active(&host("server-2")).await;
    hand.no_violation();
}
