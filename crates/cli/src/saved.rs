//! A plan in a file: `plan --out` writes it, `run --plan` applies exactly this or refuses.

use std::fs;
use std::path::Path;

use rke2flow_engine::plan::{PLAN_SCHEMA, Plan};
use serde::{Deserialize, Serialize};

use crate::exit::{Exit, Problem};
use crate::making::Made;
use crate::probing::{Finding, Verdict};

/// A plan, what it was made of, and what was seen then.
#[derive(Debug, Serialize, Deserialize)]
pub struct SavedPlan {
    schema: String,
    runbook_digest: String,
    cluster_digest: String,
    plan: Plan,
    findings: Vec<Finding>,
}

/// The largest saved plan that is read, in bytes.
const SAVED_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// How many differences are named before the rest is counted.
const DIFFERENCES_NAMED_MAX: usize = 10;

impl SavedPlan {
    /// The plan as it is now.
    pub fn of(made: &Made, findings: Vec<Finding>) -> Self {
        Self {
            schema: PLAN_SCHEMA.to_owned(),
            runbook_digest: made.found.source.digest(),
            cluster_digest: made.file.source.digest(),
            plan: made.planned.plan.clone(),
            findings,
        }
    }

    /// Reads a saved plan.
    pub fn read(path: &Path) -> Result<Self, Problem> {
        let problem = |why: String| Problem::bad_input(format!("cannot use the plan {}", path.display())).observed(why);
        let size = fs::metadata(path).map_err(|error| problem(error.to_string()))?.len();
        if size > SAVED_BYTES_MAX {
            return Err(problem(format!("it has {size} bytes, more than {SAVED_BYTES_MAX}")));
        }
        let text = fs::read_to_string(path).map_err(|error| problem(error.to_string()))?;
        let saved: Self = serde_json::from_str(&text).map_err(|error| problem(error.to_string()))?;
        if saved.schema == PLAN_SCHEMA {
            return Ok(saved);
        }
        Err(problem(format!("its schema is {}, this version reads {PLAN_SCHEMA}", saved.schema)))
    }

    /// Refuses when the runbook, the cluster file, a parameter or an action's revision is not what it was.
    pub fn must_be_of(&self, made: &Made) -> Result<(), Problem> {
        let mut differs = Vec::new();
        if self.runbook_digest != made.found.source.digest() {
            differs.push("the runbook's text");
        }
        if self.cluster_digest != made.file.source.digest() {
            differs.push("the cluster file's text");
        }
        if self.plan.params != made.planned.plan.params {
            differs.push("parameters");
        }
        if differs.is_empty() && self.plan != made.planned.plan {
            differs.push("steps, hosts or revisions of actions");
        }
        if differs.is_empty() { Ok(()) } else { Err(drifted(&differs.join("\n"))) }
    }

    /// Refuses when a verdict that was known is another one now.
    pub fn must_agree_with(&self, now: &[Finding]) -> Result<(), Problem> {
        let known = |verdict: Verdict| !matches!(verdict, Verdict::CannotTell | Verdict::KnownAfter);
        let mut differs: Vec<String> = self
            .findings
            .iter()
            .filter(|then| known(then.verdict))
            .filter_map(|then| {
                let now = now.iter().find(|now| now.instance == then.instance)?;
                let moved = now.verdict != then.verdict;
                moved.then(|| format!("{}: {} then, {} now", then.instance, then.verdict.words(), now.verdict.words()))
            })
            .collect();
        if differs.is_empty() {
            return Ok(());
        }
        let more = differs.len().saturating_sub(DIFFERENCES_NAMED_MAX);
        differs.truncate(DIFFERENCES_NAMED_MAX);
        if more > 0 {
            differs.push(format!("and {more} more"));
        }
        Err(drifted(&differs.join("\n")))
    }
}

fn drifted(differs: &str) -> Problem {
    Problem::new(Exit::Refused, "the saved plan does not fit any more")
        .observed(differs)
        .next("rke2flow plan … --out FILE")
}
