//! A finding: one check with its outcome and what was observed, as `Health` tells it.

use std::fmt;

use serde_json::Value;

/// One check of several that are told together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finding {
    outcome: Outcome,
    check: String,
    observed: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Pass,
    Fail,
}

impl Finding {
    /// The check holds.
    pub fn pass(check: impl Into<String>, observed: impl Into<String>) -> Self {
        Self { outcome: Outcome::Pass, check: check.into(), observed: observed.into() }
    }

    /// The check does not hold.
    pub fn fail(check: impl Into<String>, observed: impl Into<String>) -> Self {
        Self { outcome: Outcome::Fail, check: check.into(), observed: observed.into() }
    }

    /// The check holds when nothing is missing.
    pub fn unless_missing(check: impl Into<String>, well: impl Into<String>, missing: Vec<String>) -> Self {
        if missing.is_empty() { Self::pass(check, well) } else { Self::fail(check, missing.join("; ")) }
    }

    /// Whether it stands in the way.
    pub fn failed(&self) -> bool {
        self.outcome == Outcome::Fail
    }

    /// The check and what was observed, without the outcome.
    pub fn plain(&self) -> String {
        format!("{}: {}", self.check, self.observed)
    }

    /// All of them, one per line.
    pub fn text(findings: &[Finding]) -> String {
        findings.iter().map(Finding::to_string).collect::<Vec<_>>().join("\n")
    }

    /// All of them as the fact `checks`.
    pub fn fact(findings: &[Finding]) -> Value {
        findings.iter().map(Finding::to_string).collect()
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let outcome = match self.outcome {
            Outcome::Pass => "PASS",
            Outcome::Fail => "FAIL",
        };
        write!(f, "{outcome} {}: {}", self.check, self.observed)
    }
}
