//! A run that takes the place of an open one, as a rollback takes the place of its upgrade.

use rke2flow_engine::clock::Clock;
use rke2flow_engine::id::RunId;
use rke2flow_engine::record::{Event, Verdict};
use rke2flow_engine::run::{Replayed, Run};

use crate::driving::run_problem;
use crate::exit::{Exit, Problem};
use crate::runs::{Runs, Seen};

/// Opens the older runs whose place this one takes, so that no other engine goes on with them meanwhile. Refuses when
/// one of them is being driven.
pub fn hold_older(runs: &Runs, new: &Replayed) -> Result<Vec<Run>, Problem> {
    if !new.plan.supersedes {
        return Ok(Vec::new());
    }
    let older = runs.readable().into_iter().filter(|seen| {
        let other = &seen.replayed;
        other.id != new.id && other.plan.cluster == new.plan.cluster && other.state.closed().is_none()
    });
    older
        .map(|seen| Run::open(seen.directory.path()).map_err(|error| run_problem(runs, &seen.replayed.id, &error)))
        .collect()
}

/// Closes the older runs, once the new one has the right to act on the cluster. Returns those that are closed now.
pub fn close_older(older: Vec<Run>, new: &Seen) -> Result<Vec<RunId>, Problem> {
    let acts = new.records.iter().any(|record| matches!(record.event, Event::ClaimTaken { .. }));
    if !acts {
        return Ok(Vec::new());
    }
    let mut closed = Vec::new();
    for run in older {
        let id = run.replayed().id.clone();
        run.close(
            Verdict::Superseded { by: new.replayed.id.clone() },
            format!("run {} has taken its place", new.replayed.id),
            &Clock::real(),
        )
        .map_err(|error| Problem::new(Exit::Failed, format!("cannot close run {id}")).observed(error))?;
        eprintln!("run {id} is superseded by {}", new.replayed.id);
        closed.push(id);
    }
    Ok(closed)
}
