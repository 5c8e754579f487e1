//! Gate: a person has said yes.

use async_trait::async_trait;
use rke2flow_engine::action::{ActionInfo, Context, Failure, Place, Probe};
use rke2flow_engine::value::Param;
use serde::{Deserialize, Serialize};

use crate::actions::{Goal, World, info, known};

/// Goal: a person has said yes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gate {
    /// What the person is asked.
    pub show: Param<String>,
}

#[async_trait]
impl Goal for Gate {
    const INFO: ActionInfo =
        ActionInfo { changes: false, gate: true, ..info("Gate", "a person has said yes", Place::Anywhere, 60) };

    async fn probe(&self, _world: &World, _context: &Context) -> Result<Probe, Failure> {
        Ok(Probe::pending(known(&self.show)?.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actions::testing::Scene;

    #[tokio::test(start_paused = true)]
    async fn a_gate_never_opens_by_itself() {
        let bench = Scene::new().on("operator", Gate { show: Param::Known("really?".to_owned()) });
        assert_eq!(bench.pending().await, "really?");
    }
}
