//! `logs`: everything that is known of a step.

use rke2flow_engine::id::InstanceId;
use rke2flow_engine::record::{Event, Record};
use rke2flow_engine::state::Standing;
use serde_json::json;

use super::print;
use crate::args::{Global, LogsArgs, Output};
use crate::exit::{Exit, Outcome, Problem};
use crate::runs::{Runs, Seen};

/// Shows what is known of a step: its records, observations, the end of its output.
pub fn logs(global: &Global, args: &LogsArgs) -> Outcome {
    let runs = Runs::of(global)?;
    let seen = runs.see(&args.run)?;
    let plan = &seen.replayed.plan;
    let instances: Vec<String> = plan
        .instances()
        .iter()
        .filter(|instance| instance.id.as_str() == args.step || plan.steps[instance.step].id.as_str() == args.step)
        .map(|instance| instance.id.to_string())
        .collect();
    if instances.is_empty() {
        let names: Vec<&str> = plan.steps.iter().map(|step| step.id.as_str()).collect();
        let help = rke2flow_engine::diagnostic::did_you_mean(&args.step, &names).unwrap_or_default();
        return Err(Problem::bad_input(format!("run {} has no step `{}`", args.run, args.step)).observed(help));
    }
    let of_step = |record: &&Record| {
        instance_of(&record.event).is_some_and(|id| instances.iter().any(|known| known == id.as_str()))
    };
    for record in seen.records.iter().filter(of_step) {
        match global.output {
            Output::Json => print(&serde_json::to_string(record).expect("it was read from JSON")),
            _ => print(&log_entry(&seen, record)),
        }
    }
    for instance in &instances {
        if let Some(standing) = waiting(&seen, instance) {
            print(&format!("{instance}: {standing}"));
        }
    }
    Ok(Exit::Done)
}

fn waiting(seen: &Seen, instance: &str) -> Option<&'static str> {
    let state = &seen.replayed.state;
    let graph = state.graph();
    // A lane that is done has no current instance.
    let lane = (0..graph.lanes().len()).find(|&lane| {
        let lane_state = state.lane_state(lane);
        lane_state.standing != Standing::Done && graph.instance(lane, lane_state.position).as_str() == instance
    })?;
    match state.lane_state(lane).standing {
        Standing::Waiting => Some("not begun"),
        Standing::Attempting(_) => Some("under way"),
        Standing::Interrupted(_) => Some("cut off; the next engine takes it up"),
        Standing::Scheduled(_) | Standing::Tripped(_) => Some("to be tried again"),
        Standing::AtGate(_) => Some("waits for consent"),
        Standing::Failed(_) | Standing::Done => None,
    }
}

fn instance_of(event: &Event) -> Option<&InstanceId> {
    match event {
        Event::AttemptStarted { instance, .. }
        | Event::Probed { instance, .. }
        | Event::ApplyStarted { instance, .. }
        | Event::ApplyEnded { instance, .. }
        | Event::Settled { instance, .. }
        | Event::AttemptFailed { instance, .. }
        | Event::RetryScheduled { instance, .. }
        | Event::Skipped { instance, .. }
        | Event::GateOpened { instance, .. }
        | Event::GateDecided { instance, .. } => Some(instance),
        _ => None,
    }
}

fn log_entry(seen: &Seen, record: &Record) -> String {
    let at = record.at.strftime("%H:%M:%S%.3fZ");
    let head = |text: String| format!("{at} {text}");
    match &record.event {
        Event::AttemptStarted { instance, attempt } => head(format!("{instance} attempt {attempt} begins")),
        Event::Probed { instance, verdict, why, .. } => head(format!("{instance} looks: {verdict:?} {why}")),
        Event::ApplyStarted { instance, unit, .. } => head(format!("{instance} changes, as {unit}")),
        Event::ApplyEnded { instance, applied, .. } => {
            let receipt = applied.receipt.as_ref();
            let exit = receipt.map(|receipt| format!(", exit {}", receipt.exit)).unwrap_or_default();
            let tail = receipt.map(|receipt| receipt.tail.as_str()).unwrap_or_default();
            head(format!("{instance} changed{exit} {}{}", applied.note, indented(tail)))
        }
        Event::Settled { instance, facts, .. } => {
            let facts = if facts.is_empty() { String::new() } else { format!(" {}", json!(facts)) };
            head(format!("{instance} holds{facts}"))
        }
        Event::AttemptFailed { instance, failure, output, .. } => {
            let output =
                output.as_ref().and_then(|digest| std::fs::read_to_string(seen.directory.out().join(digest)).ok());
            let more = indented(&failure.observed) + &indented(&output.unwrap_or_default());
            head(format!("{instance} failed ({:?}): {}{more}", failure.class, failure.what))
        }
        Event::RetryScheduled { instance, attempt, at: due, .. } => {
            head(format!("{instance} attempt {attempt} at {due}"))
        }
        Event::Skipped { instance, why, .. } => head(format!("{instance} skipped: {why}")),
        Event::GateOpened { instance, show } => head(format!("{instance} asks: {show}")),
        Event::GateDecided { instance, approved, who, reason } => {
            head(format!("{instance} {} by {who} {reason}", if *approved { "approved" } else { "refused" }))
        }
        other => head(format!("{other:?}")),
    }
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("\n    {line}")).collect()
}
