//! SaveSnapshot: an etcd snapshot of this run exists on the server, is sound, and is in the bucket when there is one.

use async_trait::async_trait;
use rke2flow_engine::action::{ActionInfo, Applied, Context, Failure, Place, Probe};
use rke2flow_engine::id::HostName;
use rke2flow_engine::value::Facts;
use rke2flow_engine::value::{FactSpec, ValueType};
use serde::{Deserialize, Serialize};

use crate::actions::{Goal, World, host_of, info, stamp};
use crate::answer::FileInfo;
use crate::command::Change;

/// Goal: an etcd snapshot of this run exists on the server, is sound, and is in the bucket when there is one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SaveSnapshot {}

#[async_trait]
impl Goal for SaveSnapshot {
    const INFO: ActionInfo = ActionInfo {
        facts: &[
            FactSpec { name: "host", kind: ValueType::Text },
            FactSpec { name: "path", kind: ValueType::Text },
            FactSpec { name: "file", kind: ValueType::Text },
            FactSpec { name: "size", kind: ValueType::Number },
            FactSpec { name: "sha256", kind: ValueType::Text },
            FactSpec { name: "s3_key", kind: ValueType::Text },
            FactSpec { name: "taken_at", kind: ValueType::Time },
        ],
        ..info(
            "SaveSnapshot",
            "an etcd snapshot of this run exists on the server, is sound, and is in the bucket when there is one",
            Place::Host,
            30,
        )
    };

    async fn probe(&self, world: &World, context: &Context) -> Result<Probe, Failure> {
        let host = host_of(context)?;
        let found = world.hosts().snapshots(host, &format!("{}-", name(context))).await?;
        let mut why = "there is no snapshot of this run".to_owned();
        for file in &found {
            if !is_sound(file) {
                why = format!("{} is damaged: its checksum does not fit", file.path);
                continue;
            }
            match key_in_bucket(world, host, file).await? {
                Ok(s3_key) => return Ok(Probe::Satisfied(facts(host.as_str(), file, s3_key))),
                Err(missing) => why = missing,
            }
        }
        Ok(Probe::Pending(why))
    }

    async fn apply(&self, world: &World, context: &Context) -> Result<Applied, Failure> {
        let applied = world.order(context, Change::SaveSnapshot { name: name(context) }).await?;
        // Exit 0 proves nothing (K3S pkg/etcd/snapshot.go): what it did not do is tried again at once.
        match self.probe(world, context).await? {
            Probe::Pending(why) => {
                let what = "the snapshot was not made, although its command ended well";
                Err(Failure::transient(what).observed(why))
            }
            _ => Ok(applied),
        }
    }
}

/// Unique per run, and no beginning of another run's: retention in the bucket goes by this prefix (K3S pkg/etcd/s3/s3.go).
pub(crate) fn name(context: &Context) -> String {
    format!("rke2flow-{}", context.run)
}

/// Whether a snapshot's own checksum fits. Inside a zip that is only seen when it is staged.
pub(crate) fn is_sound(file: &FileInfo) -> bool {
    file.size > 0 && (file.trailer || file.path.ends_with(".zip"))
}

/// The snapshot's key in the bucket, empty when nothing uploads it; otherwise what is wrong there. RKE2 ends with
/// exit 0 after an upload that failed, and never tries it again (k3s#13087).
pub(crate) async fn key_in_bucket(
    world: &World,
    host: &HostName,
    file: &FileInfo,
) -> Result<Result<String, String>, Failure> {
    let (Some(bucket), Some(s3)) = (world.bucket(), &world.cluster().s3) else { return Ok(Ok(String::new())) };
    if !world.hosts().survey(host).await?.etcd_s3 {
        return Ok(Ok(String::new()));
    }
    let name = base_name(&file.path);
    let folder = s3.folder.trim_matches('/');
    let key = if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") };
    Ok(match bucket.head(&key).await? {
        Some(object) if object.size == file.size => Ok(key),
        Some(object) => Err(format!("{key} has {} bytes in the bucket, {} on {host}", object.size, file.size)),
        None => Err(format!("{key} is not in the bucket")),
    })
}

/// When a snapshot was taken: its name ends in that second (K3S pkg/etcd/snapshot.go).
pub(crate) fn taken_at(file: &FileInfo) -> jiff::Timestamp {
    let name = base_name(&file.path);
    let name = name.strip_suffix(".zip").unwrap_or(name);
    let second = name.rsplit('-').next().and_then(|digits| digits.parse().ok());
    stamp(second.unwrap_or(file.modified))
}

fn base_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

fn facts(host: &str, file: &FileInfo, s3_key: String) -> Facts {
    Facts::from([
        ("host".to_owned(), host.into()),
        ("path".to_owned(), file.path.clone().into()),
        ("file".to_owned(), base_name(&file.path).into()),
        ("size".to_owned(), file.size.into()),
        ("sha256".to_owned(), file.sha256.clone().into()),
        ("s3_key".to_owned(), s3_key.into()),
        ("taken_at".to_owned(), taken_at(file).to_string().into()),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actions::testing::Scene;

    #[tokio::test(start_paused = true)]
    async fn saving_is_idempotent_and_proved_by_the_file_and_the_bucket() {
        let facts = Scene::new().on("server-0", SaveSnapshot {}).idempotent().await;
        assert_eq!(facts["file"], "rke2flow-261122-0300-k7q2-server-0-1795316400");
        assert_eq!(facts["s3_key"], "prod/rke2flow-261122-0300-k7q2-server-0-1795316400");
        assert_eq!(facts["taken_at"], "2026-11-22T03:00:00Z");
    }

    #[tokio::test(start_paused = true)]
    async fn a_damaged_file_and_a_short_upload_are_no_snapshot() {
        let scene = Scene::new();
        let bench = scene.on("server-0", SaveSnapshot {});
        bench.apply().await;
        scene.change(|state| state.bucket.values_mut().for_each(Vec::clear));
        assert!(bench.pending().await.contains("has 0 bytes in the bucket"));
        scene.change(|state| state.bucket.clear());
        assert!(bench.pending().await.contains("is not in the bucket"));
        scene.change(|state| state.hosts.get_mut("server-0").unwrap().files[0].trailer = false);
        assert!(bench.pending().await.contains("is damaged"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_save_that_ends_well_without_a_file_is_a_failure_that_is_tried_again() {
        let scene = Scene::new();
        scene.change(|state| {
            drop(state.bucket.insert("prod/rke2flow-261122-0300-k7q2-server-0-1795316400".to_owned(), vec![]))
        });
        let failure = scene.on("server-0", SaveSnapshot {}).failure_of_apply().await;
        assert_eq!(failure.class, rke2flow_engine::action::FailureClass::Transient);
    }
}
