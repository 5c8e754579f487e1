//! What etcd does to objects: snapshots take them back, a lost quorum stops everything, servers agree.

use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, ListParams, Patch, PatchParams, PostParams};
use serde_json::json;

use crate::bench::{Bench, get, refusal, text, until};

fn config_map(name: &str) -> ConfigMap {
    serde_json::from_value(json!({"metadata": {"name": name}, "data": {"k": "1"}})).unwrap()
}

#[tokio::test]
async fn a_restored_snapshot_takes_objects_and_their_versions_back() {
    let mut bench = Bench::start(1).await;
    let served = bench.serve(0).await;
    let maps: Api<ConfigMap> = Api::namespaced(served.client().await, "default");
    let before = maps.create(&PostParams::default(), &config_map("kept")).await.unwrap();
    let snapshot = bench.snapshot(0);
    maps.create(&PostParams::default(), &config_map("lost")).await.unwrap();
    let patch = Patch::Merge(json!({"data": {"k": "2"}}));
    let after = maps.patch("kept", &PatchParams::default(), &patch).await.unwrap();
    assert!(after.metadata.resource_version > before.metadata.resource_version);

    bench.restore(&snapshot);
    let kept = until("the restored member", async || maps.get("kept").await.ok()).await;
    assert_eq!(kept, before);
    assert!(maps.get_opt("lost").await.unwrap().is_none());
    let version = |text: Option<String>| text.unwrap().parse::<u64>().unwrap();
    let listed = maps.list(&ListParams::default()).await.unwrap().metadata.resource_version;
    assert!(version(listed) < version(after.metadata.resource_version), "etcd's revision did not go back");
}

#[tokio::test]
async fn without_a_quorum_requests_fail_within_their_deadline_and_with_it_again_they_do_not() {
    let mut bench = Bench::start(3).await;
    let served = bench.serve(0).await;
    let known = served.client().await;
    let maps: Api<ConfigMap> = Api::namespaced(known.clone(), "default");
    maps.create(&PostParams::default(), &config_map("a")).await.unwrap();
    bench.members.truncate(1);
    // What a member still knows it may know no longer: not even a read is answered from it.
    let (began, params, other) = (Instant::now(), PostParams::default(), config_map("b"));
    let (read, write, ready, list) = futures::join!(
        maps.get("a"),
        maps.create(&params, &other),
        text(&known, "/readyz"),
        get(&known, "/api/v1/nodes"),
    );
    let took = began.elapsed();
    assert!(took < Duration::from_secs(8), "{took:?}");
    for status in [refusal(read), refusal(write), refusal(list)] {
        assert!(matches!(status, 503 | 504), "{status}");
    }
    assert_eq!(refusal(ready), 500);
    assert_eq!(refusal(text(&known, "/livez").await), 500);

    let back = bench.member(1, &bench.data(1));
    bench.members.push(back);
    until("the quorum", async || maps.get("a").await.ok()).await;
    assert_eq!(text(&known, "/readyz").await.unwrap(), "ok");
}

#[tokio::test]
async fn servers_before_different_members_agree() {
    let bench = Bench::start(3).await;
    let (one, two) = (bench.serve(0).await, bench.serve(1).await);
    let maps = async |served: &crate::bench::Served| Api::<ConfigMap>::namespaced(served.client().await, "default");
    let (one, two) = (maps(&one).await, maps(&two).await);
    let made = one.create(&PostParams::default(), &config_map("a")).await.unwrap();
    assert_eq!(two.get("a").await.unwrap(), made, "a write was acknowledged that the other server does not know");
    let patch = Patch::Merge(json!({"data": {"k": "2"}}));
    let changed = two.patch("a", &PatchParams::default(), &patch).await.unwrap();
    assert_eq!(refusal(one.replace("a", &PostParams::default(), &made).await), 409);
    assert_eq!(one.get("a").await.unwrap(), changed);
    let (params, other) = (PostParams::default(), config_map("b"));
    let (first, second) = futures::join!(one.create(&params, &other), two.create(&params, &other));
    assert_eq!(usize::from(first.is_ok()) + usize::from(second.is_ok()), 1, "both have made it");
}
