//! Driving a run from the command line: display, signals, consent, claim, traces; and what is said at the end.

use std::sync::Arc;

use rke2flow_engine::action::{Failure, FailureClass};
use rke2flow_engine::clock::Clock;
use rke2flow_engine::cluster::Cluster;
use rke2flow_engine::id::{InstanceId, RunId};
use rke2flow_engine::journal::JournalError;
use rke2flow_engine::plan::Plan;
use rke2flow_engine::record::Verdict;
use rke2flow_engine::run::{ClaimError, Engine, EngineError, Gates, Outcome as RunOutcome, Revisions, Run, RunError};
use rke2flow_engine::state::{OpenGate, ROLLBACK_GATE};
use rke2flow_steps::catalogue::StepsCatalogue;
use rke2flow_steps::host::{Claims, Hosts, Takeover};
use rke2flow_steps::ports::Access;
use tracing::Instrument;

use crate::args::{ConsentArgs, Global, Output};
use crate::asking::Keyboard;
use crate::claiming::{ClusterClaims, StuckReset};
use crate::exit::{Exit, Outcome, Problem};
use crate::held::held_lines;
use crate::observing::Watcher;
use crate::rolling_back::Offer;
use crate::runs::{Runs, Seen};
use crate::screen::Screen;
use crate::show::progress::{Detail, Progress};
use crate::show::{self, Colour, phases};
use crate::{panic, past, place, rolling_back, stopping, superseding, telemetry, trace, what_runs};

/// How a run is driven.
pub struct Driving<'a> {
    /// Options of every command.
    pub global: &'a Global,
    /// How gates are answered, how the end is judged.
    pub consent: ConsentArgs,
    /// What is done with unfinished actions of another revision.
    pub revisions: Revisions,
    /// The world.
    pub access: Access,
}

impl Driving<'_> {
    /// Drives a run until it is closed or nothing more can be done, and says how it ended and what comes next.
    pub async fn drive(self, run: Run, cluster: &Cluster) -> Outcome {
        let runs = Runs::of(self.global)?;
        let id = run.replayed().id.clone();
        panic::remember_run(&id, runs.directory_of(&id).path().to_owned());
        let older = superseding::hold_older(&runs, run.replayed())?;

        let (screen, drain) = Screen::start();
        for note in run.notes() {
            screen.say(format!("note: {note}"));
        }
        let engine = self.engine(run, cluster, &runs, &screen)?;
        let (stop, listening) = stopping::listen(screen.clone())
            .map_err(|error| Problem::new(Exit::Failed, "cannot listen for signals").observed(error))?;
        let span = tracing::info_span!("engine", run = %id, pid = std::process::id());
        if let Some(told) = trace::run_span(&runs.see(&id)?.records) {
            telemetry::attach(&span, &told);
        }
        let outcome = engine.stop(stop).drive().instrument(span).await;
        drop(listening);
        drop(screen);
        drain.finish().await;

        let seen = runs.see(&id)?;
        for closed in superseding::close_older(older, &seen)? {
            export(&runs.see(&closed)?).await;
        }
        if seen.replayed.state.closed().is_some() {
            past::kept_if_any(self.global);
        }
        export(&seen).await;
        if matches!(outcome, Ok(RunOutcome::RollBack)) {
            self.failed(&runs, &seen)?;
            // What was said beforehand to this run's gates was not said to those of a rollback.
            let consent = ConsentArgs { yes: false, ..self.consent };
            return rolling_back::hand_over(self.global, &id, consent).await;
        }
        let halfway = matches!(
            outcome,
            Ok(RunOutcome::Failed { .. } | RunOutcome::WaitingAtGate { .. } | RunOutcome::Closed(Verdict::Aborted))
        );
        let runs_now = match halfway {
            true => what_runs::now(&self.access, &seen.replayed.plan, &seen.records).await,
            false => Vec::new(),
        };
        // The records of a run on hundreds of hosts take megabytes, and what follows reads them again.
        drop(seen);
        self.ending(&runs, &id, outcome, &runs_now)
    }

    /// Says what failed, before another run rolls it back.
    fn failed(&self, runs: &Runs, seen: &Seen) -> Result<(), Problem> {
        let (id, failures) = (&seen.replayed.id, seen.replayed.state.failures());
        eprintln!("{}", phases::table(&seen.report()?, Colour::of_stderr()));
        let told = show::failures(&failures).join("\n");
        let what = Problem::new(Exit::Failed, format!("run {id} stopped: {} failed", failures.len()));
        eprintln!(
            "{} {}",
            Colour::of_stderr().bad("error:"),
            what.observed(told).next(runs.again(&format!("show {id}")))
        );
        Ok(())
    }

    fn engine(&self, run: Run, cluster: &Cluster, runs: &Runs, screen: &Screen) -> Result<Engine, Problem> {
        let replayed = run.replayed();
        let who = place::who();
        let claims = ClusterClaims {
            claims: Claims::new(Hosts::new(self.access.clone()), replayed.opened.lost.clone()),
            holder: who.clone(),
            takeover: takeover(self.consent, &replayed.plan),
            screen: screen.clone(),
            clock: Clock::with_speed(cluster.speed()),
            stuck_reset: StuckReset::of(&replayed.plan),
        };
        let detail = if self.global.verbose > 0 { Detail::More } else { Detail::Plain };
        let progress = Progress::new(&replayed.plan, Colour::of_stderr(), detail);
        let before = runs.see(&replayed.id)?.records;
        let watcher = Watcher::new(progress, &before, screen.clone(), self.global.output);
        let gates = if self.consent.yes || replayed.opened.yes { Gates::Yes } else { Gates::Ask };
        let clock = Clock::with_speed(cluster.speed());
        let offer = Offer {
            access: self.access.clone(),
            cluster: replayed.cluster.clone(),
            run: replayed.id.clone(),
            runs: Runs::of(self.global)?,
        };
        let catalogue = Arc::new(StepsCatalogue::new(self.access.clone()));
        Ok(Engine::new(run, catalogue, clock)
            .claims(Arc::new(claims))
            .consent(Arc::new(Keyboard::new(who.clone())))
            .rollback(Arc::new(offer))
            .observe(Box::new(watcher))
            .revisions(self.revisions)
            .gates(gates)
            .signed(who.rsplit('@').next().unwrap_or_default(), env!("CARGO_PKG_VERSION")))
    }

    /// `runs_now`: what runs on the hosts of a run that stopped halfway.
    fn ending(
        &self,
        runs: &Runs,
        id: &RunId,
        outcome: Result<RunOutcome, EngineError>,
        runs_now: &[String],
    ) -> Outcome {
        let resume = runs.again(&format!("resume {id}"));
        let outcome = outcome.map_err(|error| engine_problem(&error, id, &resume))?;
        if !matches!(outcome, RunOutcome::Paused { .. } | RunOutcome::WaitingAtGate { .. }) {
            eprintln!("{}", phases::table(&runs.see(id)?.report()?, Colour::of_stderr()));
        }
        match outcome {
            RunOutcome::Closed(verdict) => self.closed(runs, id, &verdict, runs_now),
            RunOutcome::Failed { instances } => self.stopped_by(runs, id, &instances, runs_now),
            RunOutcome::Stopped { going_on } => {
                let told = going_on.iter().map(|work| match &work.unit {
                    Some(unit) => format!("{} goes on as {unit} on {}", work.instance, work.target),
                    None => format!("{} was cut off while it looked at {}", work.instance, work.target),
                });
                Err(Problem::new(Exit::Stopped, format!("run {id} was stopped and can be resumed"))
                    .observed(told.collect::<Vec<_>>().join("\n"))
                    .next(format!("{resume}{}", self.way_out(runs, id)?)))
            }
            RunOutcome::WaitingAtGate { gates } if gates.iter().any(|gate| gate.step == ROLLBACK_GATE) => {
                self.offered(runs, id, &gates, runs_now)
            }
            RunOutcome::WaitingAtGate { gates } => {
                let told = gates.iter().map(|gate| format!("{}: {}", gate.step, gate.show));
                let approve: Vec<String> =
                    gates.iter().map(|gate| runs.again(&format!("approve {id} {}", gate.step))).collect();
                Err(Problem::new(Exit::Stopped, format!("run {id} waits for consent, and there is no terminal"))
                    .observed(told.collect::<Vec<_>>().join("\n"))
                    .next(format!("{}\n{resume}", approve.join("\n"))))
            }
            RunOutcome::RollBack => {
                Err(Problem::new(Exit::Stopped, format!("run {id} is to be rolled back")).next(resume))
            }
            RunOutcome::Paused { why } => {
                Err(Problem::new(Exit::Stopped, format!("run {id} is paused")).observed(why).next(resume))
            }
        }
    }

    /// The run has failed, and nobody is here to say whether it is to be rolled back.
    fn offered(&self, runs: &Runs, id: &RunId, gates: &[OpenGate], runs_now: &[String]) -> Outcome {
        let seen = runs.see(id)?;
        let failures = seen.replayed.state.failures();
        let mut told = show::failures(&failures);
        told.extend(runs_now.iter().cloned());
        told.extend(held_lines(&seen.records));
        told.extend(gates.iter().map(|gate| format!("{}: {}", gate.step, gate.show)));
        let resume = runs.again(&format!("resume {id}"));
        let approve = runs.again(&format!("approve {id} {ROLLBACK_GATE}"));
        let what = format!("run {id} failed and waits for consent to a rollback, and there is no terminal");
        Err(Problem::new(Exit::Stopped, what).observed(told.join("\n")).next(format!(
            "{approve}   (then `{resume}` rolls back)\n{resume}   (tries again what failed){}",
            self.way_out(runs, id)?
        )))
    }

    /// What failed, what runs, what is held, and every way on.
    fn stopped_by(&self, runs: &Runs, id: &RunId, instances: &[(InstanceId, Failure)], runs_now: &[String]) -> Outcome {
        let classes: Vec<FailureClass> = instances.iter().map(|(_, failure)| failure.class).collect();
        let mut told = show::failures(instances);
        told.extend(runs_now.iter().cloned());
        told.extend(held_lines(&runs.see(id)?.records));
        let next = instances.iter().find(|(_, failure)| !failure.next.is_empty());
        let next = next.map(|(_, failure)| format!("{}\n", failure.next)).unwrap_or_default();
        let resume = runs.again(&format!("resume {id}"));
        Err(Problem::new(exit_of(&classes), format!("run {id} stopped: {} failed", instances.len()))
            .observed(told.join("\n"))
            .next(format!("{next}{resume}   (after the cause is gone){}", self.way_out(runs, id)?)))
    }

    /// The line that says how the run can be given up, and what that does; none when it cannot or is already.
    fn way_out(&self, runs: &Runs, id: &RunId) -> Result<String, Problem> {
        let seen = runs.see(id)?;
        let state = &seen.replayed.state;
        if state.aborting().is_some() || state.cannot_abort().is_some() {
            return Ok(String::new());
        }
        let what = match state.has_something_to_take_back() {
            true => "   (puts the state before the run back)",
            false if what_runs::lines(&seen.replayed.plan, &seen.records).is_empty() => "",
            false => "   (leaves every host on the version that it has, uncordoned and unfenced)",
        };
        let back = runs
            .way_back(&seen)
            .map(|back| format!("\n{back}   (undoes the upgrade: writes since the point are lost)"));
        Ok(format!("\n{}{what}{}", runs.again(&format!("abort {id}")), back.unwrap_or_default()))
    }

    fn closed(&self, runs: &Runs, id: &RunId, verdict: &Verdict, runs_now: &[String]) -> Outcome {
        let report = runs.again(&format!("report {id}"));
        match verdict {
            Verdict::Succeeded => {
                let over = phases::over_budget(&runs.see(id)?.report()?);
                if self.global.output != Output::Json {
                    eprintln!("run {id} succeeded\nnext: {report}");
                }
                if !over.is_empty() {
                    eprintln!("{} over budget: {}", Colour::of_stderr().warn("warning:"), over.join(", "));
                }
                let strict = self.consent.fail_over_budget && !over.is_empty();
                Ok(if strict { Exit::OverBudget } else { Exit::Done })
            }
            Verdict::Aborted => {
                let seen = runs.see(id)?;
                let left = held_lines(&seen.records);
                let went_back = seen.replayed.state.went_back();
                if left.is_empty() && went_back {
                    eprintln!(
                        "run {id} was aborted and the state before it is back: every server votes in etcd again with the \
                         data that it had, on the version that it ran; nothing was restored, no write was lost\nnext: {}\n{report}",
                        runs.again("run health")
                    );
                } else {
                    let back = runs.way_back(&seen).or((!left.is_empty()).then(|| runs.again("run rollback")));
                    let back = back.map(|back| format!("{back}\n")).unwrap_or_default();
                    eprintln!(
                        "{}\nnext: {}{back}{report}",
                        given_up(id, &left, runs_now),
                        again(runs, &seen, runs_now)
                    );
                }
                Ok(Exit::Failed)
            }
            Verdict::Superseded { by } => {
                Err(Problem::new(Exit::Failed, format!("run {id} was superseded by {by}")).next(report))
            }
        }
    }
}

/// Sends the spans of a run that have ended since they were sent last.
async fn export(seen: &Seen) {
    let parent = seen.replayed.opened.trace_parent.as_deref();
    telemetry::export(parent, trace::spans_since_last_stop(&seen.records).unwrap_or_default()).await;
}

/// What a run that was given up leaves: what it still has on hosts, and what runs on each.
fn given_up(id: &RunId, left: &[String], runs_now: &[String]) -> String {
    let down = match left.is_empty() {
        true => "what it had on hosts was taken down: no cordon, no fence, no hold of it is left".to_owned(),
        false => format!("it leaves the cluster so:\n{}", left.join("\n")),
    };
    match runs_now.is_empty() {
        true => format!("run {id} was aborted; {down}"),
        false => format!("run {id} was aborted; {down}\n{}", runs_now.join("\n")),
    }
}

/// The line that begins the same anew, after a run that was given up halfway.
fn again(runs: &Runs, seen: &Seen, runs_now: &[String]) -> String {
    match runs_now.is_empty() {
        true => String::new(),
        false => {
            format!("{}   (goes on from where it is)\n", runs.again(&format!("run {}", seen.replayed.plan.runbook)))
        }
    }
}

/// Whose unreleased claim this run may pass over.
pub fn takeover(consent: ConsentArgs, plan: &Plan) -> Takeover {
    match (consent.takeover, plan.supersedes) {
        (true, _) => Takeover::Anyone,
        (false, true) => Takeover::OwnRuns,
        (false, false) => Takeover::No,
    }
}

/// The code for a run that failed: 5 and 4 tell that nothing is wrong with the steps themselves.
fn exit_of(classes: &[FailureClass]) -> Exit {
    if classes.contains(&FailureClass::Fenced) {
        Exit::Held
    } else if classes.iter().all(|class| *class == FailureClass::Refused) {
        Exit::Refused
    } else {
        Exit::Failed
    }
}

fn engine_problem(error: &EngineError, id: &RunId, again: &str) -> Problem {
    let exit = match error {
        EngineError::Claim(ClaimError::HeldBy { .. }) => Exit::Held,
        EngineError::Claim(ClaimError::Failed(_))
        | EngineError::Revision { .. }
        | EngineError::UnknownAction { .. } => Exit::Refused,
        EngineError::Journal(_) | EngineError::State(_) | EngineError::Stuck { .. } => Exit::Failed,
    };
    let problem = Problem::new(exit, format!("run {id} cannot go on")).observed(error);
    match error {
        EngineError::Claim(ClaimError::Failed(failure)) if !failure.next.is_empty() => {
            problem.next(format!("{again}\n{}", failure.next))
        }
        EngineError::Claim(ClaimError::HeldBy { holder, .. }) => problem.next(format!(
            "{again}   (when {holder} is done)\n{again} --takeover   (when {holder} will not go on, for certain)"
        )),
        _ => problem.next(again),
    }
}

/// Why a run could not be created or opened, in three parts.
pub fn run_problem(runs: &Runs, id: &RunId, error: &RunError) -> Problem {
    if let RunError::Journal(JournalError::Locked { .. }) = error {
        let engine = runs.see(id).ok().and_then(|seen| seen.engine());
        let who = engine.map_or_else(String::new, |(pid, machine)| format!(": process {pid} on {machine}"));
        return Problem::new(Exit::Held, format!("run {id} is driven by another engine{who}")).next(format!(
            "{}\n{}",
            runs.again(&format!("watch {id}")),
            runs.again(&format!("pause {id}"))
        ));
    }
    Problem::new(Exit::Failed, format!("cannot open run {id}")).observed(error)
}
