//! Tests of what a recovery point says, and of when it counts as kept.

use serde_json::json;

use super::*;
use crate::actions::copy_snapshot::CopySnapshot;
use crate::actions::save_snapshot::SaveSnapshot;
use crate::actions::sentinel::{Sentinel, Which};
use crate::actions::testing::{Bench, NEW, OLD, RUN, Scene};

fn record() -> RecordPoint {
    RecordPoint { before_version: Param::Known(NEW.to_owned()) }
}

async fn copied(scene: Scene) -> Scene {
    scene.on("operator", Sentinel { which: Which::Before }).apply().await;
    scene.on("server-0", SaveSnapshot {}).apply().await;
    for server in ["server-1", "server-2"] {
        scene.on(server, CopySnapshot {}).apply().await;
    }
    scene
}

fn kept(scene: &Scene, host: &str) -> RecoveryPoint {
    scene.change(|state| serde_json::from_str(&state.hosts[host].points[0]).unwrap())
}

#[tokio::test(start_paused = true)]
async fn recording_is_idempotent_and_the_same_on_every_server() {
    let scene = copied(Scene::new()).await;
    let facts = scene.on("server-0", record()).idempotent().await;
    assert_eq!((facts["id"].as_str(), facts["version"].as_str()), (Some(RUN), Some(OLD)));
    scene.put("/api/v1/nodes/agent-9", json!({}));
    scene.on("server-2", record()).idempotent().await;
    assert_eq!(kept(&scene, "server-0"), kept(&scene, "server-2"));
    assert!(scene.change(|state| state.bucket.contains_key(&format!("prod/.metadata/rke2flow-{RUN}.json"))));
}

#[tokio::test(start_paused = true)]
async fn a_point_says_everything_that_belongs_together() {
    let scene = copied(Scene::new()).await;
    scene.put(
        "/api/v1/persistentvolumes/pv-1",
        json!({ "spec": {
            "claimRef": { "namespace": "shop", "name": "data-db-0" },
            "csi": { "driver": "csi.hetzner.cloud", "volumeHandle": "42" },
            "persistentVolumeReclaimPolicy": "Delete",
        }}),
    );
    // `printf static-passw0rd | base64`; its digest is not the password.
    let secret = json!({ "data": { "repository-password": "c3RhdGljLXBhc3N3MHJk" } });
    scene.put("/api/v1/namespaces/velero/secrets/velero-repo-credentials", secret);
    let fenced =
        json!({ "metadata": { "annotations": { "rke2flow.io/was-paused": "false" } }, "spec": { "paused": true } });
    scene.put("/apis/velero.io/v1/namespaces/velero/schedules/nightly", fenced);
    scene.edit("/api/v1/nodes/agent-1", |node| {
        node["status"]["addresses"] = json!([{ "type": "InternalIP", "address": "10.0.1.1" }]);
        node["spec"]["taints"] = json!([{ "key": "gpu", "value": "yes", "effect": "NoSchedule" }]);
    });
    scene.on("server-0", record()).apply().await;
    let point = kept(&scene, "server-0");
    assert_eq!((point.etcd_version.as_str(), point.token_hash.as_str()), ("3.5.21", "0123456789ab"));
    assert!(point.etcd_revision > 0 && point.config_sha256["agent-1"] == "config of agent-1");
    assert_eq!((point.nodes["agent-1"].version.as_str(), point.nodes["agent-1"].address.as_str()), (OLD, "10.0.1.1"));
    assert_eq!(point.nodes["agent-1"].taints, ["gpu=yes:NoSchedule"]);
    assert_eq!((point.volumes[0].claim.as_str(), point.volumes[0].handle.as_str()), ("data-db-0", "42"));
    assert_eq!(point.repository_password_sha256.len(), 64);
    assert_eq!(point.fences[0].original, r#"{"spec":{"paused":false}}"#);
    assert_eq!(point.counts["volumes"], 1);
    let hosts: Vec<&str> = point.snapshots.iter().map(|snapshot| snapshot.host.as_str()).collect();
    assert_eq!(hosts, ["server-0", "server-1", "server-2"]);
    assert!(point.snapshots.iter().all(|snapshot| snapshot.s3_key.starts_with("prod/rke2flow-")));
}

#[tokio::test(start_paused = true)]
async fn a_point_whose_snapshot_is_gone_anywhere_is_no_way_back() {
    let scene = copied(Scene::new()).await;
    let bench = scene.on("server-1", record());
    bench.apply().await;
    scene.change(|state| state.bucket.retain(|key, _| key.contains(".metadata")));
    assert!(bench.pending().await.contains("is not in the bucket any more"));
    scene.change(|state| state.hosts.get_mut("server-2").unwrap().files.clear());
    assert!(bench.pending().await.contains("is not on server-2 any more"));
}

#[tokio::test(start_paused = true)]
async fn nothing_is_recorded_until_every_server_that_answers_has_a_snapshot() {
    let scene = copied(Scene::new()).await;
    scene.change(|state| state.hosts.get_mut("server-2").unwrap().files.clear());
    let failure = scene.on("server-0", record()).failure_of_apply().await;
    assert!(failure.what.contains("server-2 keeps no snapshot"), "{failure}");
    scene.change(|state| state.hosts.get_mut("server-2").unwrap().silent = true);
    scene.on("server-0", record()).apply().await;
    scene.on("server-0", record()).satisfied().await;
    assert_eq!(kept(&scene, "server-0").snapshots.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_recorded_without_a_snapshot() {
    let failure = Scene::new().on("server-0", record()).failure_of_apply().await;
    assert!(failure.what.contains("no sound etcd snapshot"), "{failure}");
}

#[tokio::test(start_paused = true)]
async fn each_round_of_a_run_has_a_point_of_its_own_and_no_name_is_the_beginning_of_another() {
    let scene = Scene::new();
    for round in [1, 2] {
        let in_round = |mut bench: Bench| {
            bench.context.round = Some(round);
            bench
        };
        in_round(scene.on("operator", Sentinel { which: Which::Before })).apply().await;
        in_round(scene.on("operator", velero_backup())).pending().await;
        in_round(scene.on("operator", velero_backup())).apply().await;
        scene.edit(&format!("/apis/velero.io/v1/namespaces/velero/backups/rf-{RUN}-{round}-pre"), |backup| {
            backup["status"] = json!({ "phase": "Completed" });
        });
        in_round(scene.on("server-0", SaveSnapshot {})).pending().await;
        in_round(scene.on("server-0", SaveSnapshot {})).apply().await;
        for server in ["server-1", "server-2"] {
            in_round(scene.on(server, CopySnapshot {})).apply().await;
        }
        let facts = in_round(scene.on("server-0", record())).idempotent().await;
        assert_eq!(facts["id"], format!("{RUN}-{round}"));
    }
    let points: Vec<RecoveryPoint> = scene.change(|state| {
        state.hosts["server-0"].points.iter().map(|point| serde_json::from_str(point).unwrap()).collect()
    });
    let names = |point: &RecoveryPoint| {
        let file = save_snapshot::base_name(&point.snapshots[0].path).to_owned();
        [point.velero_backup.clone(), point.sentinel_after.clone(), file.split("-server-").next().unwrap().to_owned()]
    };
    let (first, second) = (names(&points[0]), names(&points[1]));
    assert_eq!(first, [format!("rf-{RUN}-1-pre"), format!("rke2flow-{RUN}-1-after"), format!("rke2flow-{RUN}-1")]);
    for (one, other) in first.iter().zip(&second) {
        assert!(!one.starts_with(other.as_str()) && !other.starts_with(one.as_str()), "{one} and {other}");
    }
    assert_ne!(points[0].sentinel_before, points[1].sentinel_before);
}

fn velero_backup() -> crate::actions::velero_backup::VeleroBackup {
    serde_json::from_value(json!({})).expect("every field has a default")
}
