//! RecordPoint: the server keeps the recovery point of this run.

use async_trait::async_trait;
use rke2flow_engine::action::{ActionInfo, Applied, Context, Failure, Place, Probe};
use rke2flow_engine::id::HostName;
use rke2flow_engine::value::Facts;
use rke2flow_engine::value::{FactSpec, Param, ValueType};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

use crate::actions::save_snapshot;
use crate::actions::sentinel;
use crate::actions::velero_backup;
use crate::actions::{Goal, World, host_of, info, known};
use crate::answer::FileInfo;
use crate::command::Change;
use crate::kinds::{AnyKind, Node, VeleroEnd};
use crate::point::{NodeRecord, RecoveryPoint, SnapshotRef};

/// Goal: the server keeps the recovery point of this run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordPoint {
    /// The version that the cluster is about to run; empty for a plain backup.
    #[serde(default)]
    pub before_version: Param<String>,
}

#[async_trait]
impl Goal for RecordPoint {
    const INFO: ActionInfo = ActionInfo {
        facts: &[
            FactSpec { name: "id", kind: ValueType::Text },
            FactSpec { name: "version", kind: ValueType::Version },
        ],
        ..info("RecordPoint", "the server keeps the recovery point of this run", Place::Host, 3)
    };

    async fn probe(&self, world: &World, context: &Context) -> Result<Probe, Failure> {
        let host = host_of(context)?;
        let points = world.hosts().points(host).await?;
        let Some(point) = points.iter().rev().find(|point| point.id == context.run.as_str()) else {
            return Ok(Probe::pending("the host keeps no recovery point of this run"));
        };
        for snapshot in &point.snapshots {
            if let Some(why) = damage(world, snapshot).await? {
                return Ok(Probe::Pending(why));
            }
        }
        if let Some(key) = bucket_key(world, &point.id)
            && let Some(bucket) = world.bucket()
            && bucket.head(&key).await?.is_none()
        {
            return Ok(Probe::pending("the bucket keeps no recovery point of this run"));
        }
        Ok(Probe::Satisfied(Facts::from([
            ("id".to_owned(), point.id.clone().into()),
            ("version".to_owned(), point.version.clone().into()),
        ])))
    }

    async fn apply(&self, world: &World, context: &Context) -> Result<Applied, Failure> {
        let point = self.point(world, context).await?;
        if let Some(key) = bucket_key(world, &point.id)
            && let Some(bucket) = world.bucket()
        {
            world.check_claim(context).await?;
            let text = serde_json::to_vec_pretty(&point).expect("a recovery point is plain data");
            bucket.put(&key, text, BTreeMap::new()).await?;
        }
        world.order(context, Change::WritePoint { point: Box::new(point) }).await
    }
}

/// What a recovery point says it is.
const SCHEMA: &str = "rke2flow.dev/recovery-point/v1";

impl RecordPoint {
    /// Put together from the world alone, so that it can be written again at any time of the run.
    async fn point(&self, world: &World, context: &Context) -> Result<RecoveryPoint, Failure> {
        let files = snapshots(world, context).await?;
        let Some((owner, first)) = files.iter().min_by_key(|(_, file)| save_snapshot::taken_at(file)) else {
            return Err(Failure::permanent("there is no sound etcd snapshot of this run to record"));
        };
        let nodes: Vec<Node> = world.objects().list("/api/v1/nodes").await?.unwrap_or_default();
        let node = nodes.iter().find(|node| node.metadata.name == owner.as_str());
        let node = node.ok_or_else(|| Failure::transient(format!("the API has no node {owner}")))?;
        let survey = world.hosts().survey(owner).await?;
        let before = sentinel::name(&context.run, sentinel::Which::Before);
        let Some(sentinel_before) = world.objects().get::<AnyKind>(&sentinel::path(&before)).await? else {
            return Err(Failure::permanent(format!("there is no sentinel {before} to recognise the snapshot by")));
        };
        let mut recorded = Vec::new();
        for (host, file) in &files {
            recorded.push(reference(world, host, file).await?);
        }
        Ok(RecoveryPoint {
            schema: SCHEMA.to_owned(),
            id: context.run.to_string(),
            cluster: context.cluster.clone(),
            taken_at: save_snapshot::taken_at(first),
            version: node.version().to_owned(),
            before_version: known(&self.before_version)?.clone(),
            snapshots: recorded,
            token_sha256: survey.token_sha256,
            ca_sha256: survey.ca_sha256,
            sentinel_before: sentinel_before.metadata.uid,
            sentinel_after: sentinel::name(&context.run, sentinel::Which::After),
            velero_backup: velero_backup_of(world, context).await?,
            nodes: nodes.iter().map(record_of).collect(),
            ..RecoveryPoint::default()
        })
    }
}

/// The sound snapshots of this run on every server that answers.
async fn snapshots(world: &World, context: &Context) -> Result<Vec<(HostName, FileInfo)>, Failure> {
    let prefix = format!("{}-", save_snapshot::name(context));
    let mut found = Vec::new();
    for server in world.cluster().servers() {
        let files = world.hosts().snapshots(&server.name, &prefix).await?;
        found.extend(files.into_iter().filter(save_snapshot::is_sound).map(|file| (server.name.clone(), file)));
    }
    Ok(found)
}

async fn reference(world: &World, host: &HostName, file: &FileInfo) -> Result<SnapshotRef, Failure> {
    let s3_key = save_snapshot::key_in_bucket(world, host, file).await?.unwrap_or_default();
    let (path, sha256) = (file.path.clone(), file.sha256.clone());
    Ok(SnapshotRef { host: host.to_string(), path, size: file.size, sha256, s3_key })
}

async fn velero_backup_of(world: &World, context: &Context) -> Result<String, Failure> {
    let backups = velero_backup::of_run(world, context.run.as_str()).await?;
    let done = backups.into_iter().find(|backup| backup.end() == VeleroEnd::Completed);
    Ok(done.map(|backup| backup.metadata.name).unwrap_or_default())
}

fn record_of(node: &Node) -> (String, NodeRecord) {
    let taint = |taint: &crate::kinds::Taint| format!("{}={}:{}", taint.key, taint.value, taint.effect);
    let record = NodeRecord {
        labels: node.metadata.labels.clone(),
        taints: node.spec.taints.iter().map(taint).collect(),
        unschedulable: node.spec.unschedulable,
        ..NodeRecord::default()
    };
    (node.metadata.name.clone(), record)
}

/// Why a recorded snapshot is no way back any more.
async fn damage(world: &World, snapshot: &SnapshotRef) -> Result<Option<String>, Failure> {
    let host = HostName::new(snapshot.host.as_str()).map_err(|error| Failure::permanent(error.to_string()))?;
    let files = world.hosts().files(&host, vec![snapshot.path.clone()]).await?;
    Ok(match files.iter().find(|file| file.path == snapshot.path) {
        Some(file) if file.sha256 == snapshot.sha256 => None,
        Some(_) => Some(format!("{} on {host} is not what was recorded", snapshot.path)),
        None => Some(format!("{} is not on {host} any more", snapshot.path)),
    })
}

/// Where the bucket keeps the point: every server's step writes the same one. The directory is the one that RKE2 keeps
/// metadata in, so that it is not taken for a snapshot (K3S pkg/etcd/s3/s3.go).
fn bucket_key(world: &World, id: &str) -> Option<String> {
    world.cluster().s3.as_ref().map(|s3| key_of(&s3.folder, id))
}

/// The key of a recovery point below the snapshots' folder.
pub(crate) fn key_of(folder: &str, id: &str) -> String {
    let folder = folder.trim_matches('/');
    let separator = if folder.is_empty() { "" } else { "/" };
    format!("{folder}{separator}.metadata/rke2flow-{id}.json")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actions::save_snapshot::SaveSnapshot;
    use crate::actions::sentinel::{Sentinel, Which};
    use crate::actions::testing::{NEW, OLD, RUN, Scene};

    fn record() -> RecordPoint {
        RecordPoint { before_version: Param::Known(NEW.to_owned()) }
    }

    async fn saved() -> Scene {
        let scene = Scene::new();
        scene.on("operator", Sentinel { which: Which::Before }).apply().await;
        scene.on("server-0", SaveSnapshot {}).apply().await;
        scene
    }

    fn kept(scene: &Scene, host: &str) -> RecoveryPoint {
        scene.change(|state| serde_json::from_str(&state.hosts[host].points[0]).unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn recording_is_idempotent_and_the_same_on_every_server() {
        let scene = saved().await;
        let facts = scene.on("server-0", record()).idempotent().await;
        assert_eq!((facts["id"].as_str(), facts["version"].as_str()), (Some(RUN), Some(OLD)));
        scene.on("server-2", record()).idempotent().await;
        assert_eq!(kept(&scene, "server-0"), kept(&scene, "server-2"));
        assert!(scene.change(|state| state.bucket.contains_key(&format!("prod/.metadata/rke2flow-{RUN}.json"))));
    }

    #[tokio::test(start_paused = true)]
    async fn a_point_whose_snapshot_is_gone_is_no_way_back() {
        let scene = saved().await;
        let bench = scene.on("server-1", record());
        bench.apply().await;
        scene.change(|state| state.hosts.get_mut("server-0").unwrap().files.clear());
        assert!(bench.pending().await.contains("is not on server-0 any more"));
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_recorded_without_a_snapshot() {
        assert!(Scene::new().on("server-0", record()).failure_of_apply().await.what.contains("no sound etcd snapshot"));
    }
}
