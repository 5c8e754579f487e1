//! The Kubernetes API before the kube client, directly and through a tunnel, and before curl.

use std::sync::Arc;

use http::Request;
use http_body_util::{BodyExt, Empty, Full};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::Node;
use kube::api::{Api, ListParams};
use kube::client::ConfigExt;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use rustls::pki_types::ServerName;
use serde_json::Value;
use tokio::process::Command;
use tokio_rustls::TlsConnector;

use super::parallel::connect;
use super::stand_in::Stage;

async fn config(stage: &Stage) -> Config {
    let kubeconfig = Kubeconfig::read_from(&stage.running.kubeconfig).unwrap();
    Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap()
}

#[tokio::test]
async fn a_kube_client_lists_and_sends_what_it_means() {
    let stage = Stage::of(1, 0).await;
    let client = Client::try_from(config(&stage).await).unwrap();
    let nodes: Api<Node> = Api::all(client.clone());
    let names: Vec<_> =
        nodes.list(&ListParams::default()).await.unwrap().into_iter().map(|n| n.metadata.name).collect();
    assert_eq!(names, [Some("server-0".to_owned())]);

    let request = Request::patch("/api/v1/namespaces/a%2Fb/pods?fieldManager=x&force=true")
        .header("content-type", "application/merge-patch+json")
        .body(br#"{"a":1}"#.to_vec())
        .unwrap();
    let seen: Value = client.request(request).await.unwrap();
    let expected = serde_json::json!({ "host": "server-0", "method": "PATCH", "path": "/api/v1/namespaces/a%2Fb/pods",
        "query": "fieldManager=x&force=true", "type": "application/merge-patch+json", "user": "system:admin",
        "body": r#"{"a":1}"# });
    assert_eq!(seen, expected);
    stage.stop().await;
}

#[tokio::test]
async fn the_api_is_reached_through_a_tunnel_and_goes_with_its_server() {
    let stage = Stage::of(1, 0).await;
    let session = connect(&stage, 0).await;
    let channel = session.channel_open_direct_tcpip("127.0.0.1", 6443, "127.0.0.1", 0).await.unwrap();
    let tls = TlsConnector::from(Arc::new(config(&stage).await.rustls_client_config().unwrap()));
    let stream = tls.connect(ServerName::try_from("127.0.0.1").unwrap(), channel.into_stream()).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    let driven = tokio::spawn(connection);
    let get = |path: &str| Request::get(path).header("host", "127.0.0.1").body(Empty::<bytes::Bytes>::new()).unwrap();
    let answer = sender.send_request(get("/api/v1/nodes")).await.unwrap();
    assert_eq!(answer.status(), 200);
    assert!(!answer.into_body().collect().await.unwrap().to_bytes().is_empty());

    stage.stand_in.switch("server-0", 6443, false);
    // The connection ends, whichever way it is told.
    let _ = tokio::time::timeout(std::time::Duration::from_secs(5), driven).await.expect("the connection ends");
    assert!(session.channel_open_direct_tcpip("127.0.0.1", 6443, "127.0.0.1", 0).await.is_err());
    drop(session);
    stage.stop().await;
}

#[tokio::test]
async fn who_has_no_certificate_is_told_so_and_may_ask_for_readiness() {
    let stage = Stage::of(1, 0).await;
    let server = config(&stage).await.cluster_url.to_string();
    let curl = async |path: &str| {
        let url = format!("{server}{path}");
        let output = Command::new("curl").args(["-sk", "--max-time", "5", "-w", " %{http_code}", &url]).output().await;
        String::from_utf8(output.unwrap().stdout).unwrap()
    };
    assert_eq!(curl("readyz").await, "ok 200");
    let refused = curl("api/v1/nodes").await;
    assert!(refused.contains("Unauthorized") && refused.ends_with(" 401"), "{refused}");
    stage.stop().await;
}

#[tokio::test]
async fn a_body_beyond_the_limit_is_refused() {
    let stage = Stage::of(1, 0).await;
    let mut tls = config(&stage).await.rustls_client_config().unwrap();
    tls.alpn_protocols.clear();
    let url = config(&stage).await.cluster_url;
    let stream = tokio::net::TcpStream::connect(url.authority().unwrap().as_str()).await.unwrap();
    let tls = TlsConnector::from(Arc::new(tls));
    let stream = tls.connect(ServerName::try_from("127.0.0.1").unwrap(), stream).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let body = Full::new(bytes::Bytes::from(vec![b' '; (3 << 20) + 1]));
    let answer = sender.send_request(Request::post("/api/v1/pods").header("host", "x").body(body).unwrap()).await;
    assert_eq!(answer.unwrap().status(), 413);
    stage.stop().await;
}
