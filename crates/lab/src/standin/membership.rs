//! What ties a server's Node to its etcd member: the member's name and address on the Node, and a finalizer, so that a
//! Node that is deleted takes its member with it (K3S `pkg/etcd/metadata_controller.go`, `pkg/etcd/member_controller.go`).

use std::time::Duration;

use http::Method;
use serde_json::{Value, json};

use super::http::Client;
use super::log;
use super::node::Server;

/// K3s hears of a change at once.
const EVERY: Duration = Duration::from_secs(2);
const REQUEST: Duration = Duration::from_secs(5);

const NAME: &str = "etcd.rke2.cattle.io/node-name";
const ADDRESS: &str = "etcd.rke2.cattle.io/node-address";
const ROLE: &str = "node-role.kubernetes.io/etcd";
/// Wrangler's, for a handler of removals.
const FINALIZER: &str = "wrangler.cattle.io/managed-etcd-controller";

/// Ties this server's own Node to its member, and unties deleted ones while this member leads, until the process ends.
pub async fn keep(server: &Server) {
    let api = match server.api() {
        Ok((client, base)) => Api { client: client.with_header("content-type", "application/merge-patch+json"), base },
        Err(error) => return log::warn(format!("no member leaves with its Node: {error}")),
    };
    loop {
        tokio::time::sleep(EVERY).await;
        let kept = async {
            tie(server, &api).await?;
            let status = server.etcd.status().await.map_err(|error| error.to_string())?;
            if status.member == status.leader { untie(server, &api).await } else { Ok(()) }
        };
        if let Err(why) = kept.await {
            tracing::debug!("etcd members and their Nodes: {why}");
        }
    }
}

async fn tie(server: &Server, api: &Api) -> Result<(), String> {
    let path = format!("/api/v1/nodes/{}", server.name);
    let node = api.ask(Method::GET, &path, Value::Null).await?;
    let (name, address) = (server.member_name(), server.address.to_string());
    let metadata = &node["metadata"];
    let mut finalizers = finalizers(&node);
    let has_finalizer = finalizers.iter().any(|one| one == FINALIZER);
    let is_tied = metadata["annotations"][NAME] == name.as_str() && has_finalizer;
    if is_tied || metadata["deletionTimestamp"].is_string() {
        return Ok(());
    }
    if !has_finalizer {
        finalizers.push(FINALIZER.to_owned());
    }
    let annotations = json!({ NAME: name, ADDRESS: address });
    let patch = json!({"metadata": {"uid": metadata["uid"], "annotations": annotations, "finalizers": finalizers}});
    api.ask(Method::PATCH, &path, patch).await.map(drop)
}

/// Takes the members of Nodes that are being deleted out, by name and address: after a restore they may be of no member.
async fn untie(server: &Server, api: &Api) -> Result<(), String> {
    let nodes = api.ask(Method::GET, "/api/v1/nodes", Value::Null).await?;
    for node in nodes["items"].as_array().into_iter().flatten() {
        let metadata = &node["metadata"];
        let mut finalizers = finalizers(node);
        if !metadata["deletionTimestamp"].is_string() || !finalizers.iter().any(|one| one == FINALIZER) {
            continue;
        }
        if metadata["labels"][ROLE].is_string() {
            let text = |key: &str| metadata["annotations"][key].as_str();
            let (Some(name), Some(address)) = (text(NAME), text(ADDRESS)) else {
                return Err(format!("node name or address annotation for node {} not found", metadata["name"]));
            };
            remove(server, name, address).await?;
        }
        finalizers.retain(|one| one != FINALIZER);
        let patch = json!({"metadata": {"uid": metadata["uid"], "finalizers": finalizers}});
        let path = format!("/api/v1/nodes/{}", metadata["name"].as_str().unwrap_or_default());
        api.ask(Method::PATCH, &path, patch).await?;
    }
    Ok(())
}

async fn remove(server: &Server, name: &str, address: &str) -> Result<(), String> {
    let members = server.etcd.members().await.map_err(|error| error.to_string())?;
    let host = format!("//{address}:");
    for member in members.iter().filter(|member| member.name == name) {
        if member.peer_urls.iter().any(|url| url.contains(&host)) {
            log::info(format!("Removing name={name} id={} address={address} from etcd", member.id));
            server.etcd.remove(member.id).await.map_err(|error| error.to_string())?;
        }
    }
    Ok(())
}

fn finalizers(node: &Value) -> Vec<String> {
    let found = node["metadata"]["finalizers"].as_array();
    found.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// The server's own API, for merge patches.
struct Api {
    client: Client,
    base: String,
}

impl Api {
    async fn ask(&self, method: Method, path: &str, body: Value) -> Result<Value, String> {
        let bytes = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        let answer = self.client.ask(method, &format!("{}{path}", self.base), bytes, REQUEST).await;
        let answer = answer.map_err(|error| error.to_string())?;
        if !answer.status.is_success() {
            return Err(format!("{path}: {}", answer.text()));
        }
        serde_json::from_slice(&answer.body).map_err(|error| error.to_string())
    }
}
