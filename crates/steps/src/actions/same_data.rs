//! SameData: the cluster serves the data that it had, and none that a restore has brought.

use async_trait::async_trait;
use rke2flow_engine::action::{ActionInfo, Context, Failure, Place, Probe};
use rke2flow_engine::value::Param;
use serde::{Deserialize, Serialize};

use crate::actions::{Goal, World, info, known};

/// Goal: the cluster serves the data that it had, and none that a restore has brought.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SameData {
    /// What `DataRevision` found before: etcd's revision never falls but by a restore, which takes the snapshot's
    /// (etcd docs op-guide/recovery). Empty: the API did not answer then.
    pub revision: Param<String>,
}

#[async_trait]
impl Goal for SameData {
    const INFO: ActionInfo = ActionInfo {
        changes: false,
        ..info(
            "SameData",
            "the cluster serves the data that it had, and none that a restore has brought",
            Place::Operator,
            5,
        )
    };

    async fn probe(&self, world: &World, context: &Context) -> Result<Probe, Failure> {
        for (server, survey) in world.surveys(world.servers()).await {
            let reset = survey.ok().and_then(|survey| survey.reset);
            if reset.is_some_and(|reset| reset.run == context.run.as_str()) {
                return Ok(Probe::pending(format!("{} still has what the cluster-reset made", server.name)));
            }
        }
        let now = world.objects().revision().await?;
        let before = known(&self.revision)?;
        if before.is_empty() {
            return Ok(Probe::satisfied());
        }
        let before: u64 =
            before.parse().map_err(|_| Failure::permanent(format!("`{before}` is no revision of a datastore")))?;
        if now < before {
            return Ok(Probe::Refused {
                expected: format!("a datastore of revision {before} or later, as it was before"),
                found: format!("revision {now}: older data"),
            });
        }
        Ok(Probe::satisfied())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actions::testing::{RUN, Scene};
    use crate::answer::ResetState;

    async fn revision(scene: &Scene) -> u64 {
        let facts = scene.on("operator", crate::actions::data_revision::DataRevision {}).satisfied().await;
        facts["revision"].as_str().unwrap().parse().unwrap()
    }

    fn since(revision: u64) -> SameData {
        SameData { revision: Param::Known(revision.to_string()) }
    }

    #[tokio::test(start_paused = true)]
    async fn a_datastore_that_went_on_is_the_same_and_an_older_one_is_not() {
        let scene = Scene::new();
        let now = revision(&scene).await;
        scene.on("operator", since(now)).satisfied().await;
        let probe = scene.on("operator", since(now + 1)).probe().await;
        assert!(matches!(probe, Probe::Refused { found, .. } if found.contains("older data")));
        scene.on("operator", SameData { revision: Param::Known(String::new()) }).satisfied().await;
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_reset_of_this_run_made_is_not_the_data_of_before() {
        let scene = Scene::new();
        let now = revision(&scene).await;
        scene.survey("server-0", |survey| {
            let (run, sha256) = (RUN.to_owned(), "abc".to_owned());
            survey.reset = Some(ResetState { run, sha256, proved: true, started_since: true });
        });
        assert!(scene.on("operator", since(now)).pending().await.starts_with("server-0 still has"));
    }
}
