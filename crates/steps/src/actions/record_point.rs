//! RecordPoint: the server keeps the recovery point of this run, and every other place has the snapshot that it names.

mod contents;

use async_trait::async_trait;
use rke2flow_engine::action::{ActionInfo, Applied, Context, Failure, FailureClass, Place, Probe};
use rke2flow_engine::id::HostName;
use rke2flow_engine::value::Facts;
use rke2flow_engine::value::{FactSpec, Param, ValueType};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

use crate::actions::bucket_keys::Folder;
use crate::actions::census::{self, KINDS};
use crate::actions::save_snapshot::{self, is_own, is_sound, taken_at};
use crate::actions::sentinel;
use crate::actions::upload_snapshot::key_in_bucket;
use crate::actions::{Goal, World, host_of, info, known};
use crate::answer::FileInfo;
use crate::command::Change;
use crate::kinds::{AnyKind, Node};
use crate::point::{RecoveryPoint, SnapshotRef};

/// Goal: the server keeps the recovery point of this run, every server that answers keeps a snapshot that it names, and
/// the bucket has both when there is one.
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
        revision: 2,
        ..info("RecordPoint", "the server keeps the recovery point of this run", Place::Host, 3)
    };

    async fn probe(&self, world: &World, context: &Context) -> Result<Probe, Failure> {
        let host = host_of(context)?;
        let points = world.hosts().points(host).await?;
        let id = context.round_id();
        let Some(point) = points.iter().rev().find(|point| point.id == id.as_str()) else {
            return Ok(Probe::pending("the host keeps no recovery point of this run"));
        };
        if let Some(why) = incomplete(world, point).await? {
            return Ok(Probe::Pending(why));
        }
        Ok(Probe::Satisfied(Facts::from([
            ("id".to_owned(), point.id.clone().into()),
            ("version".to_owned(), point.version.clone().into()),
        ])))
    }

    async fn apply(&self, world: &World, context: &Context) -> Result<Applied, Failure> {
        let point = match kept_elsewhere(world, context).await? {
            Some(point) => point,
            None => self.point(world, context).await?,
        };
        if let Some(folder) = Folder::of(world) {
            world.check_claim(context).await?;
            let text = serde_json::to_vec_pretty(&point).expect("a recovery point is plain data");
            folder.bucket().put(&folder.point(&point.id), text, BTreeMap::new()).await?;
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
        let own = files.iter().filter(|(_, file)| is_own(world, file));
        let Some((owner, first)) = own.min_by_key(|(_, file)| taken_at(file)) else {
            return Err(Failure::permanent("there is no sound etcd snapshot of this run to record"));
        };
        let nodes: Vec<Node> = world.objects().list("/api/v1/nodes").await?.unwrap_or_default();
        let node = nodes.iter().find(|node| node.metadata.name == owner.as_str());
        let node = node.ok_or_else(|| Failure::transient(format!("the API has no node {owner}")))?;
        let id = context.round_id();
        let before = sentinel::name(&id, sentinel::Which::Before);
        let Some(before) = world.objects().get::<AnyKind>(&sentinel::path(&before)).await? else {
            return Err(Failure::permanent(format!("there is no sentinel {before} to recognise the snapshot by")));
        };
        let survey = world.hosts().survey(owner).await?;
        let identities = contents::identities(world).await;
        let owned = identities.get(owner.as_str()).cloned().unwrap_or_default();
        Ok(RecoveryPoint {
            schema: SCHEMA.to_owned(),
            id: id.to_string(),
            cluster: context.cluster.clone(),
            taken_at: taken_at(first),
            version: node.version().to_owned(),
            before_version: known(&self.before_version)?.clone(),
            snapshots: references(world, owner, &files).await?,
            token_sha256: survey.token_sha256,
            ca_sha256: survey.ca_sha256,
            // The last thing that is certain to be in the snapshot, and the same whoever reads it, and when.
            etcd_revision: before.metadata.resource_version.parse().unwrap_or_default(),
            sentinel_before: before.metadata.uid,
            sentinel_after: sentinel::name(&id, sentinel::Which::After),
            velero_backup: contents::backup(world, &id).await?,
            nodes: nodes.iter().map(contents::node).collect(),
            etcd_version: owned.etcd_version,
            token_hash: owned.token_hash,
            config_sha256: identities.into_iter().map(|(host, identity)| (host, identity.config_sha256)).collect(),
            volumes: contents::volumes(world).await?,
            repository_password_sha256: contents::repository_password(world).await?,
            fences: contents::fences(world).await?,
            counts: counts(world).await?,
        })
    }
}

/// The point as another server or the bucket has it already: every server keeps the same.
async fn kept_elsewhere(world: &World, context: &Context) -> Result<Option<RecoveryPoint>, Failure> {
    let id = context.round_id();
    for server in world.servers() {
        let Some(points) = answered(world.hosts().points(&server.name).await)? else { continue };
        let own = points.into_iter().rev().find(|point| point.id == id.as_str());
        if let Some(point) = own
            && missing(world, &point).await?.is_none()
        {
            return Ok(Some(point));
        }
    }
    Ok(None)
}

/// Why a recorded point is no way back; `None`: it is one.
async fn incomplete(world: &World, point: &RecoveryPoint) -> Result<Option<String>, Failure> {
    if let Some(why) = missing(world, point).await? {
        return Ok(Some(why));
    }
    match Folder::of(world) {
        Some(folder) if folder.bucket().head(&folder.point(&point.id)).await?.is_none() => {
            Ok(Some("the bucket keeps no recovery point of this run".to_owned()))
        }
        _ => Ok(None),
    }
}

/// Which snapshot of a point is not where it should be: on every server that answers, and in the bucket.
pub(crate) async fn missing(world: &World, point: &RecoveryPoint) -> Result<Option<String>, Failure> {
    for server in world.servers() {
        let recorded = point.snapshots.iter().find(|snapshot| snapshot.host == server.name.as_str());
        let paths = recorded.map(|snapshot| snapshot.path.clone()).into_iter().collect();
        let Some(files) = answered(world.hosts().files(&server.name, paths).await)? else { continue };
        let Some(snapshot) = recorded else {
            return Ok(Some(format!("the point names no snapshot of {}", server.name)));
        };
        match files.iter().find(|file| file.path == snapshot.path) {
            Some(file) if file.sha256 == snapshot.sha256 => {}
            Some(_) => return Ok(Some(format!("{} on {} is not what was recorded", snapshot.path, server.name))),
            None => return Ok(Some(format!("{} is not on {} any more", snapshot.path, server.name))),
        }
    }
    let Some(folder) = Folder::of(world) else { return Ok(None) };
    let Some(uploaded) = point.snapshots.iter().find(|snapshot| !snapshot.s3_key.is_empty()) else {
        return Ok(Some("the point names no snapshot in the bucket".to_owned()));
    };
    Ok(match folder.bucket().head(&uploaded.s3_key).await? {
        Some(object) if object.size == uploaded.size => None,
        Some(object) => Some(format!("{} has {} bytes, recorded {}", uploaded.s3_key, object.size, uploaded.size)),
        None => Some(format!("{} is not in the bucket any more", uploaded.s3_key)),
    })
}

/// The sound snapshots of this run on every server that answers: each must have one.
async fn snapshots(world: &World, context: &Context) -> Result<Vec<(HostName, FileInfo)>, Failure> {
    let prefix = format!("{}-", save_snapshot::name(context));
    let (mut found, mut lacking) = (Vec::new(), Vec::new());
    for server in world.servers() {
        let Some(files) = answered(world.hosts().snapshots(&server.name, &prefix).await)? else { continue };
        let sound: Vec<FileInfo> = files.into_iter().filter(is_sound).collect();
        if sound.is_empty() {
            lacking.push(server.name.to_string());
        }
        found.extend(sound.into_iter().map(|file| (server.name.clone(), file)));
    }
    match lacking.is_empty() || found.is_empty() {
        true => Ok(found),
        false => {
            let what = format!("{} keeps no snapshot of this run", lacking.join(", "));
            let round = context.round.map_or_else(String::new, |round| format!("-{round}"));
            Err(Failure::transient(what).next(format!("rke2flow retry {} copy{round}", context.run)))
        }
    }
}

/// The snapshot's files, the one that was saved first at the head.
async fn references(
    world: &World,
    owner: &HostName,
    files: &[(HostName, FileInfo)],
) -> Result<Vec<SnapshotRef>, Failure> {
    let mut ordered: Vec<&(HostName, FileInfo)> = files.iter().collect();
    ordered.sort_by_key(|(host, file)| (host != owner || !is_own(world, file), taken_at(file)));
    let (folder, mut references) = (Folder::of(world), Vec::new());
    for (host, file) in ordered {
        let s3_key = match &folder {
            Some(folder) => key_in_bucket(folder, host, file).await?.unwrap_or_default(),
            None => String::new(),
        };
        let (path, sha256) = (file.path.clone(), file.sha256.clone());
        references.push(SnapshotRef { host: host.to_string(), path, size: file.size, sha256, s3_key });
    }
    Ok(references)
}

async fn counts(world: &World) -> Result<BTreeMap<String, u64>, Failure> {
    let mut counts = BTreeMap::new();
    for (kind, path) in KINDS {
        if let Some(count) = census::count(world, path).await? {
            counts.insert(kind.to_owned(), count);
        }
    }
    Ok(counts)
}

/// An answer, or `None` from a host that does not give one now: a point can do without it, and says so by leaving it out.
fn answered<T>(result: Result<T, Failure>) -> Result<Option<T>, Failure> {
    match result {
        Ok(answer) => Ok(Some(answer)),
        Err(failure) if failure.class == FailureClass::Transient => {
            tracing::warn!(%failure, "a server is left out of the recovery point");
            Ok(None)
        }
        Err(failure) => Err(failure),
    }
}

#[cfg(test)]
mod tests;
