//! `runs` and `show`: which runs there are, and what one was started with.

use serde_json::{Value, json};

use super::status::{headline, status_json};
use super::{print, print_json};
use crate::args::{Global, Output, RunRequired};
use crate::exit::{Exit, Outcome};
use crate::runs::{Runs, Seen};
use crate::show;

/// Lists runs, newest first.
pub fn runs(global: &Global) -> Outcome {
    let runs = Runs::of(global)?;
    let mut list = runs.readable();
    list.reverse();
    if global.output == Output::Json {
        let list: Vec<Value> = list.iter().map(run_json).collect();
        print_json(&json!({"schema": "rke2flow.dev/runs/v1", "runs": list}));
        return Ok(Exit::Done);
    }
    if list.is_empty() {
        eprintln!("there is no run in {}", runs.directory().display());
        return Ok(Exit::Done);
    }
    let rows = list.iter().map(|seen| {
        let plan = &seen.replayed.plan;
        let opened = seen.replayed.opened_at.strftime("%Y-%m-%d %H:%MZ").to_string();
        vec![
            seen.replayed.id.to_string(),
            plan.runbook.clone(),
            plan.cluster.clone(),
            opened,
            seen.stands().word().to_owned(),
        ]
    });
    print(&show::table(&["RUN", "RUNBOOK", "CLUSTER", "OPENED", "STATE"], rows));
    Ok(Exit::Done)
}

fn run_json(seen: &Seen) -> Value {
    let plan = &seen.replayed.plan;
    json!({
        "run": seen.replayed.id, "runbook": plan.runbook, "cluster": plan.cluster,
        "opened_at": seen.replayed.opened_at, "state": seen.stands().word(),
    })
}

/// Shows what a run was started with, and every step.
pub fn show(global: &Global, args: &RunRequired) -> Outcome {
    let runs = Runs::of(global)?;
    let seen = runs.see(&args.run)?;
    let opened = &seen.replayed.opened;
    if global.output == Output::Json {
        let mut document = status_json(&runs, &seen)?;
        document["schema"] = json!("rke2flow.dev/run/v1");
        document["opened"] = json!(opened);
        print_json(&document);
        return Ok(Exit::Done);
    }
    let mut lines = vec![headline(&seen)];
    lines.push(format!("opened {} by {}, rke2flow {}", seen.replayed.opened_at, opened.who, opened.tool));
    for (kind, source) in [("runbook", &opened.runbook), ("cluster", &opened.cluster)] {
        lines.push(format!(
            "{kind} {} ({}, sha256 {})",
            source.name,
            source.origin,
            &source.digest[..12.min(source.digest.len())]
        ));
    }
    lines.extend(opened.params.iter().map(|(name, value)| format!("  {name} = {value}")));
    lines.extend(opened.parent.iter().map(|parent| format!("  it rolls back run {parent}")));
    lines.extend(opened.lost.iter().map(|host| format!("  {host} is declared lost")));
    lines.push(String::new());
    lines.push(steps_table(&seen));
    print(&lines.join("\n"));
    Ok(Exit::Done)
}

fn steps_table(seen: &Seen) -> String {
    let (plan, state) = (&seen.replayed.plan, &seen.replayed.state);
    let rows = plan.steps.iter().enumerate().map(|(index, step)| {
        let progress = state.progress(index);
        let word = match () {
            () if step.left_out.is_some() => "left out",
            () if step.takes_back() && state.aborting().is_none() => "on abort",
            () if progress.targets == 0 => "nothing to do",
            () if progress.failed > 0 => "failed",
            () if progress.done == progress.targets => "done",
            () if progress.begun > 0 => "begun",
            () => "-",
        };
        vec![
            step.id.to_string(),
            plan.phases[step.phase].id.to_string(),
            format!("{}/{}", progress.done, progress.targets),
            word.to_owned(),
        ]
    });
    show::table(&["STEP", "PHASE", "DONE", "STATE"], rows)
}
