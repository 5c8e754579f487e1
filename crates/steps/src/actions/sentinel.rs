//! Sentinel: a ConfigMap with the run's id marks a moment in the datastore.

use async_trait::async_trait;
use rke2flow_engine::action::{ActionInfo, Applied, Context, Failure, Place, Probe};
use rke2flow_engine::id::RunId;
use rke2flow_engine::value::Facts;
use rke2flow_engine::value::{FactSpec, ValueType};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::actions::{Goal, World, info, noted};
use crate::kinds::{AnyKind, LABEL_RUN, LABEL_STEP};
use crate::objects::Created;

/// Goal: a ConfigMap with the run's id marks a moment in the datastore.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sentinel {
    /// Before the snapshot, or after it.
    pub which: Which,
}

#[async_trait]
impl Goal for Sentinel {
    const INFO: ActionInfo = ActionInfo {
        facts: &[FactSpec { name: "uid", kind: ValueType::Text }, FactSpec { name: "name", kind: ValueType::Text }],
        ..info("Sentinel", "a ConfigMap with the run's id marks a moment in the datastore", Place::Operator, 2)
    };

    async fn probe(&self, world: &World, context: &Context) -> Result<Probe, Failure> {
        let name = name(&context.round_id(), self.which);
        let Some(found) = world.objects().get::<AnyKind>(&path(&name)).await? else {
            return Ok(Probe::pending(format!("there is no ConfigMap kube-system/{name}")));
        };
        if found.metadata.run() != Some(context.run.as_str()) {
            return Ok(Probe::Refused {
                expected: format!("no ConfigMap kube-system/{name}, or one of this run"),
                found: "one without this run's label".to_owned(),
            });
        }
        let facts = [("uid", found.metadata.uid), ("name", name)];
        Ok(Probe::Satisfied(Facts::from(facts.map(|(key, value)| (key.to_owned(), value.into())))))
    }

    async fn apply(&self, world: &World, context: &Context) -> Result<Applied, Failure> {
        let name = name(&context.round_id(), self.which);
        let body = json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {
                "name": name, "namespace": "kube-system",
                "labels": { LABEL_RUN: context.run.as_str(), LABEL_STEP: context.step.as_str() },
            },
            "data": { "run": context.run.as_str() },
        });
        match world.changes(context).create(COLLECTION, body).await? {
            Created::New(_) => Ok(noted(format!("created ConfigMap kube-system/{name}"))),
            Created::Exists => Ok(noted("it is there already")),
        }
    }
}

const COLLECTION: &str = "/api/v1/namespaces/kube-system/configmaps";

/// The sentinel's name: the same for everybody who knows the recovery point's id.
pub(crate) fn name(point: &RunId, which: Which) -> String {
    let suffix = match which {
        Which::Before => "before",
        Which::After => "after",
    };
    format!("rke2flow-{point}-{suffix}")
}

/// The sentinel's path.
pub(crate) fn path(name: &str) -> String {
    format!("{COLLECTION}/{name}")
}

/// Which of the two sentinels of a recovery point.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Which {
    /// Written before the snapshot: a restore must bring it back.
    Before,
    /// Written after the snapshot: a restore must not have it.
    After,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actions::testing::Scene;

    #[tokio::test(start_paused = true)]
    async fn writing_a_sentinel_is_idempotent() {
        let facts = Scene::new().on("operator", Sentinel { which: Which::Before }).idempotent().await;
        assert_eq!(facts["name"], "rke2flow-261122-0300-k7q2-before");
        assert!(facts["uid"].as_str().is_some_and(|uid| !uid.is_empty()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_config_map_of_somebody_else_is_not_taken_for_the_sentinel() {
        let scene = Scene::new();
        scene.put(&path("rke2flow-261122-0300-k7q2-after"), json!({}));
        let probe = scene.on("operator", Sentinel { which: Which::After }).probe().await;
        assert!(matches!(probe, Probe::Refused { .. }));
    }
}
