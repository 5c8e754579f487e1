//! Objects: written, read, listed, watched, refused.

use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::{ConfigMap, Node, Pod};
use kube::api::{
    Api, DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions, WatchEvent, WatchParams,
};
use rke2flow_lab::api::authority::Authority;
use serde_json::json;

use crate::bench::{Bench, VERSION, client, get, refusal, text};

fn config_map(name: &str, value: &str) -> ConfigMap {
    serde_json::from_value(json!({"metadata": {"name": name, "labels": {"run": value}}, "data": {"k": value}})).unwrap()
}

#[tokio::test]
async fn a_write_from_an_old_state_conflicts_and_changes_nothing() {
    let bench = Bench::start(1).await;
    let served = bench.serve(0).await;
    let maps: Api<ConfigMap> = Api::namespaced(served.client().await, "default");
    let first = maps.create(&PostParams::default(), &config_map("a", "1")).await.unwrap();
    let mut second = first.clone();
    second.data = Some([("k".to_owned(), "2".to_owned())].into());
    let second = maps.replace("a", &PostParams::default(), &second).await.unwrap();
    assert!(second.metadata.resource_version > first.metadata.resource_version);
    assert_eq!(second.metadata.uid, first.metadata.uid);

    let refused = maps.replace("a", &PostParams::default(), &first).await;
    assert_eq!(refusal(refused), 409);
    let patch = Patch::Merge(json!({"metadata": {"uid": "another"}, "data": {"k": "3"}}));
    assert_eq!(refusal(maps.patch("a", &PatchParams::default(), &patch).await), 409);
    assert_eq!(refusal(maps.create(&PostParams::default(), &config_map("a", "4")).await), 409);
    assert_eq!(maps.get("a").await.unwrap().data, second.data);
}

#[tokio::test]
async fn of_writers_at_once_every_patch_is_kept() {
    let bench = Bench::start(1).await;
    let served = bench.serve(0).await;
    let maps: Api<ConfigMap> = Api::namespaced(served.client().await, "default");
    maps.create(&PostParams::default(), &config_map("a", "1")).await.unwrap();
    let writes = (0..12).map(|number| {
        let maps = maps.clone();
        async move {
            let patch = Patch::Merge(json!({"data": {format!("k{number}"): "x"}}));
            maps.patch("a", &PatchParams::default(), &patch).await
        }
    });
    futures::future::try_join_all(writes).await.unwrap();
    assert_eq!(maps.get("a").await.unwrap().data.unwrap().len(), 13);
}

#[tokio::test]
async fn a_deletion_with_the_uid_of_another_object_is_refused() {
    let bench = Bench::start(1).await;
    let served = bench.serve(0).await;
    let maps: Api<ConfigMap> = Api::namespaced(served.client().await, "default");
    let made = maps.create(&PostParams::default(), &config_map("a", "1")).await.unwrap();
    let with = |uid: &str| DeleteParams {
        preconditions: Some(Preconditions { uid: Some(uid.to_owned()), resource_version: None }),
        ..DeleteParams::default()
    };
    assert_eq!(refusal(maps.delete("a", &with("another")).await), 409);
    assert!(maps.get_opt("a").await.unwrap().is_some());
    maps.delete("a", &with(&made.metadata.uid.unwrap())).await.unwrap();
    assert!(maps.get_opt("a").await.unwrap().is_none());
    assert_eq!(refusal(maps.delete("a", &DeleteParams::default()).await), 404);
}

#[tokio::test]
async fn lists_come_selected_and_by_pages_of_one_moment() {
    let bench = Bench::start(1).await;
    let served = bench.serve(0).await;
    let maps: Api<ConfigMap> = Api::namespaced(served.client().await, "default");
    for name in ["a", "b", "c", "d"] {
        let value = if name == "b" { "odd" } else { "even" };
        maps.create(&PostParams::default(), &config_map(name, value)).await.unwrap();
    }
    let names = |list: &kube::api::ObjectList<ConfigMap>| -> Vec<String> {
        list.items.iter().map(|map| map.metadata.name.clone().unwrap()).collect()
    };
    let even = ListParams::default().labels("run=even").limit(2);
    let first = maps.list(&even).await.unwrap();
    assert_eq!(names(&first), ["a", "c"]);
    maps.create(&PostParams::default(), &config_map("e", "even")).await.unwrap();
    let token = first.metadata.continue_.clone().unwrap();
    let next = maps.list(&even.clone().continue_token(&token)).await.unwrap();
    assert_eq!(names(&next), ["d"], "the second page tells of a later moment");
    assert_eq!(next.metadata.continue_, None);
    assert_eq!(names(&maps.list(&ListParams::default().fields("metadata.name=b")).await.unwrap()), ["b"]);

    let now: u64 = maps.list(&ListParams::default()).await.unwrap().metadata.resource_version.unwrap().parse().unwrap();
    let etcd = rke2flow_lab::api::etcd::Etcd::new(&bench.members[0].endpoint);
    etcd.compact(now).await.unwrap();
    assert_eq!(refusal(maps.list(&even.continue_token(&token)).await), 410);
}

#[tokio::test]
async fn a_watch_tells_what_comes_what_changes_and_what_goes() {
    let bench = Bench::start(1).await;
    let served = bench.serve(0).await;
    let maps: Api<ConfigMap> = Api::namespaced(served.client().await, "default");
    let from = maps.list(&ListParams::default()).await.unwrap().metadata.resource_version.unwrap();
    let watch = maps.watch(&WatchParams::default().labels("run").timeout(60), &from).await.unwrap();
    let writes = async {
        maps.create(&PostParams::default(), &config_map("a", "1")).await.unwrap();
        for patch in [
            json!({"data": {"k": "2"}}),
            json!({"metadata": {"labels": {"run": null}}}),
            json!({"metadata": {"labels": {"run": "x"}}}),
        ] {
            maps.patch("a", &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
        }
        maps.delete("a", &DeleteParams::default()).await.unwrap();
    };
    let told = watch.take(5).map_ok(|event| match event {
        WatchEvent::Added(_) => "added",
        WatchEvent::Modified(_) => "modified",
        WatchEvent::Deleted(_) => "deleted",
        WatchEvent::Bookmark(_) | WatchEvent::Error(_) => "something else",
    });
    let (told, ()) = futures::join!(told.try_collect::<Vec<_>>(), writes);
    assert_eq!(told.unwrap(), ["added", "modified", "deleted", "added", "deleted"]);

    let etcd = rke2flow_lab::api::etcd::Etcd::new(&bench.members[0].endpoint);
    let now = etcd.get("/x").await.unwrap().revision;
    etcd.compact(now).await.unwrap();
    let mut watch = Box::pin(maps.watch(&WatchParams::default(), &from).await.unwrap());
    let late = watch.try_next().await.unwrap().unwrap();
    assert!(matches!(late, WatchEvent::Error(status) if status.code == 410), "an old watch went on");
}

#[tokio::test]
async fn a_status_is_written_by_its_own_path_only_and_a_spec_raises_the_generation() {
    let bench = Bench::start(1).await;
    let served = bench.serve(0).await;
    let nodes: Api<Node> = Api::all(served.client().await);
    let node: Node = serde_json::from_value(json!({"metadata": {"name": "n"}, "status": {"phase": "x"}})).unwrap();
    nodes.create(&PostParams::default(), &node).await.unwrap();
    let both = Patch::Merge(json!({"spec": {"unschedulable": true}, "status": {"phase": "y"}}));
    let changed = nodes.patch("n", &PatchParams::default(), &both).await.unwrap();
    assert_eq!(changed.status.unwrap().phase.unwrap(), "x");
    assert_eq!(changed.metadata.generation, Some(2));
    let both = Patch::Merge(json!({"spec": {"unschedulable": null}, "status": {"phase": "z"}}));
    let changed = nodes.patch_status("n", &PatchParams::default(), &both).await.unwrap();
    assert_eq!(
        (changed.status.unwrap().phase.unwrap(), changed.spec.unwrap().unschedulable),
        ("z".to_owned(), Some(true))
    );
    assert_eq!(changed.metadata.generation, Some(2));
}

#[tokio::test]
async fn a_pod_on_a_node_stays_until_its_kubelet_has_ended_it() {
    let bench = Bench::start(1).await;
    let served = bench.serve(0).await;
    let pods: Api<Pod> = Api::namespaced(served.client().await, "default");
    let pod: Pod = serde_json::from_value(
        json!({"metadata": {"name": "p"}, "spec": {"nodeName": "n", "containers": [{"name": "c", "image": "i"}]}}),
    )
    .unwrap();
    pods.create(&PostParams::default(), &pod).await.unwrap();
    pods.evict("p", &Default::default()).await.unwrap();
    let ending = pods.get("p").await.unwrap();
    assert!(ending.metadata.deletion_timestamp.is_some());
    pods.delete("p", &DeleteParams::default().grace_period(0)).await.unwrap();
    assert!(pods.get_opt("p").await.unwrap().is_none());
}

#[tokio::test]
async fn discovery_version_and_health_are_told_to_the_cluster_s_own_and_to_nobody_else() {
    let bench = Bench::start(1).await;
    let served = bench.serve(0).await;
    let known = served.client().await;
    assert_eq!(known.apiserver_version().await.unwrap().git_version, VERSION);
    assert_eq!(text(&known, "/readyz").await.unwrap(), "ok");
    assert!(text(&known, "/livez?verbose").await.unwrap().contains("[+]etcd ok"));
    let groups: Vec<String> =
        known.list_api_groups().await.unwrap().groups.into_iter().map(|group| group.name).collect();
    assert!(groups.contains(&"helm.cattle.io".to_owned()) && !groups.contains(&"velero.io".to_owned()), "{groups:?}");
    assert_eq!(refusal(get(&known, "/apis/velero.io/v1/namespaces/velero/backups").await), 404);

    let definition = http::Request::post("/apis/apiextensions.k8s.io/v1/customresourcedefinitions")
        .body(json!({"metadata": {"name": "backups.velero.io"}}).to_string().into_bytes())
        .unwrap();
    known.request::<serde_json::Value>(definition).await.unwrap();
    get(&known, "/apis/velero.io/v1/namespaces/velero/backups").await.unwrap();

    // Same server authority, another client authority: what an old kubeconfig is after the certificates were made anew.
    let url = format!("https://127.0.0.1:{}", served.port);
    let (own, other) =
        (bench.authority.kubeconfig(&url).unwrap(), Authority::create().unwrap().kubeconfig(&url).unwrap());
    let line = |text: &str, name: &str| text.lines().find(|line| line.contains(name)).unwrap().to_owned();
    let mut stranger = own.clone();
    for name in ["client-certificate-data", "client-key-data"] {
        stranger = stranger.replace(&line(&own, name), &line(&other, name));
    }
    for path in ["/readyz", "/api/v1/nodes"] {
        assert_eq!(refusal(text(&client(&stranger).await, path).await), 401, "{path}");
    }
}
