//! Where the snapshot that is restored comes from: a file of the restored server, or the bucket.

use rke2flow_engine::action::Failure;
use rke2flow_engine::id::HostName;

use crate::access::s3::SHA256_KEY;
use crate::actions::World;
use crate::actions::bucket_keys::{CLUSTER_ID, Folder, TOKEN_HASH};
use crate::actions::save_snapshot::{base_name, is_sound, second_of, taken_at};
use crate::actions::snapshot_record::records;
use crate::kinds::AnyKind;
use crate::point::RecoveryPoint;
use crate::ports::ObjectInfo;

/// Where a snapshot may be taken from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum From {
    /// The restored server's own file, else the bucket.
    Auto,
    /// Only a file of the restored server.
    Local,
    /// Only the bucket.
    S3,
}

impl From {
    /// Reads `auto`, `local` or `s3`.
    pub fn read(text: &str) -> Result<Self, Failure> {
        match text {
            "" | "auto" => Ok(From::Auto),
            "local" => Ok(From::Local),
            "s3" => Ok(From::S3),
            other => Err(Failure::permanent(format!("`from` is `{other}`: expected auto, local or s3"))),
        }
    }
}

/// The snapshot as it will be on the restored server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Source {
    /// The host that has it now; `s3` for the bucket.
    pub host: String,
    /// Where it is, or goes.
    pub path: String,
    /// Bytes.
    pub size: u64,
    /// SHA-256; empty: not known before it has been fetched.
    pub sha256: String,
    /// Its key in the bucket; empty: it is not fetched from there.
    pub s3_key: String,
    /// Hash of the token that it was taken under; empty: not known.
    pub token_hash: String,
    /// When it was taken.
    pub taken_at: jiff::Timestamp,
}

/// A snapshot of the point for this server; otherwise everything that is wrong with each.
pub(super) async fn of_point(
    world: &World,
    point: &RecoveryPoint,
    server: &HostName,
    from: From,
) -> Result<Result<Source, String>, Failure> {
    let mut damage = Vec::new();
    if from != From::S3 {
        match local(world, point, server).await? {
            Ok(source) => return Ok(Ok(source)),
            Err(why) => damage.push(why),
        }
    }
    if from != From::Local {
        match in_bucket(world, point).await? {
            Ok(source) => return Ok(Ok(source)),
            Err(why) => damage.push(why),
        }
    }
    let others = point.snapshots.iter().filter(|snapshot| snapshot.host != server.as_str());
    let others: Vec<String> = others.map(|snapshot| format!("{} on {}", snapshot.path, snapshot.host)).collect();
    if !others.is_empty() {
        damage.push(format!("recorded elsewhere: {}", others.join(", ")));
    }
    Ok(Err(damage.join("; ")))
}

async fn local(world: &World, point: &RecoveryPoint, server: &HostName) -> Result<Result<Source, String>, Failure> {
    let own = point.snapshots.iter().filter(|snapshot| snapshot.host == server.as_str());
    let mut damage = Vec::new();
    for snapshot in own {
        let files = world.hosts().files(server, vec![snapshot.path.clone()]).await?;
        match files.iter().find(|file| file.path == snapshot.path) {
            Some(file) if file.sha256 == snapshot.sha256 && is_sound(file) => {
                return Ok(Ok(Source {
                    host: server.to_string(),
                    path: file.path.clone(),
                    size: file.size,
                    sha256: file.sha256.clone(),
                    s3_key: String::new(),
                    token_hash: point.token_hash.clone(),
                    taken_at: taken_at(file),
                }));
            }
            Some(_) => damage.push(format!("{} on {server} is damaged or another file", snapshot.path)),
            None => damage.push(format!("{} is not on {server} any more", snapshot.path)),
        }
    }
    Ok(Err(if damage.is_empty() { format!("it names no snapshot of {server}") } else { damage.join("; ") }))
}

async fn in_bucket(world: &World, point: &RecoveryPoint) -> Result<Result<Source, String>, Failure> {
    let Some(folder) = Folder::of(world) else { return Ok(Err("the cluster file names no bucket".to_owned())) };
    let mut damage = Vec::new();
    for snapshot in point.snapshots.iter().filter(|snapshot| !snapshot.s3_key.is_empty()) {
        // The point's own words: another folder's snapshot of the same name is another cluster's.
        match folder.bucket().head(&snapshot.s3_key).await? {
            Some(object) if object.size != snapshot.size => {
                damage.push(format!("{} has {} bytes, recorded {}", object.key, object.size, snapshot.size));
            }
            Some(object) => {
                if let Some(sha256) = object.metadata.get(SHA256_KEY).filter(|sha256| **sha256 != snapshot.sha256) {
                    damage.push(format!("{} says that its SHA-256 is {sha256}", object.key));
                    continue;
                }
                let source = fetched(world, &snapshot.s3_key, &object, snapshot.sha256.clone(), point.taken_at);
                return Ok(Ok(Source { token_hash: point.token_hash.clone(), ..source }));
            }
            None => damage.push(format!("{} is not in the bucket any more", snapshot.s3_key)),
        }
    }
    Ok(Err(if damage.is_empty() { "it names no snapshot in the bucket".to_owned() } else { damage.join("; ") }))
}

fn fetched(world: &World, key: &str, object: &ObjectInfo, sha256: String, taken_at: jiff::Timestamp) -> Source {
    Source {
        host: "s3".to_owned(),
        path: format!("{}/{}", world.access().paths.kept_snapshots(), base_name(key)),
        size: object.size,
        sha256,
        s3_key: key.to_owned(),
        token_hash: object.metadata.get(&world.distribution().upload_mark(TOKEN_HASH)).cloned().unwrap_or_default(),
        taken_at,
    }
}

/// A snapshot that no recovery point names, such as a scheduled one; `None`: there is none of this name here.
pub(super) async fn of_file(
    world: &World,
    wanted: &str,
    server: &HostName,
    from: From,
) -> Result<Option<Result<Source, String>>, Failure> {
    let name = base_name(wanted);
    if from != From::S3 {
        let files = world.hosts().snapshots(server, name).await?;
        let named = |path: &str| if wanted.contains('/') { path == wanted } else { base_name(path) == name };
        if let Some(file) = files.iter().find(|file| named(&file.path)) {
            if !is_sound(file) {
                return Ok(Some(Err(format!("{} on {server} is damaged: its checksum does not fit", file.path))));
            }
            return Ok(Some(Ok(Source {
                host: server.to_string(),
                path: file.path.clone(),
                size: file.size,
                sha256: file.sha256.clone(),
                s3_key: String::new(),
                token_hash: recorded_hash(world, name).await,
                taken_at: taken_at(file),
            })));
        }
    }
    match Folder::of(world) {
        Some(folder) if from != From::Local => of_object(world, &folder, name).await,
        _ => Ok(None),
    }
}

async fn of_object(world: &World, folder: &Folder<'_>, name: &str) -> Result<Option<Result<Source, String>>, Failure> {
    let Some(object) = folder.head(name).await? else { return Ok(None) };
    let Some(taken_at) = second_of(name) else {
        return Ok(Some(Err(format!("{} does not end in the second in which it was taken", object.key))));
    };
    if object.size == 0 {
        return Ok(Some(Err(format!("{} is empty", object.key))));
    }
    // Only while the API answers: another cluster's snapshot under our folder is not ours.
    let system = world.objects().get::<AnyKind>("/api/v1/namespaces/kube-system").await;
    let theirs = object.metadata.get(&world.distribution().upload_mark(CLUSTER_ID));
    let ours = system.ok().flatten().map(|system| system.metadata.uid);
    if let (Some(ours), Some(theirs)) = (ours, theirs)
        && !ours.is_empty()
        && ours != *theirs
    {
        return Ok(Some(Err(format!("{} is of another cluster ({theirs}; this one is {ours})", object.key))));
    }
    let sha256 = object.metadata.get(SHA256_KEY).cloned().unwrap_or_default();
    let mut source = fetched(world, &folder.snapshot(name), &object, sha256, taken_at);
    if source.token_hash.is_empty() {
        source.token_hash = recorded_hash(world, name).await;
    }
    Ok(Some(Ok(source)))
}

/// The hash that RKE2 recorded with a snapshot; empty when the API does not answer or does not say.
async fn recorded_hash(world: &World, name: &str) -> String {
    let records = records(world).await.unwrap_or_default();
    let hashes = records.into_iter().filter(|record| record.file == name).map(|record| record.token_hash);
    hashes.into_iter().find(|hash| !hash.is_empty()).unwrap_or_default()
}
