//! What the Kubernetes API says of a cluster: nodes, versions, where snapshots and backups go.

use std::path::Path;
use std::sync::Arc;

use rke2flow_engine::cluster::{Cluster, Distribution, Kube};
use rke2flow_engine::id::HostName;
use rke2flow_steps::ports::{AccessError, KubeApi, KubeRequest, KubeVerb};
use serde_json::Value;

use super::found::{Backups, Bucket, Found, Node, Way};
use crate::args::InitArgs;
use crate::exit::{Exit, Problem};
use crate::world;

/// Labels of nodes that run a part of the control plane.
const SERVER_LABELS: [&str; 3] =
    ["node-role.kubernetes.io/control-plane", "node-role.kubernetes.io/etcd", "node-role.kubernetes.io/master"];

/// The cluster behind a kubeconfig.
pub(super) async fn look_by_file(args: &InitArgs, file: &Path) -> Result<Found, Problem> {
    let file = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
    let cluster = Arc::new(Cluster { kube: Kube::Kubeconfig(file.clone()), ..bare(&[]) });
    let kube = world::open(cluster, &[]).await?.access.kube;
    let mut found = look(kube.as_ref(), None, &|addresses| addresses.internal()).await?;
    found.from = format!("kubeconfig {}", file.display());
    found.kubeconfig = Some(file.display().to_string());
    found.ssh = Way::of(args);
    Ok(found)
}

/// A cluster file of which only the hosts are known.
pub(super) fn bare(hosts: &[Value]) -> Cluster {
    let file = serde_json::json!({ "format": 1, "name": "init", "hosts": hosts });
    serde_json::from_value(file).expect("these fields make a cluster")
}

/// The addresses of one node.
pub(super) struct Addresses<'a>(&'a Value);

impl Addresses<'_> {
    /// Of one type: `InternalIP`, `ExternalIP`, `Hostname`.
    pub(super) fn of(&self, kind: &str) -> Option<String> {
        let list = self.0["status"]["addresses"].as_array()?;
        let found = list.iter().find(|address| address["type"] == kind)?;
        Some(found["address"].as_str()?.to_owned())
    }

    pub(super) fn internal(&self) -> String {
        self.of("InternalIP").or_else(|| self.of("ExternalIP")).or_else(|| self.of("Hostname")).unwrap_or_default()
    }

    pub(super) fn name(&self) -> String {
        self.0["metadata"]["name"].as_str().unwrap_or_default().to_owned()
    }
}

/// Asks `server`, or whichever answers. `address` chooses how a node is reached.
pub(super) async fn look(
    kube: &dyn KubeApi,
    server: Option<&HostName>,
    address: &(dyn Fn(&Addresses<'_>) -> String + Sync),
) -> Result<Found, Problem> {
    let nodes = get(kube, server, "/api/v1/nodes")
        .await
        .map_err(|error| Problem::new(Exit::Failed, "cannot list the nodes: nothing was written").observed(error))?;
    let mut items = nodes["items"].as_array().cloned().unwrap_or_default();
    items.sort_by_key(|node| (text(&node["metadata"]["creationTimestamp"]), text(&node["metadata"]["name"])));
    let mut found = Found::default();
    let mut versions: Vec<String> = Vec::new();
    for item in &items {
        let labels = &item["metadata"]["labels"];
        let is_server = SERVER_LABELS.iter().any(|label| !labels[*label].is_null());
        let info = &item["status"]["nodeInfo"];
        let addresses = Addresses(item);
        let arch = Some(text(&info["architecture"])).filter(|arch| !arch.is_empty());
        let node = Node { name: addresses.name(), address: address(&addresses), arch };
        let list = if is_server { &mut found.servers } else { &mut found.agents };
        list.push(node);
        versions.push(text(&info["kubeletVersion"]));
    }
    versions.retain(|version| !version.is_empty());
    versions.dedup();
    found.distribution = match versions.iter().any(|version| version.contains("+k3s")) {
        true => Distribution::K3s,
        false => Distribution::Rke2,
    };
    found.version = versions.first().cloned();
    if versions.len() > 1 {
        found.notes.push(format!("the nodes run different versions: {}", versions.join(", ")));
    }
    // Neither needs to be there; what cannot be asked is left out.
    let snapshots = get(kube, server, "/apis/k3s.cattle.io/v1/etcdsnapshotfiles").await.unwrap_or_default();
    found.s3 = bucket(&snapshots);
    let locations = get(kube, server, "/apis/velero.io/v1/backupstoragelocations").await.unwrap_or_default();
    found.velero = backups(&locations);
    Ok(found)
}

/// Where the newest snapshot that is in a bucket went (K3S pkg/apis/k3s.cattle.io/v1/types.go, ETCDSnapshotS3).
fn bucket(snapshots: &Value) -> Option<Bucket> {
    let items = snapshots["items"].as_array()?;
    let newest = items.iter().filter(|item| item["spec"]["s3"].is_object());
    let s3 = &newest.max_by_key(|item| text(&item["status"]["creationTime"]))?["spec"]["s3"];
    let scheme = if s3["insecure"] == true { "http" } else { "https" };
    let endpoint = text(&s3["endpoint"]);
    let bucket = Bucket {
        endpoint: if endpoint.contains("://") { endpoint } else { format!("{scheme}://{endpoint}") },
        region: text(&s3["region"]),
        bucket: text(&s3["bucket"]),
        folder: text(&s3["prefix"]),
    };
    (!bucket.bucket.is_empty() && bucket.endpoint.len() > "https://".len()).then_some(bucket)
}

/// Velero's default location, else its first.
fn backups(locations: &Value) -> Option<Backups> {
    let items = locations["items"].as_array()?;
    let chosen = items.iter().find(|item| item["spec"]["default"] == true).or(items.first())?;
    let storage = &chosen["spec"]["objectStorage"];
    let backups = Backups {
        namespace: text(&chosen["metadata"]["namespace"]),
        location: text(&chosen["metadata"]["name"]),
        bucket: text(&storage["bucket"]),
        prefix: text(&storage["prefix"]),
    };
    (!backups.bucket.is_empty()).then_some(backups)
}

async fn get(kube: &dyn KubeApi, server: Option<&HostName>, path: &str) -> Result<Value, AccessError> {
    let request = KubeRequest { verb: KubeVerb::Get, path: path.to_owned(), body: Value::Null };
    let response = kube.call(server, &request).await?;
    if response.status == 200 {
        return Ok(response.body);
    }
    let said = response.body["message"].as_str().unwrap_or_default();
    Err(AccessError::Refused {
        whom: "the Kubernetes API".to_owned(),
        why: format!("{path} answers {} {said}", response.status),
    })
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_newest_snapshot_in_a_bucket_says_where_they_go() {
        let item = |time: &str, s3: Value| json!({"spec": {"s3": s3}, "status": {"creationTime": time}});
        let s3 = |bucket: &str| json!({"endpoint": "s3.example.com", "bucket": bucket, "region": "r", "prefix": "p/"});
        let list =
            json!({"items": [item("2026-01-01", s3("old")), item("2026-03-01", s3("new")), item("2027", Value::Null)]});
        let found = bucket(&list).unwrap();
        assert_eq!(
            (found.endpoint.as_str(), found.bucket.as_str(), found.folder.as_str()),
            ("https://s3.example.com", "new", "p/")
        );
        assert_eq!(bucket(&json!({"items": []})), None);
    }
}
