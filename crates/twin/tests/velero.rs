//! Velero as it is: what it writes where, and the restores that restore nothing.

#![allow(clippy::unwrap_used)] // what tests are made of is test code as well

mod hand;

use hand::{Hand, done, host};
use rke2flow_steps::command::Change;
use rke2flow_twin::{Fault, TwinSpec};
use serde_json::{Value, json};

const BACKUPS: &str = "/apis/velero.io/v1/namespaces/velero/backups";
const RESTORES: &str = "/apis/velero.io/v1/namespaces/velero/restores";

fn phase(hand: &Hand, path: &str) -> String {
    hand.get(path)["status"]["phase"].as_str().unwrap_or_default().to_owned()
}

async fn backup(hand: &Hand, name: &str) -> String {
    let spec = json!({"includedNamespaces": ["shop"], "defaultVolumesToFsBackup": true});
    let (status, body) = hand.kube("server-0", "POST", BACKUPS, json!({"metadata": {"name": name}, "spec": spec}));
    assert_eq!(status, 201, "{body}");
    end(hand, &format!("{BACKUPS}/{name}")).await
}

async fn restore(hand: &Hand, name: &str, backup: &str) -> String {
    let spec = json!({"backupName": backup, "includedNamespaces": ["shop"]});
    let (status, body) = hand.kube("server-0", "POST", RESTORES, json!({"metadata": {"name": name}, "spec": spec}));
    assert_eq!(status, 201, "{body}");
    end(hand, &format!("{RESTORES}/{name}")).await
}

async fn end(hand: &Hand, path: &str) -> String {
    let terminal = |hand: &Hand| {
        ["Completed", "PartiallyFailed", "Failed", "FailedValidation"].contains(&phase(hand, path).as_str())
    };
    hand.wait(path, terminal).await;
    phase(hand, path)
}

fn restored_volumes(hand: &Hand) -> usize {
    hand.get("/apis/velero.io/v1/namespaces/velero/podvolumerestores")["items"].as_array().unwrap().len()
}

#[tokio::test(start_paused = true)]
async fn a_backup_ends_with_its_volumes_and_its_proof_in_the_bucket() {
    let hand = Hand::new();
    hand.sleep(30).await;
    assert_eq!(backup(&hand, "one").await, "Completed");
    let keys = hand.twin.bucket().keys("twin-backups", "velero/backups/one/");
    assert!(keys.iter().any(|key| key.ends_with("one.tar.gz")) && keys.len() == 8, "{keys:?}");
    let json = hand.twin.bucket().look("twin-backups", "velero/backups/one/velero-backup.json").unwrap().unwrap();
    let json: Value = serde_json::from_slice(&json.bytes).unwrap();
    assert_eq!(json["status"]["phase"], "Completed");
    let pvb = &hand
        .get("/apis/velero.io/v1/namespaces/velero/podvolumebackups?labelSelector=velero.io%2Fbackup-name%3Done")["items"];
    assert_eq!((pvb.as_array().unwrap().len(), pvb[0]["status"]["phase"].as_str()), (1, Some("Completed")));
    assert!(!pvb[0]["status"]["snapshotID"].as_str().unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_name_that_the_bucket_knows_is_burnt() {
    let hand = Hand::new();
    backup(&hand, "one").await;
    assert_eq!(hand.kube("server-0", "DELETE", &format!("{BACKUPS}/one"), Value::Null).0, 200);
    assert_eq!(backup(&hand, "one").await, "Failed");
}

#[tokio::test(start_paused = true)]
async fn a_backup_that_fails_in_part_says_so() {
    let hand = Hand::on(TwinSpec { faults: vec![Fault::VeleroPartiallyFails(1)], ..TwinSpec::default() });
    assert_eq!(backup(&hand, "one").await, "PartiallyFailed");
    assert_eq!(backup(&hand, "two").await, "Completed");
}

#[tokio::test(start_paused = true)]
async fn a_restore_over_what_exists_completes_and_restores_nothing() {
    let hand = Hand::new();
    hand.sleep(30).await;
    backup(&hand, "one").await;
    assert_eq!(restore(&hand, "back", "one").await, "Completed");
    assert_eq!(restored_volumes(&hand), 0);
    assert!(hand.get(&format!("{RESTORES}/back"))["status"]["warnings"].as_u64().unwrap() > 0);
    assert_eq!(restore(&hand, "nothing", "unknown").await, "FailedValidation");
}

#[tokio::test(start_paused = true)]
async fn a_restore_fills_a_new_volume_once_claim_and_pod_are_gone() {
    let hand = Hand::new();
    hand.sleep(30).await;
    backup(&hand, "one").await;
    let claim = "/api/v1/namespaces/shop/persistentvolumeclaims/data-db-0";
    let old = hand.get(claim)["spec"]["volumeName"].clone();
    hand.kube("server-0", "DELETE", claim, Value::Null);
    assert!(hand.get(claim)["metadata"]["deletionTimestamp"].is_string(), "a claim in use went at once");
    hand.kube("server-0", "DELETE", "/apis/apps/v1/namespaces/shop/statefulsets/db", Value::Null);
    hand.kube("server-0", "DELETE", "/api/v1/namespaces/shop/pods/db-0", Value::Null);
    hand.sleep(20).await;
    hand.kube("server-0", "DELETE", claim, Value::Null);
    assert_eq!(hand.kube("server-0", "GET", claim, Value::Null).0, 404);
    assert_eq!(restore(&hand, "back", "one").await, "Completed");
    assert_eq!(restored_volumes(&hand), 1);
    assert_ne!(hand.get(claim)["spec"]["volumeName"], old);
}

#[tokio::test(start_paused = true)]
async fn an_etcd_restore_loses_the_backup_object_until_the_next_sync() {
    let mut hand = Hand::new();
    let snapshot = hand.snapshot("point").await.unwrap();
    backup(&hand, "one").await;
    hand.next_run("261122-0500-back");
    hand.kill(&hand.names(None)).await;
    hand.clean(&hand.servers()).await;
    assert!(done(&hand.reset(&snapshot).await));
    for name in hand.names(None) {
        hand.start(&name).await;
        if name == host("server-0") {
            assert_eq!(hand.kube("server-0", "GET", &format!("{BACKUPS}/one"), Value::Null).0, 404);
        }
    }
    hand.change_all(&hand.names(None), |_| Change::CleanUp).await;
    hand.wait("the sync", |hand| phase(hand, &format!("{BACKUPS}/one")) == "Completed").await;
    hand.no_violation();
}

#[tokio::test(start_paused = true)]
async fn a_backup_that_was_under_way_in_the_snapshot_is_failed_after_the_restore() {
    let mut hand = Hand::new();
    let spec = json!({"includedNamespaces": ["shop"]});
    hand.kube("server-0", "POST", BACKUPS, json!({"metadata": {"name": "one"}, "spec": spec}));
    hand.wait("the backup to begin", |hand| phase(hand, &format!("{BACKUPS}/one")) == "InProgress").await;
    let snapshot = hand.snapshot("point").await.unwrap();
    end(&hand, &format!("{BACKUPS}/one")).await;
    hand.next_run("261122-0500-back");
    let version = hand.twin.spec().version.clone();
    hand.fetch(&[&version]).await;
    hand.rollback(&snapshot, &version).await;
    hand.wait("the verdict", |hand| phase(hand, &format!("{BACKUPS}/one")) == "Failed").await;
}

#[tokio::test(start_paused = true)]
async fn a_schedule_makes_backups_unless_it_is_paused() {
    let count = |hand: &Hand| hand.get(BACKUPS)["items"].as_array().unwrap().len();
    let hand = Hand::new();
    hand.sleep(2 * 3600).await;
    assert_eq!(count(&hand), 1);
    let hand = Hand::new();
    let schedule = "/apis/velero.io/v1/namespaces/velero/schedules/velero-six-hourly";
    hand.kube("server-0", "PATCH", schedule, json!({"spec": {"paused": true}}));
    hand.sleep(2 * 3600).await;
    assert_eq!(count(&hand), 0);
}
