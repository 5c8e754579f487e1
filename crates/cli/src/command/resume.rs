//! `resume` and `abort`: going on with a run, from its journal alone.

use std::sync::Arc;

use jiff::Timestamp;
use rke2flow_engine::clock::Clock;
use rke2flow_engine::id::RunId;
use rke2flow_engine::inbox::Inbox;
use rke2flow_engine::record::{Command, Event, Verdict};
use rke2flow_engine::run::{Replayed, Revisions, Run};
use rke2flow_engine::state::Rollback;

use super::block_on;
use crate::args::{AbortArgs, ConsentArgs, Global, ResumeArgs};
use crate::driving::{Driving, run_problem};
use crate::exit::{Exit, Outcome, Problem};
use crate::runs::{Runs, Seen, Stands};
use crate::{past, place, rolling_back, world};

/// Goes on with a run; what is done is not repeated.
pub fn resume(global: &Global, args: &ResumeArgs) -> Outcome {
    block_on(begin(global, args))
}

/// The same, inside a command that is waiting already.
pub async fn begin(global: &Global, args: &ResumeArgs) -> Outcome {
    let runs = Runs::of(global)?;
    let seen = runs.to_go_on_with(args.run.as_ref())?;
    if let Stands::Closed(verdict) = seen.stands() {
        let word = Stands::Closed(verdict.clone()).word();
        eprintln!("run {} has {word} already: nothing is left to do", seen.replayed.id);
        return Ok(Exit::Done);
    }
    if matches!(seen.replayed.state.rollback(), Rollback::Approved | Rollback::Began { .. }) {
        return rolling_back::hand_over(global, &seen.replayed.id, args.consent).await;
    }
    let revisions = if args.accept_revision { Revisions::Accepted } else { Revisions::Strict };
    go_on(global, &runs, &seen, args.consent, revisions).await
}

/// Gives a run up. A running engine is asked to; without one, this process takes down what the run has on hosts.
pub fn abort(global: &Global, args: &AbortArgs) -> Outcome {
    let runs = Runs::of(global)?;
    let seen = runs.see(&args.ask.run)?;
    let id = &seen.replayed.id;
    if let Stands::Closed(_) = seen.stands() {
        eprintln!("run {id} has {} already: there is nothing to abort", seen.stands().word());
        return Ok(Exit::Done);
    }
    if let Some(why) = seen.replayed.state.cannot_abort() {
        let next = format!(
            "{}\n{}   (restores the recovery point anew)",
            runs.again(&format!("resume {id}")),
            runs.again("run rollback")
        );
        return Err(Problem::new(Exit::Refused, format!("run {id} cannot be aborted")).observed(why).next(next));
    }
    if let Some(child) = rolled_back_by(&runs, &seen) {
        return Err(Problem::new(Exit::Refused, format!("run {id} cannot be aborted: run {child} rolls it back"))
            .next(format!("{}\n{}", runs.again(&format!("resume {child}")), runs.again(&format!("abort {child}")))));
    }
    let command = Command::Abort { reason: args.ask.reason.clone(), who: place::who() };
    Inbox::at(seen.directory.inbox())
        .send(&command, Timestamp::now())
        .map_err(|error| Problem::new(Exit::Failed, format!("cannot ask run {id}")).observed(error))?;
    if seen.directory.is_running() {
        eprintln!("the engine of run {id} is asked to abort\nnext: {}", runs.again(&format!("watch {id}")));
        return Ok(Exit::Done);
    }
    if !seen.records.iter().any(|record| matches!(record.event, Event::ClaimTaken { .. })) {
        return close_untouched(&runs, &seen, &args.ask.reason);
    }
    let consent = ConsentArgs { yes: false, takeover: args.takeover, fail_over_budget: false };
    let outcome = block_on(go_on(global, &runs, &seen, consent, Revisions::Accepted))?;
    let closed = runs.see(id)?.replayed.state.closed() == Some(&Verdict::Aborted);
    Ok(if closed { Exit::Done } else { outcome })
}

/// The run that rolls this one back, when it exists.
fn rolled_back_by(runs: &Runs, seen: &Seen) -> Option<RunId> {
    let child = seen.replayed.state.rolled_back_by()?;
    runs.see(child).ok().map(|child| child.replayed.id)
}

/// Goes on with a run that is open.
pub async fn go_on(global: &Global, runs: &Runs, seen: &Seen, consent: ConsentArgs, revisions: Revisions) -> Outcome {
    let id = &seen.replayed.id;
    let run = Run::open(seen.directory.path()).map_err(|error| run_problem(runs, id, &error))?;
    let cluster = Arc::new(rolling_back::cluster_file(id, &run.replayed().cluster)?.cluster);
    let (runbook, finished) = (&seen.replayed.plan.runbook, done(&seen.replayed));
    eprintln!("run {id} of {runbook} on {}: {finished} done already, not repeated", cluster.name);
    let mut access = world::reach_again(cluster.clone(), &seen.replayed.opened.lost).await?;
    access.history = past::durations(global, &seen.replayed.plan);
    Driving { global, consent, revisions, access }.drive(run, &cluster).await
}

/// A run that never had the claim has nothing on any host: its journal is all there is to close.
fn close_untouched(runs: &Runs, seen: &Seen, reason: &str) -> Outcome {
    let id = &seen.replayed.id;
    let run = Run::open(seen.directory.path()).map_err(|error| run_problem(runs, id, &error))?;
    run.close(Verdict::Aborted, format!("{}: {reason}", place::who()), &Clock::real())
        .map_err(|error| run_problem(runs, id, &error))?;
    eprintln!("run {id} was aborted; it had nothing on any host");
    Ok(Exit::Done)
}

fn done(replayed: &Replayed) -> String {
    let (state, plan) = (&replayed.state, &replayed.plan);
    let counted: Vec<usize> = (0..plan.steps.len()).filter(|&step| !plan.steps[step].takes_back()).collect();
    let done = counted.iter().filter(|&&step| state.progress(step).done == state.progress(step).targets).count();
    format!("{done} of {} steps", counted.len())
}
