//! A workload on every node that never stops writing: as long as it can, a control plane lives.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use http::{Method, StatusCode};
use serde_json::json;

use super::container::Spec;
use super::http::Client;
use super::layout::Layout;
use super::runtime;
use crate::process::Kubelet;

const NAME: &str = "lab-writer";
/// Time between two writes.
const PAUSE: Duration = Duration::from_millis(200);
const REQUEST: Duration = Duration::from_secs(2);

/// The writer of a node.
pub fn spec(kubelet: &Kubelet) -> Spec {
    let file = Layout::new(&kubelet.data).kubelet();
    Spec {
        namespace: "default".to_owned(),
        pod: format!("{NAME}-{}", kubelet.node),
        name: NAME.to_owned(),
        image: format!("lab/writer:{}", runtime::tag(&kubelet.version)),
        uid: NAME.to_owned(),
        is_static: false,
        command: vec![NAME.to_owned(), file.display().to_string()],
    }
}

/// Whether a container is the writer: the API knows no pod for it.
pub fn is_writer(spec: &Spec) -> bool {
    spec.name == NAME
}

/// Counts in the ConfigMap `default/lab-writes-<node>` until its process is ended. What was acknowledged is in its log.
pub async fn run(config: &Path) -> std::io::Result<()> {
    let mut written = 0_u64;
    loop {
        match write(config, written + 1).await {
            Ok(server) => {
                written += 1;
                println!("{} {written} {server}", jiff::Timestamp::now());
            }
            Err(error) => eprintln!("{} {error}", jiff::Timestamp::now()),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Whatever the kubelet knows by now is read anew: servers come and go, certificates change.
async fn write(config: &Path, count: u64) -> Result<String, String> {
    let kubelet: Kubelet = fs::read(config)
        .map_err(|error| error.to_string())
        .and_then(|bytes| serde_json::from_slice(&bytes).map_err(|error| error.to_string()))?;
    let client = Client::from_files(&kubelet.authority, &kubelet.certificate, &kubelet.key)
        .map_err(|error| error.to_string())?;
    let servers = fs::read_to_string(&kubelet.servers).map_err(|error| error.to_string())?;
    let name = format!("lab-writes-{}", kubelet.node);
    let mut why = "no API server is known".to_owned();
    for server in servers.lines() {
        let data = BTreeMap::from([("count", count.to_string()), ("at", jiff::Timestamp::now().to_string())]);
        match put(&client, server, &name, &json!({"data": data})).await {
            Ok(()) => return Ok(server.to_owned()),
            Err(error) => why = error,
        }
    }
    Err(why)
}

async fn put(client: &Client, server: &str, name: &str, change: &serde_json::Value) -> Result<(), String> {
    let collection = format!("https://{server}/api/v1/namespaces/default/configmaps");
    let patch = client.clone().with_header("content-type", "application/merge-patch+json");
    let body = change.to_string().into_bytes();
    let answer = patch.ask(Method::PATCH, &format!("{collection}/{name}"), body, REQUEST).await;
    let answer = answer.map_err(|error| error.to_string())?;
    if answer.status != StatusCode::NOT_FOUND {
        return if answer.status.is_success() { Ok(()) } else { Err(answer.text()) };
    }
    let mut object =
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "default"}});
    object["data"] = change["data"].clone();
    let create = client.clone().with_header("content-type", "application/json");
    let answer = create.ask(Method::POST, &collection, object.to_string().into_bytes(), REQUEST).await;
    let answer = answer.map_err(|error| error.to_string())?;
    if answer.status.is_success() { Ok(()) } else { Err(answer.text()) }
}
