//! HelmCharts: what RKE2's helm-controller installs by a Job each (helm-controller pkg/apis/helm.cattle.io/v1).

use serde::Deserialize;

use super::{Condition, Meta};

/// A HelmChart.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(default)]
pub struct HelmChart {
    /// Its metadata; its name is the release's.
    pub metadata: Meta,
    /// What is wanted.
    pub spec: HelmChartSpec,
    /// How far it is.
    pub status: HelmChartStatus,
}

/// What is wanted of a chart.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HelmChartSpec {
    /// Where the release goes; empty: the chart's own namespace.
    pub target_namespace: String,
}

/// How far a chart is.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HelmChartStatus {
    /// The Job that installs it; empty: none yet.
    pub job_name: String,
    /// `JobCreated`, `Failed`.
    pub conditions: Vec<Condition>,
}

impl HelmChart {
    /// The charts of every namespace.
    pub const ALL: &str = "/apis/helm.cattle.io/v1/helmcharts";

    /// Where its release is.
    pub fn release_namespace(&self) -> &str {
        match self.spec.target_namespace.as_str() {
            "" => &self.metadata.namespace,
            target => target,
        }
    }

    /// Whether the controller says that it has failed.
    pub fn has_failed(&self) -> bool {
        self.status.conditions.iter().any(|condition| condition.kind == "Failed" && condition.status == "True")
    }
}
