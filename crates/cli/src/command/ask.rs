//! `pause`, `continue`, `approve`, `deny`, `skip`, `retry`: asking something of a run through its inbox.

use jiff::Timestamp;
use rke2flow_engine::inbox::Inbox;
use rke2flow_engine::record::Command;
use rke2flow_engine::state::State;

use crate::args::{AskArgs, AskStepArgs, Global};
use crate::exit::{Exit, Outcome, Problem};
use crate::place;
use crate::runs::{Runs, Seen};

/// Starts nothing new.
pub fn pause(global: &Global, args: &AskArgs) -> Outcome {
    let (runs, seen) = open_run(global, &args.run)?;
    send(&runs, &seen, Command::Pause { reason: args.reason.clone(), who: place::who() })
}

/// Goes on after a pause.
pub fn go_on(global: &Global, args: &AskArgs) -> Outcome {
    let (runs, seen) = open_run(global, &args.run)?;
    send(&runs, &seen, Command::Continue { who: place::who() })
}

/// Says yes at a gate.
pub fn approve(global: &Global, args: &AskStepArgs) -> Outcome {
    let (runs, seen) = step_of(global, args)?;
    let (step, who, reason) = words(args);
    send(&runs, &seen, Command::Approve { step, who, reason })
}

/// Says no at a gate.
pub fn deny(global: &Global, args: &AskStepArgs) -> Outcome {
    let (runs, seen) = step_of(global, args)?;
    let (step, who, reason) = words(args);
    send(&runs, &seen, Command::Deny { step, who, reason })
}

/// Counts a step as done. Refused at once when it could never be obeyed.
pub fn skip(global: &Global, args: &AskStepArgs) -> Outcome {
    let (runs, seen) = step_of(global, args)?;
    possible(&runs, &seen, &args.step, State::skippable)?;
    let (step, who, reason) = words(args);
    send(&runs, &seen, Command::Skip { step, who, reason })
}

/// Tries a failed step again.
pub fn retry(global: &Global, args: &AskStepArgs) -> Outcome {
    let (runs, seen) = step_of(global, args)?;
    possible(&runs, &seen, &args.step, State::retriable)?;
    let (step, who, _) = words(args);
    send(&runs, &seen, Command::Retry { step, who })
}

fn words(args: &AskStepArgs) -> (String, String, String) {
    (args.step.clone(), place::who(), args.reason.clone())
}

fn open_run(global: &Global, run: &rke2flow_engine::id::RunId) -> Result<(Runs, Seen), Problem> {
    let runs = Runs::of(global)?;
    let seen = runs.see(run)?;
    if seen.replayed.state.closed().is_some() {
        let word = seen.stands().word();
        return Err(Problem::bad_input(format!("run {run} has {word} already: nothing can be asked of it")));
    }
    Ok((runs, seen))
}

fn step_of(global: &Global, args: &AskStepArgs) -> Result<(Runs, Seen), Problem> {
    let (runs, seen) = open_run(global, &args.run)?;
    let plan = &seen.replayed.plan;
    let known = plan.steps.iter().any(|step| step.id.as_str() == args.step)
        || plan.instances().iter().any(|instance| instance.id.as_str() == args.step);
    if known || seen.replayed.state.is_rollback_gate(&args.step) {
        return Ok((runs, seen));
    }
    let names: Vec<&str> = plan.steps.iter().map(|step| step.id.as_str()).collect();
    let help = rke2flow_engine::diagnostic::did_you_mean(&args.step, &names).unwrap_or_default();
    Err(Problem::bad_input(format!("run {} has no step `{}`", args.run, args.step))
        .observed(help)
        .next(runs.again(&format!("show {}", args.run))))
}

fn possible(
    runs: &Runs,
    seen: &Seen,
    step: &str,
    question: impl Fn(&State, &str) -> Result<Vec<usize>, String>,
) -> Result<(), Problem> {
    match question(&seen.replayed.state, step) {
        Ok(_) => Ok(()),
        Err(why) => Err(Problem::new(Exit::Refused, why).next(runs.again(&format!("status {}", seen.replayed.id)))),
    }
}

fn send(runs: &Runs, seen: &Seen, command: Command) -> Outcome {
    let id = &seen.replayed.id;
    Inbox::at(seen.directory.inbox())
        .send(&command, Timestamp::now())
        .map_err(|error| Problem::new(Exit::Failed, format!("cannot ask run {id}")).observed(error))?;
    if seen.directory.is_running() {
        eprintln!("asked; the engine of run {id} takes it up within a second");
    } else {
        eprintln!("noted; nobody drives run {id} now\nnext: {}", runs.again(&format!("resume {id}")));
    }
    Ok(Exit::Done)
}
