//! `run`: from a runbook and a cluster file to a run that is driven.

use std::hash::{BuildHasher, Hasher, RandomState};

use jiff::Timestamp;
use rke2flow_engine::clock::Clock;
use rke2flow_engine::id::RunId;
use rke2flow_engine::plan::{self, Plan};
use rke2flow_engine::record::RunOpened;
use rke2flow_engine::run::{NewRun, Revisions, Run};
use rke2flow_engine::state::Waiver;
use rke2flow_steps::catalogue::StepsCatalogue;
use rke2flow_steps::ports::Access;

use super::block_on;
use crate::args::{Global, OnFailureArg, RunArgs};
use crate::driving::{self, Driving, run_problem};
use crate::exit::{Outcome, Problem};
use crate::making::{self, Made};
use crate::runs::Runs;
use crate::saved::{self, SavedPlan, Seen};
use crate::{fingerprint, past, place, probing, telemetry, waiving, world};

/// Plans, connects to every host, and drives a new run.
pub fn run(global: &Global, args: &RunArgs) -> Outcome {
    block_on(begin(global, args))
}

/// The same, inside a command that is waiting already.
pub async fn begin(global: &Global, args: &RunArgs) -> Outcome {
    let saved = args.plan.as_deref().map(SavedPlan::read).transpose()?;
    let making = saved.as_ref().map(|saved| saved.completed(&args.making));
    let made = making::make(global, making.as_ref().unwrap_or(&args.making))?;
    waiving::check(&args.waive, &made.planned.plan)?;
    if let Some(saved) = &saved {
        saved.must_be_of(&made)?;
    }
    let runs = Runs::of(global)?;
    let reached = world::reach(made.cluster.clone(), &made.planned.plan).await?;
    let takeover = driving::takeover(args.consent, &made.planned.plan);
    reached.must_be_free(&place::who(), takeover, &runs)?;
    let mut access = reached.access;
    access.history = past::durations(global, &made.planned.plan);
    let forecast = past::forecast(&made.planned.plan, &access.history);
    if let Some(saved) = saved {
        must_be_as_seen(&saved, &made, &access).await?;
    }
    let new = new_run(args, &made)?;
    let id = new.id.clone();
    let clock = Clock::with_speed(made.cluster.speed());
    let run = Run::create(runs.directory(), new, &clock).map_err(|error| run_problem(&runs, &id, &error))?;
    eprintln!("run {id}, kept in {}", runs.directory_of(&id).path().display());
    eprintln!("{}", plan::forecast_line(&made.planned.plan, &forecast));
    let driving = Driving { global, consent: args.consent, revisions: Revisions::Strict, access };
    driving.drive(run, &made.cluster).await
}

/// Looks at the world again, as when the plan was saved.
async fn must_be_as_seen(saved: &SavedPlan, made: &Made, access: &Access) -> Result<(), Problem> {
    if !saved.knows_the_world() {
        eprintln!("note: the plan was saved with --offline: only files and parameters are compared");
        return Ok(());
    }
    saved.must_agree_with(&look(made, access).await)
}

/// Everything that a dry run sees.
pub async fn look(made: &Made, access: &Access) -> Seen {
    let catalogue = StepsCatalogue::new(access.clone());
    let hosts = fingerprint::of_hosts(access, world::hosts(&made.cluster, &made.lost())).await;
    Seen { findings: probing::probe(&made.planned.plan, &catalogue).await, hosts }
}

fn new_run(args: &RunArgs, made: &Made) -> Result<NewRun, Problem> {
    let mut plan = made.planned.plan.clone();
    if let Some(how) = args.on_failure {
        plan.on_failure = how.of_plan();
        plan.can_offer_rollback().map_err(|why| {
            Problem::bad_input(format!("--on-failure cannot be this for {}", args.making.runbook)).observed(why)
        })?;
    }
    let waivers = args.waive.iter().map(|(guard, reason)| (guard.clone(), reason.clone())).collect();
    let asked = Asking { yes: args.consent.yes, rollback: args.on_failure == Some(OnFailureArg::Rollback), waivers };
    Ok(new_of(made, plan, asked))
}

/// What a person has said beforehand.
#[derive(Debug, Clone, Default)]
pub struct Asking {
    /// Yes at every gate.
    pub yes: bool,
    /// Yes to a rollback, should the run fail.
    pub rollback: bool,
    /// Guards that are passed over, and why.
    pub waivers: Vec<(String, String)>,
}

/// A run of this plan.
pub fn new_of(made: &Made, plan: Plan, asked: Asking) -> NewRun {
    let who = place::who();
    let waiver =
        |(guard, reason): &(String, String)| Waiver { guard: guard.clone(), reason: reason.clone(), who: who.clone() };
    NewRun {
        id: RunId::generate(Timestamp::now(), random()),
        opened: RunOpened {
            tool: env!("CARGO_PKG_VERSION").to_owned(),
            runbook: made.runbook_source(),
            cluster: made.cluster_source(),
            params: plan.params.clone(),
            revisions: saved::revisions(&plan),
            topology: plan.topology,
            speed: made.cluster.speed(),
            who: who.clone(),
            lost: made.lost(),
            yes: asked.yes,
            parent: None,
            rollback: asked.rollback,
            trace_parent: telemetry::trace_parent(),
        },
        waivers: asked.waivers.iter().map(waiver).collect(),
        runbook: made.found.source.text().to_owned(),
        cluster: made.cluster.to_ron(),
        plan,
    }
}

/// A few random bits, for a name that two operators do not choose in the same minute: the standard library seeds its
/// hashers from the system.
fn random() -> u32 {
    RandomState::new().build_hasher().finish() as u32
}
