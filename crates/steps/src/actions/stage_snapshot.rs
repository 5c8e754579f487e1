//! StageSnapshot: an uncompressed, sound copy of the snapshot is staged on the host.

use async_trait::async_trait;
use rke2flow_engine::action::{ActionInfo, Applied, Context, Failure, Place, Probe};
use rke2flow_engine::value::Facts;
use rke2flow_engine::value::{FactSpec, Param, ValueType};
use serde::{Deserialize, Serialize};

use crate::actions::{Goal, World, host_of, info, known};
use crate::command::Change;

/// Goal: an uncompressed, sound copy of the snapshot is staged on the host.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StageSnapshot {
    /// The snapshot's path on this host.
    pub file: Param<String>,
    /// Its SHA-256 as it is.
    pub sha256: Param<String>,
}

#[async_trait]
impl Goal for StageSnapshot {
    const INFO: ActionInfo = ActionInfo {
        facts: &[
            FactSpec { name: "staged_path", kind: ValueType::Text },
            FactSpec { name: "staged_sha256", kind: ValueType::Text },
        ],
        ..info("StageSnapshot", "an uncompressed, sound copy of the snapshot is staged on the host", Place::Host, 10)
    };

    async fn probe(&self, world: &World, context: &Context) -> Result<Probe, Failure> {
        let to = self.to(world, context)?;
        let files = world.hosts().files(host_of(context)?, vec![to.clone()]).await?;
        let Some(copy) = files.iter().find(|file| file.path == to) else {
            return Ok(Probe::pending("the snapshot is not staged"));
        };
        if !copy.trailer {
            return Ok(Probe::pending("the staged copy is damaged: its checksum does not fit"));
        }
        if !is_zip(known(&self.file)?) && copy.sha256 != *known(&self.sha256)? {
            return Ok(Probe::pending("the staged copy is another snapshot"));
        }
        Ok(Probe::Satisfied(Facts::from([
            ("staged_path".to_owned(), to.into()),
            ("staged_sha256".to_owned(), copy.sha256.clone().into()),
        ])))
    }

    async fn apply(&self, world: &World, context: &Context) -> Result<Applied, Failure> {
        let (file, sha256) = (known(&self.file)?.clone(), known(&self.sha256)?.clone());
        let host = host_of(context)?;
        let source = world.hosts().files(host, vec![file.clone()]).await?;
        match source.iter().find(|found| found.path == file) {
            None => {
                let what = format!("the snapshot {file} is not on {host}");
                return Err(Failure::permanent(what).next("copy it there, or choose the server that has it as `init`"));
            }
            Some(found) if found.sha256 != sha256 => {
                let what = format!("the snapshot {file} on {host} is not the one that was recorded");
                let observed = format!("SHA-256 {}, recorded {sha256}", found.sha256);
                return Err(Failure::permanent(what).observed(observed));
            }
            Some(_) => {}
        }
        let to = self.to(world, context)?;
        world.order(context, Change::StageSnapshot { file, sha256, to }).await
    }
}

impl StageSnapshot {
    /// Uncompressed, because restoring a `.zip` fails in some releases (k3s#14526).
    fn to(&self, world: &World, context: &Context) -> Result<String, Failure> {
        let file = known(&self.file)?;
        let name = file.rsplit('/').next().unwrap_or(file);
        let name = name.strip_suffix(".zip").unwrap_or(name);
        Ok(format!("{}/{name}", world.access().paths.staged(&context.run)))
    }
}

fn is_zip(file: &str) -> bool {
    file.ends_with(".zip")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actions::testing::{Scene, file};

    const SOURCE: &str = "/var/lib/rancher/rke2/server/db/snapshots/rke2flow-x-server-0-1";

    fn stage(sha256: &str) -> StageSnapshot {
        StageSnapshot { file: Param::Known(SOURCE.to_owned()), sha256: Param::Known(sha256.to_owned()) }
    }

    fn scene() -> Scene {
        let scene = Scene::new();
        scene.change(|state| state.hosts.get_mut("server-0").unwrap().files.push(file(SOURCE, "abc")));
        scene
    }

    #[tokio::test(start_paused = true)]
    async fn staging_is_idempotent() {
        let facts = scene().on("server-0", stage("abc")).idempotent().await;
        assert_eq!(facts["staged_sha256"], "abc");
        assert_eq!(facts["staged_path"], "/var/lib/rke2flow/staged/261122-0300-k7q2/rke2flow-x-server-0-1");
    }

    #[tokio::test(start_paused = true)]
    async fn another_or_a_missing_file_is_not_staged() {
        let scene = scene();
        assert!(
            scene
                .on("server-0", stage("other"))
                .failure_of_apply()
                .await
                .what
                .contains("not the one that was recorded")
        );
        assert!(scene.on("server-1", stage("abc")).failure_of_apply().await.what.contains("is not on server-1"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_damaged_copy_is_staged_again() {
        let scene = scene();
        let bench = scene.on("server-0", stage("abc"));
        bench.apply().await;
        scene.change(|state| state.hosts.get_mut("server-0").unwrap().files[1].trailer = false);
        assert!(bench.pending().await.contains("damaged"));
    }
}
