//! Checks of backups: whether there is a fresh one, and whether those that are configured can work.

use std::time::Duration;

use jiff::Timestamp;
use rke2flow_engine::action::Failure;

use super::check::{Level, Row, Seen};
use super::evidence::Evidence;
use crate::actions::choose_point::Candidates;
use crate::actions::{World, stamp};
use crate::kinds::{VeleroEnd, VeleroJob};
use crate::point::{RecoveryPoint, SnapshotRef};

/// What is older is told of.
const FRESH: Duration = Duration::from_secs(24 * 3600);
/// How many of the newest points are tried until one is whole.
const TRIED_MAX: usize = 3;
const BACKUP: &str = "rke2flow run backup";

pub(super) const FRESHNESS: Row = Row {
    level: Level::Warn,
    why: "whatever was written after the newest recovery point is lost when the cluster is; upgrade makes one of its own first",
    source: "rancher#27246; etcd#21283",
    unwaivable: None,
    judge: |evidence| Box::pin(freshness(evidence)),
};

async fn freshness(evidence: &Evidence<'_>) -> Result<Seen, Failure> {
    let mut seen = Seen::default();
    let servers = evidence.servers().await;
    let Some((_, first)) = servers.first() else {
        seen.warn("no server answers", "bring a server back first");
        return Ok(seen);
    };
    let now = stamp(first.epoch);
    let world = evidence.world;
    let candidates = Candidates::gather(world).await?;
    let points = candidates.of_cluster(&world.cluster().name);
    match newest_whole(world, &points, &first.token_sha256, &mut seen).await? {
        Some(point) => {
            seen.well = format!("{} is {} old and whole", point.id, age(now, point.taken_at));
            if is_old(now, point.taken_at) {
                seen.warn(
                    format!("the newest whole recovery point, {}, is {} old", point.id, age(now, point.taken_at)),
                    BACKUP,
                );
            }
        }
        None if points.is_empty() => seen.warn("there is no recovery point", BACKUP),
        None => seen.warn("none of the newest recovery points can be used", BACKUP),
    }
    if let Some(velero) = &world.cluster().velero {
        let path = format!("/apis/velero.io/v1/namespaces/{}/backups", velero.namespace);
        let backups: Vec<VeleroJob> = evidence.list(&path).await?.unwrap_or_default();
        volumes(&backups, now, &mut seen);
    }
    Ok(seen)
}

/// The newest point of which at least one snapshot is where it says, under the token that is on disk.
async fn newest_whole<'a>(
    world: &World,
    points: &[&'a RecoveryPoint],
    token_sha256: &str,
    seen: &mut Seen,
) -> Result<Option<&'a RecoveryPoint>, Failure> {
    for point in points.iter().take(TRIED_MAX) {
        if !token_sha256.is_empty() && !point.token_sha256.is_empty() && point.token_sha256 != token_sha256 {
            seen.warn(format!("{} was taken under another token", point.id), BACKUP);
            continue;
        }
        for snapshot in &point.snapshots {
            if is_there(world, snapshot).await {
                return Ok(Some(point));
            }
        }
        seen.warn(format!("no snapshot of {} is where it should be", point.id), BACKUP);
    }
    Ok(None)
}

/// In the bucket with its size, or on its host as it was.
async fn is_there(world: &World, snapshot: &SnapshotRef) -> bool {
    if let (false, Some(bucket)) = (snapshot.s3_key.is_empty(), world.bucket())
        && let Ok(Some(found)) = bucket.head(&snapshot.s3_key).await
        && found.size == snapshot.size
    {
        return true;
    }
    let host = world.cluster().hosts.iter().find(|host| host.name.as_str() == snapshot.host);
    let Some(host) = host else { return false };
    let files = world.hosts().files(&host.name, vec![snapshot.path.clone()]).await.unwrap_or_default();
    files.iter().any(|file| file.size == snapshot.size && file.sha256 == snapshot.sha256)
}

fn volumes(backups: &[VeleroJob], now: Timestamp, seen: &mut Seen) {
    let done = backups.iter().filter(|backup| backup.end() == VeleroEnd::Completed);
    let newest = done.max_by_key(|backup| backup.metadata.creation_timestamp);
    match newest.and_then(|backup| Some((&backup.metadata.name, backup.metadata.creation_timestamp?))) {
        None => seen.warn("no Velero backup has completed", BACKUP),
        Some((name, at)) if is_old(now, at) => {
            seen.warn(format!("the newest Velero backup, {name}, is {} old", age(now, at)), BACKUP);
        }
        Some((name, at)) => seen.well = format!("{}; Velero's {name} is {} old", seen.well, age(now, at)),
    }
}

fn is_old(now: Timestamp, at: Timestamp) -> bool {
    u64::try_from(now.as_second() - at.as_second()).is_ok_and(|seconds| seconds > FRESH.as_secs())
}

fn age(now: Timestamp, at: Timestamp) -> String {
    let minutes = (now.as_second() - at.as_second()).max(0) / 60;
    match minutes {
        ..120 => format!("{minutes} minutes"),
        120..2880 => format!("{} hours", minutes / 60),
        _ => format!("{} days", minutes / 1440),
    }
}

const S3_FIX: &str = "set `s3` in the cluster file";

pub(super) const ETCD_S3: Row = Row {
    level: Level::Refuse,
    why: "snapshots that are meant to be uploaded and are not are lost with the host",
    source: "docs.rke2.io/datastore/backup_restore (S3); k3s#13087",
    unwaivable: None,
    judge: |evidence| Box::pin(etcd_s3(evidence)),
};

/// The seed's guard, word for word, with what was seen.
async fn etcd_s3(evidence: &Evidence<'_>) -> Result<Seen, Failure> {
    let world = evidence.world;
    let servers = evidence.servers().await;
    let uploading: Vec<&str> =
        servers.iter().filter(|(_, survey)| survey.etcd_s3).map(|(host, _)| host.name.as_str()).collect();
    let named = world.cluster().s3.as_ref().is_some_and(|s3| !s3.bucket.trim().is_empty());
    let enabled = !uploading.is_empty() || world.cluster().s3.is_some();
    let mut seen = Seen::well(if enabled { "s3 is set" } else { "no upload is configured" });
    if enabled && !(named && world.bucket().is_some()) {
        let by = if uploading.is_empty() { "the cluster file".to_owned() } else { uploading.join(", ") };
        let what = "etcd_backup.enabled=true requires s3_bucket, s3_access_key, and s3_secret_key to be set.";
        seen.refuse(format!("{what} (enabled by {by}; set `s3` in the cluster file)"), S3_FIX);
    }
    Ok(seen)
}

pub(super) const VELERO_S3: Row = Row {
    level: Level::Refuse,
    why: "Velero keeps nothing without a bucket",
    source: "velero.io/docs/main/locations",
    unwaivable: None,
    judge: |evidence| Box::pin(async { Ok(velero_s3(evidence.world)) }),
};

/// The seed's guard, word for word.
fn velero_s3(world: &World) -> Seen {
    let cluster = world.cluster();
    let Some(velero) = &cluster.velero else { return Seen::well("no velero") };
    let own = velero.bucket.as_ref().is_some_and(|bucket| !bucket.trim().is_empty());
    let shared = cluster.s3.as_ref().is_some_and(|s3| !s3.bucket.trim().is_empty());
    let mut seen = Seen::well("s3 is set");
    if !(shared || own && cluster.s3.is_some()) {
        let what = "velero.enabled=true requires S3 credentials. Set them in velero.s3_* or \
                    cluster_configuration.etcd_backup.s3_*. (here: `s3` of the cluster file)";
        seen.refuse(what, S3_FIX);
    }
    seen
}

pub(super) const VELERO_CSI: Row = Row {
    level: Level::Refuse,
    why: "a volume that no CSI driver made is not in a backup",
    source: "velero.io/docs/main/csi",
    unwaivable: None,
    judge: |evidence| Box::pin(async { Ok(velero_csi(evidence.world)) }),
};

/// The seed's guard, word for word.
fn velero_csi(world: &World) -> Seen {
    let mut seen = Seen::well("a CSI driver provisions the volumes");
    match &world.cluster().velero {
        None => seen.well = "no velero".to_owned(),
        Some(velero) if velero.csi => {}
        Some(_) => {
            let what = "Velero backs up PVCs provisioned by CSI. Set cluster_configuration.hcloud_csi.preinstall=true \
                        when velero.enabled=true. (here: `velero.csi`)";
            seen.refuse(what, "install a CSI driver and set `velero: Some((csi: true))` in the cluster file");
        }
    }
    seen
}
