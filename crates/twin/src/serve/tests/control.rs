//! The control port, the directory, the HTTP server.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use rke2flow_engine::cluster::{Cluster, Releases, Secret};
use serde_json::{Value, json};
use tokio::process::Command;

use super::stand_in::{BUCKET, Stage};
use crate::serve::control::RemoteError;
use crate::serve::{Ask, Remote, ServeError, up};

#[tokio::test]
async fn another_process_asks_and_is_answered() {
    let stage = Stage::of(1, 0).await;
    let remote = Remote::of(stage.dir()).unwrap();
    for (ask, name) in [(Ask::Judge, "Judge"), (Ask::Log, "Log"), (Ask::Fingerprint, "Fingerprint")] {
        assert_eq!(remote.ask(ask, Value::Null).await.unwrap(), json!([name, null]));
    }
    assert_eq!(remote.ask(Ask::Write, json!({"a": 1})).await.unwrap(), json!(["Write", {"a": 1}]));
    assert_eq!(remote.ask(Ask::Set, json!({"StopUnit": "server-0"})).await.unwrap()[0], "Set");
    assert_eq!(remote.ask(Ask::Fault, json!({"UploadFails": 1})).await.unwrap()[0], "Fault");
    let refused = remote.ask(Ask::Write, json!("wrong")).await;
    assert!(matches!(&refused, Err(RemoteError::Refused(why)) if why == "that is wrong"), "{refused:?}");
    stage.stop().await;
}

#[tokio::test]
async fn nobody_asks_without_the_token() {
    let stage = Stage::of(1, 0).await;
    let url = format!("http://{}/shutdown", stage.running.control);
    let output = Command::new("curl").args(["-s", "-X", "POST", "-w", " %{http_code}", &url]).output().await.unwrap();
    assert!(output.stdout.ends_with(b" 401"), "{output:?}");
    let stopped = tokio::time::timeout(Duration::from_millis(50), stage.running.stopped()).await;
    assert!(stopped.is_err(), "a stranger stopped the twin");
    stage.stop().await;
}

#[tokio::test]
async fn a_shutdown_from_outside_is_answered_and_happens() {
    let stage = Stage::of(1, 0).await;
    let remote = Remote::of(stage.dir()).unwrap();
    remote.shutdown().await.unwrap();
    tokio::time::timeout(Duration::from_secs(5), stage.running.stopped()).await.expect("the twin stops");
    stage.stop().await;
    assert!(matches!(remote.ask(Ask::Judge, Value::Null).await, Err(RemoteError::Silent(_))));
}

#[tokio::test]
async fn the_cluster_file_says_where_everything_is_and_only_its_owner_reads_it() {
    let stage = Stage::of(3, 3).await;
    let text = std::fs::read_to_string(&stage.running.cluster_ron).unwrap();
    let options = ron::Options::default().with_default_extension(ron::extensions::Extensions::IMPLICIT_SOME);
    let cluster: Cluster = options.from_str(&text).unwrap();
    assert_eq!(cluster, stage.running.cluster);
    assert_eq!(cluster.hosts.len(), 6);
    let mut addresses: Vec<_> = cluster.hosts.iter().map(|host| &host.address).collect();
    addresses.dedup();
    assert_eq!(addresses.len(), 6, "every host has an address of its own: {addresses:?}");
    let s3 = cluster.s3.unwrap();
    assert_eq!(s3.bucket, BUCKET);
    let Secret::File(secret) = s3.secret_key else { panic!("the secret is not a file") };
    assert_eq!(std::fs::read_to_string(&secret).unwrap(), "a secret / with + odd = signs\n");
    assert!(!text.contains("a secret"), "{text}");
    for entry in std::fs::read_dir(stage.dir()).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{:?}", entry.path());
    }
    stage.stop().await;
}

#[tokio::test]
async fn a_directory_that_a_living_twin_has_is_not_taken() {
    let stage = Stage::of(1, 0).await;
    // Process 1 lives, and is not this one.
    std::fs::write(stage.dir().join("twin.pid"), "1\n").unwrap();
    let taken = up(stage.stand_in.clone(), stage.dir()).await;
    assert!(matches!(taken, Err(ServeError::Taken { pid: 1, .. })));
    std::fs::write(stage.dir().join("twin.pid"), "4194999\n").unwrap();
    let again = up(stage.stand_in.clone(), stage.dir()).await.expect("a dead twin's directory is free");
    again.shutdown().await;
}

#[tokio::test]
async fn the_health_url_and_the_releases_are_there() {
    let stage = Stage::of(1, 0).await;
    let curl = async |url: &str| {
        let output = Command::new("curl").args(["-s", "-w", " %{http_code}", url]).output().await.unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(curl(&stage.running.cluster.health_urls[0]).await, "alive 200");
    let Releases::Url(template) = &stage.running.cluster.releases else { panic!("not a URL") };
    let url = |file: &str| template.replace("{version}", "v1.34.1%2Brke2r1").replace("{file}", file);
    assert!(curl(&url("sha256sum-amd64.txt")).await.contains("  rke2.linux-amd64.tar.gz\n"));
    assert_eq!(curl(&url("rke2.linux-amd64.tar.gz")).await, "rke2.linux-amd64.tar.gz of v1.34.1+rke2r1\n 200");
    assert!(curl(&url("nothing")).await.ends_with(" 404"));
    stage.stop().await;
}
