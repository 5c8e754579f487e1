//! FetchSnapshot: the chosen snapshot is on this host.

use async_trait::async_trait;
use rke2flow_engine::action::{ActionInfo, Applied, Context, Failure, Place, Probe};
use rke2flow_engine::value::Facts;
use rke2flow_engine::value::{FactSpec, Param, ValueType};
use serde::{Deserialize, Serialize};

use crate::actions::bucket_keys::Folder;
use crate::actions::save_snapshot::is_sound;
use crate::actions::{Goal, World, host_of, info, known};
use crate::answer::FileInfo;
use crate::command::Change;
use crate::transfer::Grant;

/// Goal: the chosen snapshot is on this host, as it was recorded. What is only in the bucket is fetched from there.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FetchSnapshot {
    /// Where it is, or goes.
    pub path: Param<String>,
    /// Its size in bytes.
    pub size: Param<i64>,
    /// Its SHA-256; empty: not known, and its own checksum must do.
    #[serde(default)]
    pub sha256: Param<String>,
    /// Its key in the bucket; empty: it is not fetched.
    #[serde(default)]
    pub s3_key: Param<String>,
}

#[async_trait]
impl Goal for FetchSnapshot {
    const INFO: ActionInfo = ActionInfo {
        facts: &[FactSpec { name: "path", kind: ValueType::Text }, FactSpec { name: "sha256", kind: ValueType::Text }],
        ..info("FetchSnapshot", "the chosen snapshot is on this host", Place::Host, 20)
    };

    async fn probe(&self, world: &World, context: &Context) -> Result<Probe, Failure> {
        let path = known(&self.path)?;
        let files = world.hosts().files(host_of(context)?, vec![path.clone()]).await?;
        let Some(file) = files.iter().find(|file| file.path == *path) else {
            return Ok(Probe::Pending(format!("{path} is not here")));
        };
        if let Some(why) = self.differs(file)? {
            return Ok(Probe::Pending(why));
        }
        Ok(Probe::Satisfied(Facts::from([
            ("path".to_owned(), path.clone().into()),
            ("sha256".to_owned(), file.sha256.clone().into()),
        ])))
    }

    async fn apply(&self, world: &World, context: &Context) -> Result<Applied, Failure> {
        let (to, key, host) = (known(&self.path)?.clone(), known(&self.s3_key)?, host_of(context)?);
        let Some(folder) = Folder::of(world).filter(|_| !key.is_empty()) else {
            let what = format!("the snapshot {to} is not on {host} as it was recorded, and no bucket has it");
            return Err(Failure::permanent(what).next("copy it there, or choose the server that has it as `init`"));
        };
        let request = folder.presign(world, key, &Grant::Get).await?;
        let (size, sha256) = (self.bytes()?, known(&self.sha256)?.clone());
        world.order(context, Change::FetchSnapshot { to, size, sha256, request }).await
    }
}

impl FetchSnapshot {
    fn differs(&self, file: &FileInfo) -> Result<Option<String>, Failure> {
        let (path, size, sha256) = (&file.path, self.bytes()?, known(&self.sha256)?);
        Ok(match () {
            () if file.size != size => Some(format!("{path} has {} bytes, expected {size}", file.size)),
            () if !sha256.is_empty() && file.sha256 != *sha256 => Some(format!("{path} is another snapshot")),
            () if !is_sound(file) => Some(format!("{path} is damaged: its checksum does not fit")),
            () => None,
        })
    }

    fn bytes(&self) -> Result<u64, Failure> {
        let size = *known(&self.size)?;
        u64::try_from(size).map_err(|_| Failure::permanent(format!("{size} is no size of a file")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actions::testing::{Scene, file};

    const PATH: &str = "/var/lib/rke2flow/snapshots/etcd-snapshot-server-0-1795310000";

    fn fetch(sha256: &str, s3_key: &str) -> FetchSnapshot {
        FetchSnapshot {
            path: Param::Known(PATH.to_owned()),
            size: Param::Known(544),
            sha256: Param::Known(sha256.to_owned()),
            s3_key: Param::Known(s3_key.to_owned()),
        }
    }

    fn scene() -> Scene {
        let scene = Scene::new();
        let key = "prod/etcd-snapshot-server-0-1795310000".to_owned();
        scene.change(|state| state.bucket.insert(key, vec![0; 544]));
        scene
    }

    #[tokio::test(start_paused = true)]
    async fn fetching_is_idempotent() {
        let bench = scene().on("server-0", fetch("", "prod/etcd-snapshot-server-0-1795310000"));
        assert_eq!(bench.idempotent().await["path"], PATH);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_here_is_not_fetched_and_what_differs_is_not_taken() {
        let scene = Scene::new();
        scene.change(|state| state.hosts.get_mut("server-0").unwrap().files.push(file(PATH, "abc")));
        assert_eq!(scene.on("server-0", fetch("abc", "")).satisfied().await["sha256"], "abc");
        assert!(scene.on("server-0", fetch("other", "")).pending().await.contains("another snapshot"));
        scene.change(|state| state.hosts.get_mut("server-0").unwrap().files[0].size = 1);
        assert!(scene.on("server-0", fetch("abc", "")).pending().await.contains("1 bytes, expected 544"));
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_key_a_missing_file_is_told() {
        let failure = Scene::new().on("server-1", fetch("abc", "")).failure_of_apply().await;
        assert!(failure.what.contains("is not on server-1"), "{failure}");
    }
}
