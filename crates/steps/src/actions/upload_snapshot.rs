//! UploadSnapshot: the bucket has the snapshot of this run, whole.

use async_trait::async_trait;
use rke2flow_engine::action::{ActionInfo, Applied, Context, Failure, Place, Probe};
use rke2flow_engine::id::HostName;
use rke2flow_engine::value::Facts;
use rke2flow_engine::value::{FactSpec, ValueType};
use serde::{Deserialize, Serialize};

use crate::actions::bucket_keys::{CLUSTER_ID, Folder, NODE_NAME, TOKEN_HASH};
use crate::actions::save_snapshot::{self, base_name, is_own, is_sound};
use crate::actions::{Goal, World, host_of, info};
use crate::answer::FileInfo;
use crate::command::Change;
use crate::kinds::AnyKind;
use crate::transfer::{Grant, PUT_BYTES_MAX};

/// Goal: the bucket has the snapshot of this run, whole. Satisfied at once when the cluster has no bucket, or when RKE2
/// has uploaded it by itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UploadSnapshot {}

#[async_trait]
impl Goal for UploadSnapshot {
    const INFO: ActionInfo = ActionInfo {
        facts: &[FactSpec { name: "s3_key", kind: ValueType::Text }],
        ..info("UploadSnapshot", "the bucket has the snapshot of this run, whole", Place::Host, 30)
    };

    async fn probe(&self, world: &World, context: &Context) -> Result<Probe, Failure> {
        let Some(folder) = Folder::of(world) else { return Ok(satisfied(String::new())) };
        let host = host_of(context)?;
        let Some(file) = own(world, context, host).await? else {
            return Ok(Probe::pending("there is no sound snapshot of this run to upload"));
        };
        match key_in_bucket(&folder, host, &file).await? {
            Ok(key) => Ok(satisfied(key)),
            Err(why) => Ok(Probe::Pending(why)),
        }
    }

    /// RKE2 ends with exit 0 after an upload that failed, and never tries it again (k3s#13087): this does.
    async fn apply(&self, world: &World, context: &Context) -> Result<Applied, Failure> {
        let host = host_of(context)?;
        let (Some(folder), Some(file)) = (Folder::of(world), own(world, context, host).await?) else {
            return Err(Failure::permanent("there is nothing to upload, or no bucket"));
        };
        if file.size > PUT_BYTES_MAX {
            let what = format!("{} is too large to be uploaded in one request", file.path);
            let observed = format!("{} bytes, the limit of S3 is {PUT_BYTES_MAX}", file.size);
            let next = format!("upload it by other means as {}, then retry", folder.snapshot(base_name(&file.path)));
            return Err(Failure::permanent(what).observed(observed).next(next));
        }
        let metadata = metadata(world, host, &file).await?;
        let key = folder.snapshot(base_name(&file.path));
        let request = folder.presign(world, &key, &Grant::Put(metadata)).await?;
        let change = Change::UploadSnapshot { file: file.path.clone(), sha256: file.sha256.clone(), request };
        world.order(context, change).await
    }
}

/// The key of a snapshot that the bucket has whole; otherwise what is wrong there.
pub(crate) async fn key_in_bucket(
    folder: &Folder<'_>,
    host: &HostName,
    file: &FileInfo,
) -> Result<Result<String, String>, Failure> {
    let name = base_name(&file.path);
    let key = folder.snapshot(name);
    Ok(match folder.head(name).await? {
        Some(object) if object.size == file.size => Ok(key),
        Some(object) => Err(format!("{key} has {} bytes in the bucket, {} on {host}", object.size, file.size)),
        None => Err(format!("{key} is not in the bucket")),
    })
}

async fn own(world: &World, context: &Context, host: &HostName) -> Result<Option<FileInfo>, Failure> {
    let found = world.hosts().snapshots(host, &format!("{}-", save_snapshot::name(context))).await?;
    Ok(found.into_iter().find(|file| is_own(world, file) && is_sound(file)))
}

/// As the distribution marks its own uploads, and with the digest, which it leaves out.
async fn metadata(world: &World, host: &HostName, file: &FileInfo) -> Result<Vec<(String, String)>, Failure> {
    let system = world.objects().get::<AnyKind>("/api/v1/namespaces/kube-system").await?;
    let mark = |name: &str| world.distribution().upload_mark(name);
    let marks = [
        (mark(CLUSTER_ID), system.map(|system| system.metadata.uid).unwrap_or_default()),
        (mark(NODE_NAME), host.to_string()),
        (mark(TOKEN_HASH), world.hosts().identity(host).await?.token_hash),
        (crate::access::s3::SHA256_KEY.to_owned(), file.sha256.clone()),
    ];
    let known = marks.into_iter().filter(|(_, value)| !value.is_empty());
    Ok(known.collect())
}

fn satisfied(key: String) -> Probe {
    Probe::Satisfied(Facts::from([("s3_key".to_owned(), key.into())]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actions::save_snapshot::SaveSnapshot;
    use crate::actions::testing::Scene;

    const KEY: &str = "prod/rke2flow-261122-0300-k7q2-server-0-1795316400";

    async fn saved(scene: &Scene, upload_fails: bool) {
        scene.change(|state| state.upload_fails = upload_fails);
        scene.on("server-0", SaveSnapshot {}).apply().await;
        scene.change(|state| state.changes.clear());
    }

    #[tokio::test(start_paused = true)]
    async fn what_rke2_uploaded_is_not_uploaded_again() {
        let scene = Scene::new();
        saved(&scene, false).await;
        assert_eq!(scene.on("server-0", UploadSnapshot {}).satisfied().await["s3_key"], KEY);
    }

    #[tokio::test(start_paused = true)]
    async fn an_upload_that_rke2_lost_is_made_up_for_with_its_marks() {
        let scene = Scene::new();
        saved(&scene, true).await;
        let facts = scene.on("server-0", UploadSnapshot {}).idempotent().await;
        assert_eq!(facts["s3_key"], KEY);
        let marks = scene.change(|state| state.marks_of(KEY));
        assert_eq!(marks["rke2-token-hash"], "0123456789ab");
        assert_eq!((marks["rke2-node-name"].as_str(), marks["sha256"].as_str()), ("server-0", "snapshot"));
        assert!(scene.change(|state| !state.changes.join(" ").contains("5ec4e7")), "the signature is shown");
    }

    #[tokio::test(start_paused = true)]
    async fn a_short_upload_is_none() {
        let scene = Scene::new();
        saved(&scene, false).await;
        scene.change(|state| state.bucket.values_mut().for_each(|bytes| bytes.truncate(3)));
        let bench = scene.on("server-0", UploadSnapshot {});
        assert!(bench.pending().await.contains("has 3 bytes in the bucket, 544 on server-0"));
        bench.apply().await;
        bench.satisfied().await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_snapshot_that_no_single_request_can_carry_is_refused() {
        let scene = Scene::new();
        saved(&scene, true).await;
        scene.change(|state| state.hosts.get_mut("server-0").unwrap().files[0].size = PUT_BYTES_MAX + 1);
        let failure = scene.on("server-0", UploadSnapshot {}).failure_of_apply().await;
        assert!(failure.what.contains("too large"), "{failure}");
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_bucket_there_is_nothing_to_do() {
        assert_eq!(Scene::with("").on("server-0", UploadSnapshot {}).satisfied().await["s3_key"], "");
    }
}
