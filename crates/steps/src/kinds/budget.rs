//! Pod disruption budgets, and the label selectors by which they and workloads name their pods.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::Meta;

/// A PodDisruptionBudget.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(default)]
pub struct DisruptionBudget {
    /// Its metadata.
    pub metadata: Meta,
    /// What is wanted.
    pub spec: DisruptionBudgetSpec,
    /// What its controller found.
    pub status: DisruptionBudgetStatus,
}

impl DisruptionBudget {
    /// The budgets of every namespace.
    pub const ALL: &str = "/apis/policy/v1/poddisruptionbudgets";
}

/// What is wanted of a budget.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(default)]
pub struct DisruptionBudgetSpec {
    /// Which pods it is about; an empty selector is about all of its namespace (policy/v1), none at all about no pod.
    pub selector: Option<Selector>,
}

/// What a budget's controller found.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DisruptionBudgetStatus {
    /// Evictions that are allowed now.
    pub disruptions_allowed: i64,
    /// Healthy pods that there are.
    pub current_healthy: i64,
    /// Healthy pods that there must be.
    pub desired_healthy: i64,
    /// Pods that it is about.
    pub expected_pods: i64,
}

/// A label selector.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Selector {
    /// Labels with these values.
    pub match_labels: BTreeMap<String, String>,
    /// What else must hold.
    pub match_expressions: Vec<Requirement>,
}

/// What must hold of one label.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(default)]
pub struct Requirement {
    /// The label.
    pub key: String,
    /// `In`, `NotIn`, `Exists`, `DoesNotExist`.
    pub operator: String,
    /// For the first two.
    pub values: Vec<String>,
}

impl Selector {
    /// Whether these labels are selected. An operator that is not known selects nothing, as in Kubernetes an invalid
    /// selector does.
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        let same = |(key, value): (&String, &String)| labels.get(key) == Some(value);
        self.match_labels.iter().all(same) && self.match_expressions.iter().all(|needed| needed.holds(labels))
    }
}

impl Requirement {
    fn holds(&self, labels: &BTreeMap<String, String>) -> bool {
        let value = labels.get(&self.key);
        match self.operator.as_str() {
            "In" => value.is_some_and(|value| self.values.contains(value)),
            "NotIn" => value.is_none_or(|value| !self.values.contains(value)),
            "Exists" => value.is_some(),
            "DoesNotExist" => value.is_none(),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn selects(selector: serde_json::Value) -> bool {
        let selector: Selector = serde_json::from_value(selector).unwrap();
        selector.matches(&BTreeMap::from([("app".to_owned(), "web".to_owned()), ("tier".to_owned(), "1".to_owned())]))
    }

    #[test]
    fn a_selector_selects_what_fulfils_all_of_it() {
        let expression = |operator: &str, values: &[&str]| {
            selects(json!({ "matchExpressions": [{ "key": "app", "operator": operator, "values": values }] }))
        };
        assert!(selects(json!({})));
        assert!(selects(json!({ "matchLabels": { "app": "web" } })));
        assert!(!selects(json!({ "matchLabels": { "app": "web", "tier": "2" } })));
        assert!(expression("In", &["web", "db"]) && !expression("In", &["db"]));
        assert!(expression("NotIn", &["db"]) && !expression("NotIn", &["web"]));
        assert!(expression("Exists", &[]) && !expression("DoesNotExist", &[]) && !expression("Near", &["web"]));
    }
}
