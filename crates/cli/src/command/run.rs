//! `run`: from a runbook and a cluster file to a run that is driven.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, Hasher, RandomState};

use jiff::Timestamp;
use rke2flow_engine::clock::Clock;
use rke2flow_engine::id::RunId;
use rke2flow_engine::plan::{self, Plan};
use rke2flow_engine::record::RunOpened;
use rke2flow_engine::run::{NewRun, Revisions, Run};
use rke2flow_engine::state::Waiver;
use rke2flow_steps::catalogue::StepsCatalogue;

use super::block_on;
use crate::args::{Global, RunArgs};
use crate::driving::{self, Driving, run_problem};
use crate::exit::Outcome;
use crate::making::{self, Made};
use crate::runs::Runs;
use crate::saved::SavedPlan;
use crate::{past, place, probing, telemetry, world};

/// Plans, connects to every host, and drives a new run.
pub fn run(global: &Global, args: &RunArgs) -> Outcome {
    block_on(begin(global, args))
}

/// The same, inside a command that is waiting already.
pub async fn begin(global: &Global, args: &RunArgs) -> Outcome {
    let made = making::make(global, &args.making)?;
    let saved = args.plan.as_deref().map(SavedPlan::read).transpose()?;
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
        saved.must_agree_with(&probing::probe(&made.planned.plan, &StepsCatalogue::new(access.clone())).await)?;
    }
    let new = new_run(args, &made);
    let id = new.id.clone();
    let clock = Clock::with_speed(made.cluster.speed());
    let run = Run::create(runs.directory(), new, &clock).map_err(|error| run_problem(&runs, &id, &error))?;
    eprintln!("run {id}, kept in {}", runs.directory_of(&id).path().display());
    eprintln!("{}", plan::forecast_line(&made.planned.plan, &forecast));
    let driving = Driving { global, consent: args.consent, revisions: Revisions::Strict, access };
    driving.drive(run, &made.cluster).await
}

fn new_run(args: &RunArgs, made: &Made) -> NewRun {
    let who = place::who();
    let plan = made.planned.plan.clone();
    let waiver =
        |(guard, reason): &(String, String)| Waiver { guard: guard.clone(), reason: reason.clone(), who: who.clone() };
    NewRun {
        id: RunId::generate(Timestamp::now(), random()),
        opened: RunOpened {
            tool: env!("CARGO_PKG_VERSION").to_owned(),
            runbook: made.runbook_source(),
            cluster: made.cluster_source(),
            params: plan.params.clone(),
            revisions: revisions(&plan),
            topology: plan.topology,
            speed: made.cluster.speed(),
            who: who.clone(),
            lost: made.lost(),
            yes: args.consent.yes,
            trace_parent: telemetry::trace_parent(),
        },
        waivers: args.waive.iter().map(waiver).collect(),
        runbook: made.found.source.text().to_owned(),
        cluster: made.cluster.to_ron(),
        plan,
    }
}

fn revisions(plan: &Plan) -> BTreeMap<String, u32> {
    let actions = plan.steps.iter().flat_map(|step| step.done_when.iter().chain(&step.actions));
    actions.map(|action| (action.name.clone(), action.revision)).collect()
}

/// A few random bits, for a name that two operators do not choose in the same minute: the standard library seeds its
/// hashers from the system.
fn random() -> u32 {
    RandomState::new().build_hasher().finish() as u32
}
