//! The product's own access, with nothing but the cluster file that a twin wrote.

use std::collections::BTreeMap;
use std::sync::Arc;

use rke2flow_engine::cluster::Cluster;
use rke2flow_engine::id::HostName;
use rke2flow_steps::access::connect;
use rke2flow_steps::ports::{AccessError, KubeRequest, KubeVerb};
use serde_json::{Value, json};

use super::stand_in::{POWER, Stage};

#[tokio::test]
async fn everything_that_the_cluster_file_names_is_reached() {
    let stage = Stage::of(2, 1).await;
    let options = ron::Options::default().with_default_extension(ron::extensions::Extensions::IMPLICIT_SOME);
    let cluster: Cluster = options.from_str(&std::fs::read_to_string(&stage.running.cluster_ron).unwrap()).unwrap();
    let connected = connect(Arc::new(cluster.clone()), &[]).await.unwrap();
    let hosts: Vec<HostName> = cluster.hosts.iter().map(|host| host.name.clone()).collect();
    for (host, report) in connected.shell.check_all(&hosts).await {
        assert!(report.is_ok(), "{host}: {report:?}");
    }

    let nodes = KubeRequest { verb: KubeVerb::Get, path: "/api/v1/nodes".to_owned(), body: Value::Null };
    let access = &connected.access;
    for server in &hosts[..2] {
        let answer = access.kube.call(Some(server), &nodes).await.unwrap();
        assert_eq!(answer.body["items"][0]["metadata"]["name"], json!(server.as_str()));
    }
    stage.stand_in.switch("server-0", 6443, false);
    let gone = access.kube.call(Some(&hosts[0]), &nodes).await;
    assert!(matches!(gone, Err(AccessError::Unreachable { .. })), "{gone:?}");
    let any = access.kube.call(None, &nodes).await.unwrap();
    assert_eq!(any.body["items"][0]["metadata"]["name"], "server-1");

    let bucket = access.bucket.clone().unwrap();
    let metadata = BTreeMap::from([("taken".to_owned(), "now".to_owned())]);
    bucket.put("a/b c", b"snapshot".to_vec(), metadata).await.unwrap();
    let head = bucket.head("a/b c").await.unwrap().unwrap();
    assert_eq!((head.size, head.metadata["taken"].as_str()), (8, "now"));
    assert_eq!(bucket.get("a/b c", 100).await.unwrap().unwrap(), b"snapshot");
    assert_eq!(bucket.list("a/", 10).await.unwrap().len(), 1);
    assert_eq!(access.http.get(&cluster.health_urls[0]).await.unwrap(), (200, "alive".to_owned()));

    stage.stand_in.switch("agent-0", POWER, false);
    let reports = connected.shell.check_all(&hosts).await;
    assert!(reports.iter().all(|(host, report)| report.is_err() == (host.as_str() == "agent-0")), "{reports:?}");
    stage.stop().await;
}
