//! `plan`: what a runbook would do. Takes no claim and changes nothing.

use std::path::Path;
use std::sync::Arc;

use rke2flow_engine::history::Durations;
use rke2flow_engine::plan::{self, Forecast};

use super::run::look;
use super::{block_on, print, print_json};
use crate::args::{Global, Output, PlanArgs};
use crate::blast::BlastRadius;
use crate::exit::{Exit, Outcome, Problem};
use crate::making::{self, Made};
use crate::probing::Verdict;
use crate::saved::{self, SavedPlan};
use crate::show::{Colour, blast, dry_run};
use crate::{past, world};

/// Shows the plan, after a look at the world unless `--offline`.
pub fn plan(global: &Global, args: &PlanArgs) -> Outcome {
    if global.output == Output::Markdown {
        return Err(Problem::bad_input("a plan has no markdown form").next("rke2flow plan … -o text|json|dot"));
    }
    if let Some(out) = &args.out {
        saved::must_be_writable(out)?;
    }
    let made = making::make(global, &args.making)?;
    let history = past::durations(global, &made.planned.plan);
    if args.offline {
        let forecast = past::forecast(&made.planned.plan, &history);
        let radius = BlastRadius::unseen(&made.planned.plan, &forecast);
        let saved = SavedPlan::of(&made, None);
        let plan = &made.planned.plan;
        match global.output {
            Output::Json => print_json(&saved.document(&forecast, &radius)),
            Output::Dot => print(&plan::dot(plan)),
            Output::Text | Output::Markdown => {
                let radius = blast::lines(&radius, Colour::of_stdout()).join("\n");
                print(&format!("{}\n{radius}", plan::text(plan, &forecast)));
            }
        }
        return save(args.out.as_deref(), &made, &saved, &forecast, &radius);
    }
    block_on(probed(global, args, &made, history))
}

async fn probed(global: &Global, args: &PlanArgs, made: &Made, history: Arc<Durations>) -> Outcome {
    let plan = &made.planned.plan;
    let forecast = &past::forecast(plan, &history);
    let mut access = world::reach(made.cluster.clone(), plan).await?.access;
    access.history = history;
    let seen = look(made, &access).await;
    let radius = BlastRadius::seen(plan, forecast, &seen.findings, &seen.hosts, &access).await;
    let saved = SavedPlan::of(made, Some(seen.clone()));
    let findings = &seen.findings;
    match global.output {
        Output::Json => print_json(&saved.document(forecast, &radius)),
        Output::Dot => print(&dry_run::dot(plan, findings)),
        Output::Text | Output::Markdown => {
            print(&dry_run::text(plan, forecast, findings, &radius, Colour::of_stdout()));
        }
    }
    let acts = findings.iter().any(|finding| finding.verdict != Verdict::Done);
    save(args.out.as_deref(), made, &saved, forecast, &radius)?;
    Ok(if args.exit_code && acts { Exit::WouldRun } else { Exit::Done })
}

fn save(path: Option<&Path>, made: &Made, saved: &SavedPlan, forecast: &Forecast, radius: &BlastRadius) -> Outcome {
    let Some(path) = path else { return Ok(Exit::Done) };
    saved::write(path, &saved.document(forecast, radius))?;
    let (name, path) = (made.found.source.name(), path.display());
    eprintln!("the plan is in {path}\nnext: rke2flow run {name} --plan {path}");
    Ok(Exit::Done)
}
