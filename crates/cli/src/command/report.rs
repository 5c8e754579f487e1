//! `report`: what a run cost, phase by phase, against its budgets.

use serde_json::json;

use super::{print, print_json};
use crate::args::{Global, Output, RunArg};
use crate::exit::{Exit, Outcome, Problem};
use crate::past;
use crate::runs::Runs;

/// Prints the report of a run, also while it runs.
pub fn report(global: &Global, args: &RunArg) -> Outcome {
    let seen = Runs::of(global)?.to_look_at(args.run.as_ref())?;
    let expected = past::expected_of(&seen, past::kept_if_any(global));
    let report = seen.report()?.against(&expected);
    match global.output {
        Output::Text => print(&report.to_text()),
        Output::Markdown => print(&report.to_markdown()),
        Output::Json => print_json(&json!(report)),
        Output::Dot => {
            return Err(Problem::bad_input("a report has no dot form").next("rke2flow report … -o text|json|markdown"));
        }
    }
    Ok(Exit::Done)
}
