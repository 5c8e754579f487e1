//! SaveSnapshot: an etcd snapshot of this run exists on the server and is sound, by its own checksum and by RKE2's word.

use async_trait::async_trait;
use rke2flow_engine::action::{ActionInfo, Applied, Context, Failure, Place, Probe};
use rke2flow_engine::value::Facts;
use rke2flow_engine::value::{FactSpec, ValueType};
use serde::{Deserialize, Serialize};

use crate::actions::snapshot_record::{Word, word_about};
use crate::actions::{Goal, World, host_of, info, stamp};
use crate::answer::FileInfo;
use crate::command::Change;

/// Goal: an etcd snapshot of this run exists on the server and is sound, by its own checksum and by RKE2's word.
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
            FactSpec { name: "taken_at", kind: ValueType::Time },
            FactSpec { name: "proof", kind: ValueType::Text },
        ],
        revision: 2,
        ..info(
            "SaveSnapshot",
            "an etcd snapshot of this run exists on the server and is sound, by its own checksum and by RKE2's word",
            Place::Host,
            30,
        )
    };

    async fn probe(&self, world: &World, context: &Context) -> Result<Probe, Failure> {
        let host = host_of(context)?;
        let found = world.hosts().snapshots_and_progress(host, &format!("{}-", name(context))).await?;
        let mut why = "there is no snapshot of this run".to_owned();
        for file in found.files.iter().filter(|file| is_own(world, file)) {
            if !is_sound(file) {
                why = format!("{} is damaged: its checksum does not fit", file.path);
                continue;
            }
            let proof = match word_about(world, host, file).await? {
                Word::Differs(found) => {
                    why = found;
                    continue;
                }
                Word::Fits(_) => "its own checksum and RKE2's record".to_owned(),
                Word::Silent(silence) => format!("its own checksum ({silence})"),
            };
            return Ok(Probe::Satisfied(facts(host.as_str(), file, proof)));
        }
        Ok(match found.in_progress.first() {
            Some(file) => Probe::InProgress(format!("{file} is being written")),
            None => Probe::Pending(why),
        })
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

/// Unique per run and round, and no beginning of another's: retention in the bucket goes by this prefix (K3S pkg/etcd/s3/s3.go).
pub(crate) fn name(context: &Context) -> String {
    format!("rke2flow-{}", context.round_id())
}

/// Whether a snapshot's own checksum fits. Inside a zip that is only seen when it is staged.
pub(crate) fn is_sound(file: &FileInfo) -> bool {
    file.size > 0 && (file.trailer || file.path.ends_with(".zip"))
}

/// Whether RKE2 saved it here, and it is not a copy.
pub(crate) fn is_own(world: &World, file: &FileInfo) -> bool {
    file.path.starts_with(&format!("{}/", world.access().paths.snapshots()))
}

/// When a snapshot was taken: its name ends in that second (K3S pkg/etcd/snapshot.go).
pub(crate) fn taken_at(file: &FileInfo) -> jiff::Timestamp {
    second_of(base_name(&file.path)).unwrap_or_else(|| stamp(file.modified))
}

/// The second in which a snapshot was taken, by its name.
pub(crate) fn second_of(name: &str) -> Option<jiff::Timestamp> {
    let name = name.strip_suffix(".zip").unwrap_or(name);
    name.rsplit('-').next().and_then(|digits| digits.parse().ok()).map(stamp)
}

/// A path's last part.
pub(crate) fn base_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

fn facts(host: &str, file: &FileInfo, proof: String) -> Facts {
    Facts::from([
        ("host".to_owned(), host.into()),
        ("path".to_owned(), file.path.clone().into()),
        ("file".to_owned(), base_name(&file.path).into()),
        ("size".to_owned(), file.size.into()),
        ("sha256".to_owned(), file.sha256.clone().into()),
        ("taken_at".to_owned(), taken_at(file).to_string().into()),
        ("proof".to_owned(), proof.into()),
    ])
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::actions::testing::Scene;

    const FILE: &str = "rke2flow-261122-0300-k7q2-server-0-1795316400";
    const RECORD: &str = "/apis/k3s.cattle.io/v1/etcdsnapshotfiles/local-1";

    fn record(size: &str, ready: bool) -> Value {
        json!({
            "spec": { "snapshotName": FILE, "nodeName": "server-0", "location": format!("file:///x/{FILE}") },
            "status": { "size": size, "readyToUse": ready, "error": { "message": "no space left" } },
        })
    }

    #[tokio::test(start_paused = true)]
    async fn saving_is_idempotent_and_tells_the_exact_file() {
        let facts = Scene::new().on("server-0", SaveSnapshot {}).idempotent().await;
        assert_eq!(facts["file"], FILE);
        assert_eq!(facts["path"], format!("/var/lib/rancher/rke2/server/db/snapshots/{FILE}"));
        assert_eq!(facts["taken_at"], "2026-11-22T03:00:00Z");
    }

    #[tokio::test(start_paused = true)]
    async fn a_damaged_file_is_no_snapshot() {
        let scene = Scene::new();
        let bench = scene.on("server-0", SaveSnapshot {});
        bench.apply().await;
        scene.change(|state| state.hosts.get_mut("server-0").unwrap().files[0].trailer = false);
        assert!(bench.pending().await.contains("is damaged"));
        scene.change(|state| state.hosts.get_mut("server-0").unwrap().files[0].size = 0);
        assert!(bench.pending().await.contains("is damaged"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_record_of_rke2_that_says_otherwise_is_believed() {
        let scene = Scene::new();
        let bench = scene.on("server-0", SaveSnapshot {});
        bench.apply().await;
        scene.put(RECORD, record("544", false));
        assert!(bench.pending().await.contains("is not ready: no space left"));
        scene.put(RECORD, record("4", true));
        assert!(bench.pending().await.contains("has 4 bytes, it has 544"));
        scene.put(RECORD, record("544", true));
        assert_eq!(bench.satisfied().await["proof"], "its own checksum and RKE2's record");
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_record_the_hosts_own_list_is_asked() {
        let scene = Scene::new();
        let bench = scene.on("server-0", SaveSnapshot {});
        bench.apply().await;
        let list = |value: Value| scene.change(|state| state.hosts.get_mut("server-0").unwrap().listed = value);
        list(json!([]));
        assert!(bench.pending().await.contains("does not list"));
        list(json!([{ "name": FILE, "nodeName": "server-0", "size": 544, "status": "successful" }]));
        assert_eq!(bench.satisfied().await["proof"], "its own checksum and RKE2's record");
    }

    #[tokio::test(start_paused = true)]
    async fn a_snapshot_that_is_being_written_is_waited_for() {
        let scene = Scene::new();
        scene.change(|state| state.hosts.get_mut("server-0").unwrap().in_progress = vec![FILE.to_owned()]);
        assert!(matches!(scene.on("server-0", SaveSnapshot {}).probe().await, Probe::InProgress(_)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_save_that_ends_well_without_a_file_is_a_failure_that_is_tried_again() {
        let scene = Scene::new();
        scene.change(|state| state.save_fails = true);
        let failure = scene.on("server-0", SaveSnapshot {}).failure_of_apply().await;
        assert_eq!(failure.class, rke2flow_engine::action::FailureClass::Transient);
    }
}
