//! What a recovery point says, read from the world: nodes, volumes, digests, fences.

use std::collections::BTreeMap;

use futures::future::join_all;
use rke2flow_engine::action::Failure;
use rke2flow_engine::id::RunId;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::actions::disable_upgrade_plans::{self, WAS_SELECTOR};
use crate::actions::pause_schedules::{self, WAS_PAUSED};
use crate::actions::{World, velero_backup};
use crate::answer::Identity;
use crate::kinds::{Node, Taint, VeleroEnd};
use crate::point::{FenceRecord, NodeRecord, VolumeRecord};

/// Where Velero keeps the password of its repositories: without it the data of a backup cannot be read.
const REPOSITORY_SECRET: &str = "velero-repo-credentials";
/// The persistent volumes.
const VOLUMES: &str = "/api/v1/persistentvolumes";

/// Everything of a node that a restore may have to put back.
pub(super) fn node(node: &Node) -> (String, NodeRecord) {
    let taint = |taint: &Taint| format!("{}={}:{}", taint.key, taint.value, taint.effect);
    let address = node.status.addresses.iter().find(|address| address.kind == "InternalIP");
    let record = NodeRecord {
        labels: node.metadata.labels.clone(),
        taints: node.spec.taints.iter().map(taint).collect(),
        unschedulable: node.spec.unschedulable,
        version: node.version().to_owned(),
        address: address.map(|address| address.address.clone()).unwrap_or_default(),
    };
    (node.metadata.name.clone(), record)
}

/// What each host that answers tells beside its survey.
pub(super) async fn identities(world: &World) -> BTreeMap<String, Identity> {
    let ask = |host| async move { (host, world.hosts().identity(host).await) };
    let told = join_all(world.cluster().hosts.iter().map(|host| ask(&host.name))).await;
    told.into_iter().filter_map(|(host, identity)| Some((host.to_string(), identity.ok()?))).collect()
}

/// Every persistent volume and what it is bound to.
pub(super) async fn volumes(world: &World) -> Result<Vec<VolumeRecord>, Failure> {
    let items: Vec<Value> = world.objects().list(VOLUMES).await?.unwrap_or_default();
    Ok(items.iter().map(volume).collect())
}

fn volume(object: &Value) -> VolumeRecord {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let spec = &object["spec"];
    VolumeRecord {
        name: text(&object["metadata"]["name"]),
        namespace: text(&spec["claimRef"]["namespace"]),
        claim: text(&spec["claimRef"]["name"]),
        driver: text(&spec["csi"]["driver"]),
        handle: text(&spec["csi"]["volumeHandle"]),
        reclaim: text(&spec["persistentVolumeReclaimPolicy"]),
    }
}

/// The point's Velero backup; empty: there is none that is complete.
pub(super) async fn backup(world: &World, point: &RunId) -> Result<String, Failure> {
    let backups = velero_backup::of_point(world, point).await?;
    let done = backups.into_iter().find(|backup| backup.end() == VeleroEnd::Completed);
    Ok(done.map(|backup| backup.metadata.name).unwrap_or_default())
}

/// SHA-256 of the password of Velero's repositories; empty: there is none.
pub(super) async fn repository_password(world: &World) -> Result<String, Failure> {
    use base64::Engine as _;
    let Some(velero) = &world.cluster().velero else { return Ok(String::new()) };
    let path = format!("/api/v1/namespaces/{}/secrets/{REPOSITORY_SECRET}", velero.namespace);
    let secret: Option<Value> = world.objects().get(&path).await?;
    let packed = secret.as_ref().and_then(|secret| secret["data"]["repository-password"].as_str());
    let password = packed.and_then(|packed| base64::engine::general_purpose::STANDARD.decode(packed).ok());
    let hex = |bytes: Vec<u8>| Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(password.map(hex).unwrap_or_default())
}

/// What the fences of this run took down, as it was: the snapshot has it fenced.
pub(super) async fn fences(world: &World) -> Result<Vec<FenceRecord>, Failure> {
    let mut fences = Vec::new();
    for plan in disable_upgrade_plans::plans(world).await? {
        if let Some(was) = plan.metadata.annotations.get(WAS_SELECTOR) {
            let selector: Value = serde_json::from_str(was).unwrap_or_default();
            let original = json!({ "spec": { "nodeSelector": selector } }).to_string();
            fences.push(FenceRecord { path: plan.path(), original });
        }
    }
    for schedule in pause_schedules::schedules(world).await? {
        if schedule.metadata.annotations.contains_key(WAS_PAUSED) {
            let original = json!({ "spec": { "paused": false } }).to_string();
            fences.push(FenceRecord { path: pause_schedules::path(world, &schedule), original });
        }
    }
    Ok(fences)
}
