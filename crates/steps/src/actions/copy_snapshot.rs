//! CopySnapshot: this server keeps a snapshot of this run too.

use async_trait::async_trait;
use rke2flow_engine::action::{ActionInfo, Applied, Context, Failure, Place, Probe};
use rke2flow_engine::value::Facts;
use rke2flow_engine::value::{FactSpec, ValueType};
use serde::{Deserialize, Serialize};

use crate::actions::bucket_keys::Folder;
use crate::actions::save_snapshot::{self, base_name, is_own, is_sound};
use crate::actions::upload_snapshot::key_in_bucket;
use crate::actions::{Goal, World, host_of, info};
use crate::command::Change;
use crate::transfer::Grant;

/// Goal: this server keeps a snapshot of this run too. With a bucket it is fetched from there; without one the server
/// saves one of its own, which lies between the same two sentinels.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CopySnapshot {}

#[async_trait]
impl Goal for CopySnapshot {
    const INFO: ActionInfo = ActionInfo {
        facts: &[FactSpec { name: "path", kind: ValueType::Text }, FactSpec { name: "sha256", kind: ValueType::Text }],
        ..info("CopySnapshot", "this server keeps a snapshot of this run too", Place::Host, 20)
    };

    async fn probe(&self, world: &World, context: &Context) -> Result<Probe, Failure> {
        let found = world.hosts().snapshots_and_progress(host_of(context)?, &prefix(context)).await?;
        if let Some(file) = found.files.iter().find(|file| is_sound(file)) {
            return Ok(Probe::Satisfied(Facts::from([
                ("path".to_owned(), file.path.clone().into()),
                ("sha256".to_owned(), file.sha256.clone().into()),
            ])));
        }
        Ok(match (found.in_progress.first(), found.files.first()) {
            (Some(file), _) => Probe::InProgress(format!("{file} is being written")),
            (None, Some(file)) => Probe::Pending(format!("{} is damaged: its checksum does not fit", file.path)),
            (None, None) => Probe::pending("this server keeps no snapshot of this run"),
        })
    }

    async fn apply(&self, world: &World, context: &Context) -> Result<Applied, Failure> {
        let change = match Folder::of(world) {
            Some(folder) => fetch(world, context, &folder).await?,
            None => Change::SaveSnapshot { name: save_snapshot::name(context) },
        };
        let applied = world.order(context, change).await?;
        match self.probe(world, context).await? {
            Probe::Pending(why) => Err(Failure::transient("the snapshot was not copied").observed(why)),
            _ => Ok(applied),
        }
    }
}

/// The snapshot that a server saved and the bucket has: the others fetch that one.
async fn fetch(world: &World, context: &Context, folder: &Folder<'_>) -> Result<Change, Failure> {
    let mut missing = vec!["no server that answers has one".to_owned()];
    for server in world.servers() {
        let Ok(files) = world.hosts().snapshots(&server.name, &prefix(context)).await else { continue };
        for file in files.iter().filter(|file| is_own(world, file) && is_sound(file)) {
            match key_in_bucket(folder, &server.name, file).await? {
                Ok(key) => {
                    let to = format!("{}/{}", world.access().paths.kept_snapshots(), base_name(&file.path));
                    let request = folder.presign(world, &key, &Grant::Get).await?;
                    return Ok(Change::FetchSnapshot { to, size: file.size, sha256: file.sha256.clone(), request });
                }
                Err(why) => missing.push(why),
            }
        }
    }
    let why = missing.pop().unwrap_or_default();
    Err(Failure::transient("there is no snapshot of this run to copy").observed(why))
}

fn prefix(context: &Context) -> String {
    format!("{}-", save_snapshot::name(context))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actions::save_snapshot::SaveSnapshot;
    use crate::actions::testing::Scene;

    #[tokio::test(start_paused = true)]
    async fn with_a_bucket_the_very_same_file_is_fetched() {
        let scene = Scene::new();
        scene.on("server-0", SaveSnapshot {}).apply().await;
        let facts = scene.on("server-1", CopySnapshot {}).idempotent().await;
        assert_eq!(facts["path"], "/var/lib/rke2flow/snapshots/rke2flow-261122-0300-k7q2-server-0-1795316400");
        assert_eq!(facts["sha256"], "snapshot");
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_bucket_each_server_saves_its_own() {
        let scene = Scene::with("");
        scene.on("server-0", SaveSnapshot {}).apply().await;
        let facts = scene.on("server-1", CopySnapshot {}).idempotent().await;
        assert!(facts["path"].as_str().unwrap().ends_with("/rke2flow-261122-0300-k7q2-server-1-1795316400"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_damaged_copy_is_none() {
        let scene = Scene::new();
        scene.on("server-0", SaveSnapshot {}).apply().await;
        let bench = scene.on("server-1", CopySnapshot {});
        bench.apply().await;
        scene.change(|state| state.hosts.get_mut("server-1").unwrap().files[0].trailer = false);
        assert!(bench.pending().await.contains("is damaged"));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_not_in_the_bucket_cannot_be_fetched() {
        let scene = Scene::new();
        scene.change(|state| state.upload_fails = true);
        scene.on("server-0", SaveSnapshot {}).apply().await;
        assert!(scene.on("server-1", CopySnapshot {}).failure_of_apply().await.observed.contains("not in the bucket"));
    }
}
