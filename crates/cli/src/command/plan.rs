//! `plan`: what a runbook would do. Takes no claim and changes nothing.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use rke2flow_engine::history::Durations;
use rke2flow_engine::plan::{self, Forecast};
use rke2flow_steps::catalogue::StepsCatalogue;

use super::{block_on, print, print_json};
use crate::args::{Global, Output, PlanArgs};
use crate::exit::{Exit, Outcome, Problem};
use crate::making::{self, Made};
use crate::probing::{self, Finding, Verdict};
use crate::saved::SavedPlan;
use crate::show::Colour;
use crate::show::dry_run;
use crate::{past, world};

/// Shows the plan, after a look at the world unless `--offline`.
pub fn plan(global: &Global, args: &PlanArgs) -> Outcome {
    if global.output == Output::Markdown {
        return Err(Problem::bad_input("a plan has no markdown form").next("rke2flow plan … -o text|json|dot"));
    }
    let made = making::make(global, &args.making)?;
    let history = past::durations(global, &made.planned.plan);
    if args.offline {
        show_unprobed(global, &made, &past::forecast(&made.planned.plan, &history));
        return save(args.out.as_deref(), &made, Vec::new());
    }
    block_on(probed(global, args, &made, history))
}

fn show_unprobed(global: &Global, made: &Made, forecast: &Forecast) {
    let plan = &made.planned.plan;
    match global.output {
        Output::Json => print_json(&plan::json(plan, forecast)),
        Output::Dot => print(&plan::dot(plan)),
        Output::Text | Output::Markdown => print(&plan::text(plan, forecast)),
    }
}

async fn probed(global: &Global, args: &PlanArgs, made: &Made, history: Arc<Durations>) -> Outcome {
    let plan = &made.planned.plan;
    let forecast = &past::forecast(plan, &history);
    let mut access = world::reach(made.cluster.clone(), plan).await?.access;
    access.history = history;
    let findings = probing::probe(plan, &StepsCatalogue::new(access)).await;
    match global.output {
        Output::Json => print_json(&dry_run::json(plan, forecast, &findings)),
        Output::Dot => print(&dry_run::dot(plan, &findings)),
        Output::Text | Output::Markdown => print(&dry_run::text(plan, forecast, &findings, Colour::of_stdout())),
    }
    let acts = findings.iter().any(|finding| finding.verdict != Verdict::Done);
    save(args.out.as_deref(), made, findings)?;
    Ok(if args.exit_code && acts { Exit::WouldRun } else { Exit::Done })
}

fn save(path: Option<&Path>, made: &Made, findings: Vec<Finding>) -> Outcome {
    let Some(path) = path else { return Ok(Exit::Done) };
    let saved = SavedPlan::of(made, findings);
    let text = serde_json::to_string_pretty(&saved).expect("a plan is texts, numbers and lists");
    fs::write(path, text)
        .map_err(|error| Problem::bad_input(format!("cannot write the plan to {}", path.display())).observed(error))?;
    eprintln!(
        "the plan is in {}; next: rke2flow run {} --plan {}",
        path.display(),
        made.found.source.name(),
        path.display()
    );
    Ok(Exit::Done)
}
