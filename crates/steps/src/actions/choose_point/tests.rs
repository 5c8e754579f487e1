//! Tests of which point is chosen, from where, and what is told of it.

use serde_json::json;

use super::*;
use crate::actions::copy_snapshot::CopySnapshot;
use crate::actions::record_point::RecordPoint;
use crate::actions::save_snapshot::SaveSnapshot;
use crate::actions::sentinel::{Sentinel, Which};
use crate::actions::testing::{NEW, OLD, RUN, Scene, file};

const FILE: &str = "rke2flow-261122-0300-k7q2-server-0-1795316400";
const SCHEDULED: &str = "etcd-snapshot-server-0-1795310000";

fn choose(to: &str) -> ChoosePoint {
    let param = |text: &str| Param::Known(text.to_owned());
    ChoosePoint { to: param(to), server: Param::default(), from: Param::default(), version: Param::default() }
}

fn choose_from(to: &str, from: &str) -> ChoosePoint {
    ChoosePoint { from: Param::Known(from.to_owned()), ..choose(to) }
}

async fn recorded() -> Scene {
    let scene = Scene::new();
    scene.on("operator", Sentinel { which: Which::Before }).apply().await;
    scene.on("server-0", SaveSnapshot {}).apply().await;
    for server in ["server-1", "server-2"] {
        scene.on(server, CopySnapshot {}).apply().await;
    }
    scene.on("server-0", RecordPoint { before_version: Param::default() }).apply().await;
    scene
}

/// Changes the point that server-0 keeps.
fn edit(scene: &Scene, change: impl FnOnce(&mut RecoveryPoint)) {
    scene.change(|state| {
        state.bucket.retain(|key, _| !key.contains(".metadata"));
        let points = &mut state.hosts.get_mut("server-0").unwrap().points;
        let mut point: RecoveryPoint = serde_json::from_str(&points[0]).unwrap();
        change(&mut point);
        points[0] = serde_json::to_string(&point).unwrap();
    });
}

async fn refused(scene: &Scene, goal: ChoosePoint) -> String {
    match scene.on("operator", goal).probe().await {
        Probe::Refused { expected, found } => format!("{expected}: {found}"),
        other => panic!("not refused: {other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_point_is_found_by_run_by_file_and_as_the_latest() {
    let scene = recorded().await;
    for to in ["latest", RUN, FILE] {
        let facts = scene.on("operator", choose(to)).satisfied().await;
        assert_eq!((facts["id"].as_str(), facts["version"].as_str()), (Some(RUN), Some(OLD)), "{to}");
        assert_eq!((facts["snapshot_host"].as_str(), facts["s3_key"].as_str()), (Some("server-0"), Some("")));
    }
}

#[tokio::test(start_paused = true)]
async fn a_run_with_several_rounds_means_its_newest_point_of_one_version_and_tells_of_the_others() {
    let scene = recorded().await;
    let of_round = |round: u32, taken_at: &str, version: &str, agent: &str| {
        scene.change(|state| {
            let mut point: RecoveryPoint =
                serde_json::from_str(&state.hosts["server-0"].points[0]).expect("it was recorded");
            point.id = format!("261123-0300-aaaa-{round}");
            (point.taken_at, point.version) = (taken_at.parse().unwrap(), version.to_owned());
            point.nodes.values_mut().for_each(|node| node.version = version.to_owned());
            point.nodes.get_mut("agent-0").unwrap().version = agent.to_owned();
            let text = serde_json::to_string(&point).unwrap();
            state.hosts.get_mut("server-0").unwrap().points.push(text);
        });
    };
    of_round(1, "2026-11-23T03:00:00Z", OLD, OLD);
    of_round(2, "2026-11-23T04:00:00Z", NEW, NEW);
    for to in ["latest", "261123-0300-aaaa", "261123-0300-aaaa-2"] {
        let facts = scene.on("operator", choose(to)).satisfied().await;
        assert_eq!((facts["id"].as_str(), facts["version"].as_str()), (Some("261123-0300-aaaa-2"), Some(NEW)), "{to}");
        let told = "`to=261123-0300-aaaa-1` goes further back, to v1.33.4+rke2r1 at 2026-11-23T03:00:00Z";
        assert!(facts["loss"].as_str().unwrap().contains(told), "{}", facts["loss"]);
    }
    let first = scene.on("operator", choose("261123-0300-aaaa-1")).satisfied().await;
    assert_eq!((first["id"].as_str(), first["version"].as_str()), (Some("261123-0300-aaaa-1"), Some(OLD)));
    assert!(first["loss"].as_str().unwrap().contains("`to=261123-0300-aaaa-2` goes less far back, to v1.34.1"));
    // A third one that lies in the middle of an upgrade is meant only by its own name.
    of_round(3, "2026-11-23T05:00:00Z", NEW, OLD);
    assert_eq!(scene.on("operator", choose("261123-0300-aaaa")).satisfied().await["id"], "261123-0300-aaaa-2");
    assert_eq!(scene.on("operator", choose("261123-0300-aaaa-3")).satisfied().await["id"], "261123-0300-aaaa-3");
    // The run before has one point and one name.
    assert_eq!(scene.on("operator", choose(RUN)).satisfied().await["id"], RUN);
}

#[tokio::test(start_paused = true)]
async fn points_of_every_server_and_of_the_bucket_count_together() {
    let scene = recorded().await;
    scene.change(|state| state.hosts.get_mut("server-0").unwrap().points.clear());
    scene.on("operator", choose("latest")).satisfied().await;
    // An older point on a server does not hide the newer one in the bucket.
    let older = json!({
        "schema": "", "id": "261101-0000-aaaa", "cluster": "test", "taken_at": "2026-11-01T00:00:00Z", "version": OLD,
        "snapshots": [], "token_sha256": "", "ca_sha256": "", "sentinel_before": "", "sentinel_after": "",
    });
    scene.change(|state| state.hosts.get_mut("server-1").unwrap().points.push(older.to_string()));
    assert_eq!(scene.on("operator", choose("latest")).satisfied().await["id"], RUN);
    scene.change(|state| state.hosts.get_mut("server-2").unwrap().silent = true);
    assert_eq!(scene.on("operator", choose("latest")).satisfied().await["id"], RUN);
}

#[tokio::test(start_paused = true)]
async fn a_point_that_does_not_fit_into_an_answer_is_read_part_by_part() {
    let scene = recorded().await;
    edit(&scene, |point| {
        let labels = (0..9000).map(|number| (format!("label-{number}"), "x".repeat(20))).collect();
        point.nodes.get_mut("agent-0").unwrap().labels = labels;
    });
    assert_eq!(scene.on("operator", choose("latest")).satisfied().await["id"], RUN);
}

#[tokio::test(start_paused = true)]
async fn latest_never_means_a_point_in_the_middle_of_an_upgrade() {
    let scene = recorded().await;
    edit(&scene, |point| point.nodes.get_mut("server-1").unwrap().version = NEW.to_owned());
    let told = refused(&scene, choose("latest")).await;
    assert!(told.contains("server-1 ran v1.34.1+rke2r1"), "{told}");
    let facts = scene.on("operator", choose(RUN)).satisfied().await;
    assert!(facts["loss"].as_str().unwrap().contains("in the middle of an upgrade"), "{}", facts["loss"]);
    edit(&scene, |point| {
        point.nodes.get_mut("server-1").unwrap().version = OLD.to_owned();
        point.before_version = OLD.to_owned();
    });
    assert!(refused(&scene, choose("latest")).await.contains("when v1.33.4+rke2r1 ran already"));
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_that_is_only_in_the_bucket_is_fetched_from_there() {
    let scene = recorded().await;
    scene.change(|state| state.hosts.get_mut("server-0").unwrap().files.clear());
    for from in ["auto", "s3"] {
        let facts = scene.on("operator", choose_from("latest", from)).satisfied().await;
        assert_eq!(facts["s3_key"], format!("prod/{FILE}"));
        assert_eq!(facts["snapshot"], format!("/var/lib/rke2flow/snapshots/{FILE}"));
        assert_eq!((facts["sha256"].as_str(), facts["size"].as_u64()), (Some("snapshot"), Some(544)));
    }
    assert!(refused(&scene, choose_from("latest", "local")).await.contains("is not on server-0 any more"));
    scene.change(|state| state.bucket.get_mut(&format!("prod/{FILE}")).unwrap().truncate(7));
    assert!(refused(&scene, choose_from("latest", "s3")).await.contains("has 7 bytes, recorded 544"));
    assert!(scene.on("operator", choose_from("latest", "disk")).failure().await.what.contains("auto, local or s3"));
}

#[tokio::test(start_paused = true)]
async fn a_point_is_refused_when_it_is_unknown_damaged_or_of_another_token() {
    let scene = recorded().await;
    assert!(refused(&scene, choose("261101-0000-aaaa")).await.contains(RUN));
    scene.change(|state| state.hosts.get_mut("server-0").unwrap().identity.token_hash = "ba9876543210".to_owned());
    assert!(refused(&scene, choose("latest")).await.contains("another one (hash ba9876543210, not 0123456789ab)"));
    scene.survey("server-0", |survey| survey.token_sha256.clear());
    assert!(refused(&scene, choose("latest")).await.contains("no token on disk"));
    scene.change(|state| state.hosts.get_mut("server-0").unwrap().files[0].sha256 = "other".to_owned());
    assert!(refused(&scene, choose_from("latest", "local")).await.contains("damaged or another file"));
    assert!(refused(&Scene::new(), choose("latest")).await.contains("no recovery point at all"));
}

#[tokio::test(start_paused = true)]
async fn a_full_token_of_another_authority_with_the_same_password_fits() {
    let scene = recorded().await;
    scene.survey("server-0", |survey| survey.token_sha256 = "of another text".to_owned());
    scene.on("operator", choose("latest")).satisfied().await;
    edit(&scene, |point| point.token_hash.clear());
    assert!(refused(&scene, choose("latest")).await.contains("SHA-256 of another text"));
}

#[tokio::test(start_paused = true)]
async fn a_scheduled_snapshot_can_be_chosen_when_its_version_is_told() {
    let scene = Scene::new();
    let path = format!("/var/lib/rancher/rke2/server/db/snapshots/{SCHEDULED}");
    scene.change(|state| state.hosts.get_mut("server-0").unwrap().files.push(file(&path, "abc")));
    let told = refused(&scene, choose(SCHEDULED)).await;
    assert!(told.contains("--set version=") && told.contains("run v1.33.4+rke2r1 now"), "{told}");
    let goal = || ChoosePoint { version: Param::Known(OLD.to_owned()), ..choose(SCHEDULED) };
    let facts = scene.on("operator", goal()).satisfied().await;
    assert_eq!((facts["snapshot"].as_str(), facts["sentinel_before"].as_str()), (Some(path.as_str()), Some("")));
    assert_eq!(facts["taken_at"], "2026-11-22T01:13:20Z");
    let loss = facts["loss"].as_str().unwrap();
    assert!(loss.contains("it has no sentinel") && loss.contains("the server's token fits"), "{loss}");
    let record = json!({
        "metadata": { "annotations": { "etcd.rke2.cattle.io/snapshot-token-hash": "ba9876543210" } },
        "spec": { "snapshotName": SCHEDULED, "nodeName": "server-0" }, "status": { "readyToUse": true },
    });
    scene.put("/apis/k3s.cattle.io/v1/etcdsnapshotfiles/local-1", record);
    assert!(refused(&scene, goal()).await.contains("has another one"));
    scene.change(|state| state.hosts.get_mut("server-0").unwrap().files[0].trailer = false);
    assert!(refused(&scene, goal()).await.contains("is damaged"));
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_of_another_cluster_in_the_bucket_is_refused() {
    let scene = Scene::new();
    let goal = || ChoosePoint { version: Param::Known(OLD.to_owned()), ..choose_from(SCHEDULED, "s3") };
    // A folder that only begins with ours is another cluster's.
    scene.change(|state| state.bucket.insert(format!("prod-eu/{SCHEDULED}"), vec![0; 544]));
    assert!(refused(&scene, goal()).await.contains("no recovery point at all"));
    scene.put("/api/v1/namespaces/kube-system", json!({ "metadata": { "uid": "ours" } }));
    scene.change(|state| {
        let key = format!("prod/{SCHEDULED}");
        state.bucket.insert(key.clone(), vec![0; 544]);
        state.marks.insert(key, BTreeMap::from([("rke2-cluster-id".to_owned(), "theirs".to_owned())]));
    });
    assert!(refused(&scene, goal()).await.contains("is of another cluster"));
    scene.change(|state| state.marks.clear());
    assert_eq!(scene.on("operator", goal()).satisfied().await["s3_key"], format!("prod/{SCHEDULED}"));
}

#[tokio::test(start_paused = true)]
async fn what_will_be_lost_is_told() {
    let scene = recorded().await;
    scene.put("/api/v1/namespaces/old", json!({ "metadata": { "creationTimestamp": "2026-01-01T00:00:00Z" } }));
    edit(&scene, |point| {
        point.counts = BTreeMap::from([("services".to_owned(), 3)]);
        point.nodes.remove("agent-0");
        point.nodes.insert("agent-7".to_owned(), point.nodes["agent-1"].clone());
        let volume = crate::point::VolumeRecord {
            namespace: "shop".to_owned(),
            claim: "data-db-0".to_owned(),
            ..Default::default()
        };
        point.volumes = vec![volume];
    });
    let made = |labels: serde_json::Value| json!({ "metadata": { "creationTimestamp": "2026-11-22T03:00:01Z", "labels": labels } });
    scene.put("/api/v1/namespaces/shop-eu", made(json!({})));
    scene.put("/api/v1/namespaces/kube-system/configmaps/ours", made(json!({ "rke2flow.io/run": RUN })));
    let release = json!({ "owner": "helm", "name": "web", "version": "4" });
    scene.put("/api/v1/namespaces/shop/secrets/sh.helm.release.v1.web.v4", made(release));
    let loss = scene.on("operator", choose("latest")).satisfied().await["loss"].as_str().unwrap().to_owned();
    for part in [
        "created since: 1 namespaces (shop-eu), 1 secrets",
        "changed since: 1 namespaces",
        "deleted since: 3 services",
        "nodes that came since: agent-0",
        "ghosts: agent-7",
        "Helm releases installed or upgraded since: shop/web (v4)",
        "the data of volumes stays as it is, unless `data` names it: shop/data-db-0",
    ] {
        assert!(loss.contains(part), "`{part}` is not in: {loss}");
    }
    scene.change(|state| state.api_down = true);
    let loss = scene.on("operator", choose("latest")).satisfied().await["loss"].as_str().unwrap().to_owned();
    assert!(loss.contains("cannot be told, the API does not answer"), "{loss}");
}
