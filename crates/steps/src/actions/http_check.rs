//! HttpCheck: these URLs answer 2xx or 3xx.

use async_trait::async_trait;
use rke2flow_engine::action::{ActionInfo, Context, Failure, Place, Probe};
use rke2flow_engine::value::Param;
use serde::{Deserialize, Serialize};

use crate::actions::{Goal, World, info, known, unless_missing};

/// Goal: these URLs answer 2xx or 3xx.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpCheck {
    /// The URLs; those of the cluster file when empty.
    #[serde(default)]
    pub urls: Param<Vec<String>>,
}

#[async_trait]
impl Goal for HttpCheck {
    const INFO: ActionInfo =
        ActionInfo { changes: false, ..info("HttpCheck", "these URLs answer 2xx or 3xx", Place::Operator, 5) };

    async fn probe(&self, world: &World, _context: &Context) -> Result<Probe, Failure> {
        let own = known(&self.urls)?;
        let urls = if own.is_empty() { &world.cluster().health_urls } else { own };
        let mut ill = Vec::new();
        for url in urls {
            ill.extend(ask(world, url).await.err());
        }
        Ok(unless_missing(ill))
    }
}

/// Asks one URL: what it answered, or why that is not well.
pub(crate) async fn ask(world: &World, url: &str) -> Result<String, String> {
    match world.access().http.get(url).await {
        Ok((status @ 200..=399, _)) => Ok(format!("HTTP {status}")),
        Ok((status, _)) => Err(format!("{url} answers HTTP {status}")),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actions::testing::Scene;

    #[tokio::test(start_paused = true)]
    async fn only_answers_from_200_to_399_are_well() {
        let scene = Scene::new();
        let bench = scene.on("operator", HttpCheck { urls: Param::Known(vec!["https://a.test".to_owned()]) });
        assert!(bench.pending().await.contains("connection refused"));
        scene.change(|state| state.web.insert("https://a.test".to_owned(), 503));
        assert_eq!(bench.pending().await, "https://a.test answers HTTP 503");
        scene.change(|state| state.web.insert("https://a.test".to_owned(), 302));
        bench.satisfied().await;
    }
}
