//! ChoosePoint: one recovery point is chosen, complete and sound.

use async_trait::async_trait;
use rke2flow_engine::action::{ActionInfo, Context, Failure, Place, Probe};
use rke2flow_engine::id::HostName;
use rke2flow_engine::value::Facts;
use rke2flow_engine::value::{FactSpec, Param, ValueType};
use serde::{Deserialize, Serialize};

use crate::actions::save_snapshot::is_sound;
use crate::actions::{Goal, World, info, known, restored};
use crate::point::{RecoveryPoint, SnapshotRef};

/// Goal: one recovery point is chosen, complete and sound.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChoosePoint {
    /// `latest`, the id of the run that made it, or the name of its snapshot file.
    pub to: Param<String>,
    /// The server that is going to be restored; the cluster file's when empty.
    #[serde(default)]
    pub server: Param<String>,
}

#[async_trait]
impl Goal for ChoosePoint {
    const INFO: ActionInfo = ActionInfo {
        facts: &[
            FactSpec { name: "id", kind: ValueType::Text },
            FactSpec { name: "snapshot", kind: ValueType::Text },
            FactSpec { name: "snapshot_host", kind: ValueType::Text },
            FactSpec { name: "sha256", kind: ValueType::Text },
            FactSpec { name: "taken_at", kind: ValueType::Time },
            FactSpec { name: "version", kind: ValueType::Version },
            FactSpec { name: "velero_backup", kind: ValueType::Text },
            FactSpec { name: "sentinel_before", kind: ValueType::Text },
            FactSpec { name: "sentinel_after", kind: ValueType::Text },
        ],
        changes: false,
        ..info("ChoosePoint", "one recovery point is chosen, complete and sound", Place::Operator, 5)
    };

    async fn probe(&self, world: &World, context: &Context) -> Result<Probe, Failure> {
        let wanted = known(&self.to)?;
        let server = restored(world, &self.server)?;
        let (points, silent) = kept(world).await?;
        let points = if points.is_empty() { in_bucket(world).await? } else { points };
        let own = points.iter().filter(|point| point.cluster == context.cluster);
        let point = match wanted.as_str() {
            "latest" => own.max_by_key(|point| point.taken_at),
            name => own.filter(|point| is_meant(point, name)).max_by_key(|point| point.taken_at),
        };
        let Some(point) = point else { return Ok(none_found(wanted, &points, &silent)) };
        let snapshot = match sound_snapshot(world, point, &server).await? {
            Ok(snapshot) => snapshot,
            Err(found) => return Ok(Probe::Refused { expected: format!("a sound snapshot of {}", point.id), found }),
        };
        if let Some(found) = wrong_token(world, point, &server).await? {
            return Ok(Probe::Refused { expected: "the token that the snapshot was taken with".to_owned(), found });
        }
        Ok(Probe::Satisfied(facts(point, snapshot)))
    }
}

/// The points that the servers keep, by id; and the servers that do not answer.
async fn kept(world: &World) -> Result<(Vec<RecoveryPoint>, Vec<String>), Failure> {
    let mut points: Vec<RecoveryPoint> = Vec::new();
    let mut silent = Vec::new();
    let servers: Vec<_> = world.cluster().servers().collect();
    for server in &servers {
        match world.hosts().points(&server.name).await {
            Ok(found) => points.extend(found),
            Err(failure) => silent.push((failure.clone(), format!("{}: {failure}", server.name))),
        }
    }
    if silent.len() == servers.len()
        && let Some((failure, _)) = silent.first()
    {
        return Err(failure.clone());
    }
    Ok((points, silent.into_iter().map(|(_, text)| text).collect()))
}

/// The largest recovery point that is read from the bucket, in bytes.
const POINT_BYTES_MAX: usize = 1024 * 1024;
/// How many recovery points the bucket is searched for.
const POINTS_MAX: usize = 200;

/// The points in the bucket: for servers that have lost theirs.
async fn in_bucket(world: &World) -> Result<Vec<RecoveryPoint>, Failure> {
    let (Some(bucket), Some(s3)) = (world.bucket(), &world.cluster().s3) else { return Ok(Vec::new()) };
    let key = crate::actions::record_point::key_of(&s3.folder, "");
    let prefix = key.trim_end_matches(".json");
    let mut points = Vec::new();
    for object in bucket.list(prefix, POINTS_MAX).await? {
        let Some(bytes) = bucket.get(&object.key, POINT_BYTES_MAX).await? else { continue };
        match serde_json::from_slice(&bytes) {
            Ok(point) => points.push(point),
            Err(error) => tracing::warn!(key = object.key, %error, "a recovery point cannot be read and is left out"),
        }
    }
    Ok(points)
}

fn is_meant(point: &RecoveryPoint, name: &str) -> bool {
    let file = |snapshot: &SnapshotRef| snapshot.path == name || snapshot.path.rsplit('/').next() == Some(name);
    point.id == name || point.snapshots.iter().any(file)
}

fn none_found(wanted: &str, points: &[RecoveryPoint], silent: &[String]) -> Probe {
    let known: Vec<&str> = points.iter().map(|point| point.id.as_str()).collect();
    let mut found = match known.is_empty() {
        true => "no recovery point at all (`rke2flow run backup` makes one)".to_owned(),
        false => format!("{} (of this and other clusters)", known.join(", ")),
    };
    if !silent.is_empty() {
        found = format!("{found}; not asked: {}", silent.join("; "));
    }
    Probe::Refused { expected: format!("the recovery point `{wanted}`"), found }
}

/// A snapshot of the point that is on its host as it was recorded: the restored server's own first.
async fn sound_snapshot<'a>(
    world: &World,
    point: &'a RecoveryPoint,
    server: &HostName,
) -> Result<Result<&'a SnapshotRef, String>, Failure> {
    let mut snapshots: Vec<&SnapshotRef> = point.snapshots.iter().collect();
    snapshots.sort_by_key(|snapshot| snapshot.host != server.as_str());
    let mut damage = Vec::new();
    for snapshot in snapshots {
        let host = HostName::new(snapshot.host.as_str()).map_err(|error| Failure::permanent(error.to_string()))?;
        match world.hosts().files(&host, vec![snapshot.path.clone()]).await {
            Ok(files) => match files.iter().find(|file| file.path == snapshot.path) {
                Some(file) if file.sha256 == snapshot.sha256 && is_sound(file) => return Ok(Ok(snapshot)),
                Some(_) => damage.push(format!("{} on {host} is damaged or another file", snapshot.path)),
                None => damage.push(format!("{} is not on {host} any more", snapshot.path)),
            },
            Err(failure) => damage.push(failure.to_string()),
        }
    }
    Ok(Err(if damage.is_empty() { "it names no snapshot".to_owned() } else { damage.join("; ") }))
}

/// A snapshot cannot be read with another token than it was taken with (DOC:datastore/backup_restore.md "Security").
async fn wrong_token(world: &World, point: &RecoveryPoint, server: &HostName) -> Result<Option<String>, Failure> {
    let found = world.hosts().survey(server).await?.token_sha256;
    Ok((found != point.token_sha256).then(|| match found.is_empty() {
        true => format!("{server} has no token on disk"),
        false => format!("{server} has another one (SHA-256 {found})"),
    }))
}

fn facts(point: &RecoveryPoint, snapshot: &SnapshotRef) -> Facts {
    Facts::from(
        [
            ("id", point.id.clone()),
            ("snapshot", snapshot.path.clone()),
            ("snapshot_host", snapshot.host.clone()),
            ("sha256", snapshot.sha256.clone()),
            ("taken_at", point.taken_at.to_string()),
            ("version", point.version.clone()),
            ("velero_backup", point.velero_backup.clone()),
            ("sentinel_before", point.sentinel_before.clone()),
            ("sentinel_after", point.sentinel_after.clone()),
        ]
        .map(|(name, value)| (name.to_owned(), value.into())),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actions::record_point::RecordPoint;
    use crate::actions::save_snapshot::SaveSnapshot;
    use crate::actions::sentinel::{Sentinel, Which};
    use crate::actions::testing::{OLD, RUN, Scene};

    fn choose(to: &str) -> ChoosePoint {
        ChoosePoint { to: Param::Known(to.to_owned()), server: Param::default() }
    }

    async fn recorded() -> Scene {
        let scene = Scene::new();
        scene.on("operator", Sentinel { which: Which::Before }).apply().await;
        scene.on("server-0", SaveSnapshot {}).apply().await;
        scene.on("server-0", RecordPoint { before_version: Param::default() }).apply().await;
        scene
    }

    async fn refused(scene: &Scene, to: &str) -> String {
        match scene.on("operator", choose(to)).probe().await {
            Probe::Refused { found, .. } => found,
            other => panic!("not refused: {other:?}"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_point_is_found_by_run_by_file_and_as_the_latest() {
        let scene = recorded().await;
        for to in ["latest", RUN, "rke2flow-261122-0300-k7q2-server-0-1795316400"] {
            let facts = scene.on("operator", choose(to)).satisfied().await;
            assert_eq!((facts["id"].as_str(), facts["version"].as_str()), (Some(RUN), Some(OLD)), "{to}");
            assert_eq!(facts["snapshot_host"], "server-0");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn servers_that_lost_their_points_get_them_from_the_bucket() {
        let scene = recorded().await;
        scene.change(|state| state.hosts.get_mut("server-0").unwrap().points.clear());
        scene.on("operator", choose("latest")).satisfied().await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_point_is_refused_when_it_is_unknown_damaged_or_of_another_token() {
        let scene = recorded().await;
        assert!(refused(&scene, "261101-0000-aaaa").await.contains(RUN));
        scene.survey("server-0", |survey| survey.token_sha256 = "other".to_owned());
        assert!(refused(&scene, "latest").await.contains("another one"));
        scene.change(|state| state.hosts.get_mut("server-0").unwrap().files[0].sha256 = "other".to_owned());
        assert!(refused(&scene, "latest").await.contains("damaged or another file"));
        assert!(refused(&Scene::new(), "latest").await.contains("no recovery point at all"));
    }
}
