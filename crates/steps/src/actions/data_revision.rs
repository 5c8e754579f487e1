//! DataRevision: it is known how far the datastore has come, if it answers.

use async_trait::async_trait;
use rke2flow_engine::action::{ActionInfo, Context, Failure, FailureClass, Place, Probe};
use rke2flow_engine::value::{FactSpec, Facts, ValueType};
use serde::{Deserialize, Serialize};

use crate::actions::{Goal, World, info};

/// Goal: it is known how far the datastore has come, if it answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataRevision {}

#[async_trait]
impl Goal for DataRevision {
    const INFO: ActionInfo = ActionInfo {
        facts: &[FactSpec { name: "revision", kind: ValueType::Text }],
        changes: false,
        ..info("DataRevision", "it is known how far the datastore has come, if it answers", Place::Operator, 1)
    };

    async fn probe(&self, world: &World, _context: &Context) -> Result<Probe, Failure> {
        let revision = match world.objects().revision().await {
            Ok(revision) => revision.to_string(),
            // A cluster that is rolled back is often one whose API is down.
            Err(failure) if failure.class == FailureClass::Transient => String::new(),
            Err(failure) => return Err(failure),
        };
        Ok(Probe::Satisfied(Facts::from([("revision".to_owned(), revision.into())])))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actions::testing::Scene;

    #[tokio::test(start_paused = true)]
    async fn the_revision_rises_with_every_write() {
        let scene = Scene::new();
        let number = |facts: Facts| facts["revision"].as_str().unwrap().parse::<u64>().unwrap();
        let before = number(scene.on("operator", DataRevision {}).satisfied().await);
        scene.put("/api/v1/namespaces/default/configmaps/one-more", serde_json::json!({}));
        assert!(number(scene.on("operator", DataRevision {}).satisfied().await) > before);
    }
}
