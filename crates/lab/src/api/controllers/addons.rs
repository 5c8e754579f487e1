//! What lies in a server's `manifests`: each shipped chart becomes an Addon and a HelmChart.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::SystemTime;
use std::{fs, io};

use rke2flow_engine::cluster::Distribution;
use rke2flow_steps::distribution::Traits;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::api::client::{ApiError, Client};
use crate::process::ControlPlane;

const ADDONS: &str = "/apis/k3s.cattle.io/v1/namespaces/kube-system/addons";
const CHARTS: &str = "/apis/helm.cattle.io/v1/namespaces/kube-system/helmcharts";

/// One server's manifests, and which states of them it has seen to. Every server sees to its own, once per change: two
/// servers of different versions do not fight (K3S `pkg/deploy/controller.go`).
pub struct Addons {
    manifests: PathBuf,
    seen: HashMap<PathBuf, SystemTime>,
}

impl Addons {
    /// Of a server whose manifests nobody has looked at since its start.
    pub fn new(config: &ControlPlane) -> Self {
        let manifests = config.tls.parent().unwrap_or(Path::new("/")).join("manifests");
        Self { manifests, seen: HashMap::new() }
    }

    /// Applies what is new.
    pub async fn apply(&mut self, client: &Client) -> Result<(), ApiError> {
        // A chart that is being written is read in a later turn.
        let Ok(charts) = charts(&self.manifests) else { return Ok(()) };
        for (path, changed) in charts {
            let Ok(text) = fs::read_to_string(&path) else { continue };
            if self.seen.get(&path) != Some(&changed) {
                apply(client, &path, &text).await?;
                self.seen.insert(path, changed);
            }
        }
        Ok(())
    }
}

fn charts(manifests: &Path) -> io::Result<Vec<(PathBuf, SystemTime)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(manifests)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if (name.starts_with("rke2-") || is_of_k3s(&name)) && name.ends_with(".yaml") {
            found.push((entry.path(), entry.metadata()?.modified()?));
        }
    }
    found.sort();
    Ok(found)
}

fn is_of_k3s(name: &str) -> bool {
    Traits::of(Distribution::K3s).charts.contains(&name)
}

async fn apply(client: &Client, path: &Path, text: &str) -> Result<(), ApiError> {
    let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let digest = Sha256::digest(text);
    let checksum: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    let applied = client.get(&format!("{ADDONS}/{name}")).await?;
    if applied.is_some_and(|addon| addon["spec"]["checksum"] == checksum) {
        return Ok(());
    }
    let value = |key: &str| text.lines().find_map(|line| line.trim().strip_prefix(key)).unwrap_or_default().trim();
    let chart = json!({"spec": {"chart": value("chart:"), "version": value("version:"), "bootstrap": false}});
    put(client, CHARTS, &name, chart).await?;
    put(client, ADDONS, &name, json!({"spec": {"source": path.display().to_string(), "checksum": checksum}})).await
}

async fn put(client: &Client, collection: &str, name: &str, mut object: Value) -> Result<(), ApiError> {
    let path = format!("{collection}/{name}");
    if client.get(&path).await?.is_some() {
        return client.patch(&path, &object).await.map(drop);
    }
    object["metadata"] = json!({"name": name});
    client.create(collection, &object).await.map(drop)
}
