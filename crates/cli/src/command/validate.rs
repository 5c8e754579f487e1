//! `validate`: whether runbooks and cluster files are right, without a cluster.

use std::path::Path;

use crate::args::ValidateArgs;
use crate::exit::{Exit, Outcome, Problem};
use crate::reading::{self, Found};

/// Checks every file, and says of each what it is or what is wrong with it.
pub fn validate(args: &ValidateArgs) -> Outcome {
    let mut refused = 0;
    for name in &args.files {
        match check(name) {
            Ok(what) => super::print(&format!("{name}: {what}")),
            Err(problem) => {
                refused += 1;
                eprintln!("{problem}\n");
            }
        }
    }
    if refused == 0 {
        return Ok(Exit::Done);
    }
    Err(Problem::bad_input(format!("{refused} of {} cannot be used", args.files.len())))
}

fn check(name: &str) -> Result<String, Problem> {
    let found = reading::find_runbook(name)?;
    if is_cluster_file(&found) {
        let file = reading::read_cluster(Path::new(name))?;
        if !file.warnings.is_empty() {
            eprintln!("{}", file.warnings);
        }
        let (servers, agents) = (file.cluster.servers().count(), file.cluster.agents().count());
        return Ok(format!("cluster {}, {servers} servers, {agents} agents", file.cluster.name));
    }
    let runbook = reading::read_runbook(&found)?;
    Ok(format!("runbook {}, {} phases, {} steps", *runbook.name, runbook.phases.len(), runbook.steps.len()))
}

/// A cluster file has `hosts:` or names itself `Cluster(`; a runbook names itself `Runbook(` or has `steps:`.
fn is_cluster_file(found: &Found) -> bool {
    let code = |line: &'_ str| line.split("//").next().unwrap_or_default().to_owned();
    let text: String = found.source.text().lines().map(code).collect();
    let has = |word: &str| text.contains(word);
    !has("Runbook(") && (has("Cluster(") || has("hosts:") && !has("steps:"))
}
