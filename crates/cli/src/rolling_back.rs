//! A run that failed is rolled back by another one (decision 131): whether that is possible, and the hand-over, which
//! may be cut off anywhere and gone on with.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use async_trait::async_trait;
use futures::FutureExt;
use futures::future::{LocalBoxFuture, join_all};
use jiff::Timestamp;
use rke2flow_engine::clock::Clock;
use rke2flow_engine::cluster::{self, ClusterFile};
use rke2flow_engine::id::{HostName, InstanceId, RunId};
use rke2flow_engine::journal::JournalError;
use rke2flow_engine::plan::{Forecast, NeedPlan, Plan};
use rke2flow_engine::record::{Event, Record, RunOpened};
use rke2flow_engine::run::{Replayed, Revisions, RollbackOffer, Run, RunError};
use rke2flow_engine::source::SourceText;
use rke2flow_engine::state::State;
use rke2flow_steps::catalogue::{self, StepsCatalogue};
use rke2flow_steps::host::Hosts;
use rke2flow_steps::ports::Access;

use crate::args::{ConsentArgs, Global, Making};
use crate::command::run::{Asking, new_of};
use crate::driving::{self, Driving, run_problem};
use crate::exit::{Exit, Outcome, Problem};
use crate::making::{self, Made};
use crate::probing::{self, Verdict};
use crate::runs::{Runs, Seen, Stands};
use crate::{command, past, place, reading, superseding, trace, world};

/// The runbook that rolls back.
const RUNBOOK: &str = "rollback";

/// The action that leaves a recovery point.
const RECORDS: &str = "RecordPoint";

/// Actions that change nothing that a restore would bring back.
const HARMLESS: [&str; 3] = ["Cordon", "Uncordon", "Drain"];

/// The actions of a rollback that say whether it is possible.
const DECIDES: [&str; 2] = ["ChoosePoint", "Guard"];

/// How long orders that go on without their attempt are waited for, in cluster time.
const ORDERS_LIMIT: Duration = Duration::from_secs(120);

/// How often they are asked for, in cluster time.
const ORDERS_POLL: Duration = Duration::from_secs(2);

/// Finds out whether a run can be rolled back.
pub struct Offer {
    /// The world.
    pub access: Access,
    /// The run's cluster file as its journal has it.
    pub cluster: String,
    /// The run.
    pub run: RunId,
    /// Where its journal is read.
    pub runs: Runs,
}

#[async_trait]
impl RollbackOffer for Offer {
    async fn offer(&self, opened: &RunOpened, state: &State) -> Result<String, String> {
        let (recorded, point) = recorded_point(state)?;
        let seen = self.runs.see(&self.run).map_err(|problem| problem.to_string())?;
        let changed = changed_since(state.plan(), recorded, &seen.records);
        if changed.is_empty() {
            return Err("nothing that it would bring back was changed since the recovery point".to_owned());
        }
        self.nothing_is_under_way(opened).await?;
        let made = plan_of(&self.run, &self.cluster, opened, state).map_err(|problem| problem.to_string())?;
        let version = self.is_possible(&made).await?;
        let plan = &made.planned.plan;
        let outage = Forecast::of(plan, &StepsCatalogue::offline())
            .map_or_else(|_| String::new(), |forecast| format!(", an outage of about {}", forecast.outage));
        Ok(format!(
            "the run has failed after it changed {}. A rollback goes to its recovery point {point} ({version}): writes since then are lost{outage}",
            named(&changed)
        ))
    }
}

impl Offer {
    /// Nothing of the run may still be changing a host: a rollback would race with it.
    async fn nothing_is_under_way(&self, opened: &RunOpened) -> Result<(), String> {
        let clock = Clock::with_speed(opened.speed);
        let deadline = clock.deadline(ORDERS_LIMIT);
        let hosts = world::hosts(&self.access.cluster, &opened.lost);
        loop {
            let busy = self.busy(&hosts).await?;
            if busy.is_empty() {
                return Ok(());
            }
            if tokio::time::Instant::now() >= deadline {
                return Err(format!("orders of it are still under way: {}", busy.join("; ")));
            }
            clock.sleep(ORDERS_POLL).await;
        }
    }

    async fn busy(&self, hosts: &[HostName]) -> Result<Vec<String>, String> {
        let asking = Hosts::new(self.access.clone());
        let surveys = join_all(hosts.iter().map(|host| asking.survey(host))).await;
        let mut busy = Vec::new();
        for (host, survey) in hosts.iter().zip(surveys) {
            let survey = survey.map_err(|failure| {
                format!("{host} does not answer ({failure}); when it is powered off for certain: rke2flow run rollback --lost {host}")
            })?;
            busy.extend(survey.our_units.iter().map(|unit| format!("{unit} on {host}")));
        }
        Ok(busy)
    }

    /// Whether the rollback would choose this recovery point and its guards let it begin; the version it goes back to.
    async fn is_possible(&self, made: &Made) -> Result<String, String> {
        let catalogue = StepsCatalogue::new(self.access.clone());
        let decides = |step: &rke2flow_engine::plan::StepPlan| {
            step.actions.iter().any(|action| DECIDES.contains(&action.name.as_str()))
        };
        let findings = probing::probe_steps(&made.planned.plan, &catalogue, &decides).await;
        let decisive = findings.iter().filter(|finding| DECIDES.contains(&finding.action.as_str()));
        let mut version = String::new();
        for finding in decisive {
            if finding.verdict != Verdict::Done {
                return Err(format!("{}: {}: {}", finding.instance, finding.verdict.words(), finding.why));
            }
            if let Some(found) = finding.fingerprint.get("version").and_then(|value| value.as_str()) {
                version = found.to_owned();
            }
        }
        Ok(version)
    }
}

/// The recovery point that the run recorded last, with its step: every server keeps it.
fn recorded_point(state: &State) -> Result<(usize, String), String> {
    let plan = state.plan();
    let mut found = None;
    for (index, step) in plan.steps.iter().enumerate() {
        let progress = state.progress(index);
        let records = step.actions.iter().any(|action| action.name == RECORDS);
        if !records || progress.targets == 0 || progress.done < progress.targets {
            continue;
        }
        let ids = step.targets.iter().filter_map(|target| state.facts(&step.id, target)?.get("id")?.as_str());
        found = ids.map(|id| (index, id.to_owned())).next().or(found);
    }
    found.ok_or_else(|| "it had not recorded a recovery point yet".to_owned())
}

/// What was changed by steps behind the recovery point, and a restore would bring back.
fn changed_since(plan: &Plan, recorded: usize, records: &[Record]) -> Vec<InstanceId> {
    let behind: BTreeSet<&str> = (0..plan.steps.len())
        .filter(|&step| needed_by(plan, step).contains(&recorded))
        .map(|step| plan.steps[step].id.as_str())
        .collect();
    let mut changed: Vec<InstanceId> = Vec::new();
    for record in records {
        let Event::ApplyStarted { instance, .. } = &record.event else { continue };
        let (step, rest) = instance.as_str().split_once('/').unwrap_or_default();
        let action = rest.split(['@', '#']).next().unwrap_or_default();
        let harmless = HARMLESS.contains(&action) || catalogue::info(action).is_some_and(|info| !info.changes);
        if behind.contains(step) && !harmless && !changed.contains(instance) {
            changed.push(instance.clone());
        }
    }
    changed
}

/// Every step that comes before this one.
fn needed_by(plan: &Plan, step: usize) -> BTreeSet<usize> {
    let mut before = BTreeSet::new();
    let mut open = vec![step];
    while let Some(step) = open.pop() {
        let needs = plan.steps[step].needs.iter().flat_map(NeedPlan::steps).copied();
        open.extend(needs.filter(|&other| before.insert(other)));
    }
    before
}

/// How many changes a question names.
const CHANGES_NAMED_MAX: usize = 4;

fn named(changed: &[InstanceId]) -> String {
    let mut names: Vec<String> = changed.iter().take(CHANGES_NAMED_MAX).map(ToString::to_string).collect();
    if changed.len() > names.len() {
        names.push(format!("{} more", changed.len() - names.len()));
    }
    names.join(", ")
}

/// The cluster file as a run remembers it.
pub fn cluster_file(run: &RunId, text: &str) -> Result<ClusterFile, Problem> {
    let source = SourceText::new(format!("the cluster file of run {run}"), text);
    cluster::parse(source, Path::new("/"))
        .map_err(|problems| Problem::bad_input("cannot use the run's cluster file").observed(problems))
}

/// The rollback to a run's recovery point, on the same cluster, without the hosts that it was without.
fn plan_of(run: &RunId, cluster: &str, opened: &RunOpened, state: &State) -> Result<Made, Problem> {
    let (_, point) = recorded_point(state).map_err(|why| cannot(run).observed(why))?;
    let embedded = rke2flow_steps::runbooks::find(RUNBOOK).expect("it is embedded");
    let making = Making {
        runbook: RUNBOOK.to_owned(),
        set: vec![format!("to={point}")],
        lost: opened.lost.iter().map(ToString::to_string).collect(),
        ..Making::default()
    };
    let origin = opened.cluster.origin.clone();
    making::make_of(reading::of_binary(embedded), cluster_file(run, cluster)?, origin, &making)
}

fn cannot(run: &RunId) -> Problem {
    Problem::new(Exit::Refused, format!("run {run} cannot be rolled back"))
}

/// Rolls back a run for which a person said yes, or goes on with the run that does so. The outcome is told of both.
pub fn hand_over<'a>(global: &'a Global, parent: &'a RunId, consent: ConsentArgs) -> LocalBoxFuture<'a, Outcome> {
    async move {
        let runs = Runs::of(global)?;
        let seen = runs.see(parent)?;
        let (child, outcome) = match child_of(&runs, &seen)? {
            Some(child) => {
                let id = child.replayed.id.clone();
                eprintln!("run {parent} is rolled back by run {id}: going on with that");
                (id, go_on(global, &runs, &seen, &child, consent).await)
            }
            None => begin(global, &runs, &seen, consent).await?,
        };
        told_of_both(&runs, parent, &child, outcome)
    }
    .boxed_local()
}

fn told_of_both(runs: &Runs, parent: &RunId, child: &RunId, outcome: Outcome) -> Outcome {
    match outcome {
        Ok(_) => Err(Problem::new(Exit::Failed, format!("run {parent} failed, and was rolled back by run {child}"))
            .next(format!("{}\n{}", runs.again(&format!("report {parent}")), runs.again(&format!("report {child}"))))),
        Err(problem) => Err(Problem { what: format!("run {parent} failed, and {}", problem.what), ..problem }),
    }
}

/// The run that rolls this one back, when its plan was ever written down. What is damaged is not begun anew.
fn child_of(runs: &Runs, parent: &Seen) -> Result<Option<Seen>, Problem> {
    let Some(run) = parent.replayed.state.rolled_back_by() else { return Ok(None) };
    match Run::open(runs.directory_of(run).path()) {
        Ok(_) => runs.see(run).map(Some),
        Err(RunError::NeverBegun | RunError::Journal(JournalError::Missing { .. })) => Ok(None),
        Err(error) => Err(run_problem(runs, run, &error)),
    }
}

async fn go_on(global: &Global, runs: &Runs, parent: &Seen, child: &Seen, consent: ConsentArgs) -> Outcome {
    if let Stands::Closed(verdict) = child.stands() {
        let older = superseding::hold_older(runs, &child.replayed)?;
        superseding::close_older(older, child)?;
        let word = Stands::Closed(verdict.clone()).word();
        eprintln!("run {} has {word} already", child.replayed.id);
        return match verdict {
            rke2flow_engine::record::Verdict::Succeeded => Ok(Exit::Done),
            _ => Err(Problem::new(Exit::Failed, format!("run {} has {word}", child.replayed.id))
                .next(runs.again(&format!("report {}", parent.replayed.id)))),
        };
    }
    command::resume::go_on(global, runs, child, consent, Revisions::Strict).await
}

/// Creates the run that rolls back: first the parent's journal says which one it is, then it is made.
async fn begin(global: &Global, runs: &Runs, parent: &Seen, consent: ConsentArgs) -> Result<(RunId, Outcome), Problem> {
    let Replayed { id: parent_id, opened, state, cluster, .. } = &parent.replayed;
    let again = || runs.again(&format!("resume {parent_id}"));
    let made = plan_of(parent_id, cluster, opened, state)?;
    let reached = world::reach(made.cluster.clone(), &made.planned.plan).await.map_err(|problem| Problem {
        what: format!("run {parent_id} failed, and is not rolled back yet: {}", problem.what),
        next: format!("{}\n{}   (when that is mended)", problem.next, again()),
        ..problem
    })?;
    reached.must_be_free(&place::who(), driving::takeover(consent, &made.planned.plan), runs)?;

    // Consent beforehand is to the whole of it: its own gates do not ask again.
    let yes = opened.rollback || consent.yes;
    let mut new = new_of(&made, made.planned.plan.clone(), Asking { yes, ..Asking::default() });
    new.opened.cluster = opened.cluster.clone();
    new.opened.parent = Some(parent_id.clone());
    new.opened.trace_parent = trace::parent_of(&parent.records).or(new.opened.trace_parent);
    let id = new.id.clone();
    let clock = Clock::with_speed(made.cluster.speed());
    let failed = |error: RunError| run_problem(runs, parent_id, &error);
    Run::open(parent.directory.path()).map_err(failed)?.begin_rollback(id.clone(), &clock).map_err(failed)?;
    let run =
        Run::create(runs.directory(), new, &clock).map_err(|error| run_problem(runs, &id, &error).next(again()))?;
    eprintln!(
        "run {id} rolls back run {parent_id}, since {}; kept in {}",
        Timestamp::now().strftime("%H:%M:%SZ"),
        runs.directory_of(&id).path().display()
    );
    let mut access = reached.access;
    access.history = past::durations(global, &made.planned.plan);
    let consent = ConsentArgs { yes, ..consent };
    let driving = Driving { global, consent, revisions: Revisions::Strict, access };
    Ok((id, driving.drive(run, &made.cluster).await))
}

#[cfg(test)]
mod tests;
