//! `status` and `watch`: how a run stands. They read the journal only, and take no lock.

use std::time::Duration;

use jiff::Timestamp;
use rke2flow_engine::clock::Clock;
use rke2flow_engine::journal::{self, RunDirectory};
use rke2flow_engine::record::{Event, Record};
use serde_json::{Value, json};

use super::{block_on, print, print_json};
use crate::args::{Global, Output, RunArg};
use crate::exit::{Exit, Outcome, Problem};
use crate::held::held;
use crate::past::{self, Rest};
use crate::runs::{Runs, Seen, Stands};
use crate::show::progress::{Detail, Progress};
use crate::show::{self, Colour, phases};
use crate::what_runs;

/// How often `watch` looks.
const WATCH_EVERY: Duration = Duration::from_millis(200);

/// Shows how a run stands.
pub fn status(global: &Global, args: &RunArg) -> Outcome {
    let runs = Runs::of(global)?;
    let seen = runs.to_look_at(args.run.as_ref())?;
    match global.output {
        Output::Json => print_json(&status_json(&runs, &seen)?),
        _ => print(&status_text(&runs, &seen)?),
    }
    Ok(Exit::Done)
}

pub(super) fn headline(seen: &Seen) -> String {
    let plan = &seen.replayed.plan;
    let engine = match (seen.stands(), seen.engine()) {
        (Stands::Running | Stands::Paused, Some((pid, machine))) if seen.directory.is_running() => {
            format!(" by process {pid} on {machine}")
        }
        _ => String::new(),
    };
    format!("run {} of {} on {}: {}{engine}", seen.replayed.id, plan.runbook, plan.cluster, seen.stands().word())
}

fn status_text(runs: &Runs, seen: &Seen) -> Result<String, Problem> {
    let replayed = &seen.replayed;
    let state = &replayed.state;
    let mut lines = vec![headline(seen), String::new(), phases::table(&seen.report()?, Colour::of_stdout())];
    let mut section = |title: &str, entries: Vec<String>| {
        if !entries.is_empty() {
            lines.push(format!("\n{title}:"));
            lines.extend(entries.into_iter().map(|entry| format!("  {entry}")));
        }
    };
    let under_way = state.in_flight().into_iter().map(|(instance, attempt)| format!("{instance} (attempt {attempt})"));
    section(if seen.directory.is_running() { "under way" } else { "cut off" }, under_way.collect());
    section("given up", state.aborting().filter(|_| state.closed().is_none()).map(str::to_owned).into_iter().collect());
    section("failed", show::failures(&state.failures()));
    section(
        "waits for consent",
        state.open_gates().iter().map(|gate| format!("{}: {}", gate.step, gate.show)).collect(),
    );
    let links = [
        replayed.opened.parent.as_ref().map(|parent| format!("it rolls back run {parent}")),
        state.rolled_back_by().map(|run| format!("run {run} rolls it back")),
    ];
    section("rollback", links.into_iter().flatten().collect());
    section("paused", state.paused().map(str::to_owned).into_iter().collect());
    section("versions", what_runs::lines(&seen.replayed.plan, &seen.records));
    if state.closed().is_none() {
        section("on hosts", held(&seen.records).iter().map(|held| format!("{}: {}", held.target, held.what)).collect());
    }
    section("forecast", rest(runs, seen).map(|rest| rest.line()).into_iter().collect());
    section("next", next(runs, seen));
    Ok(lines.join("\n"))
}

/// What is left of it.
fn rest(runs: &Runs, seen: &Seen) -> Option<Rest> {
    Rest::of(seen, &past::durations(runs.global(), &seen.replayed.plan), Timestamp::now())
}

fn next(runs: &Runs, seen: &Seen) -> Vec<String> {
    let id = &seen.replayed.id;
    let gates = seen.replayed.state.open_gates();
    let approve = gates.iter().map(|gate| runs.again(&format!("approve {id} {}", gate.step)));
    let rest: Vec<String> = match seen.stands() {
        Stands::Closed(_) => vec![format!("report {id}")],
        Stands::Running => vec![format!("watch {id}")],
        Stands::Paused => vec![format!("resume {id}")],
        Stands::RolledBack => vec![format!("resume {id}")],
        Stands::Failed | Stands::AtGate | Stands::Interrupted => vec![format!("resume {id}"), format!("abort {id}")],
    };
    let back = match seen.stands() {
        Stands::Failed | Stands::Interrupted => runs.way_back(seen),
        _ => None,
    };
    approve.chain(rest.iter().map(|rest| runs.again(rest))).chain(back).collect()
}

pub(super) fn status_json(runs: &Runs, seen: &Seen) -> Result<Value, Problem> {
    let replayed = &seen.replayed;
    let state = &replayed.state;
    let steps = replayed.plan.steps.iter().enumerate().map(|(index, step)| {
        let progress = state.progress(index);
        json!({
            "id": step.id, "targets": progress.targets, "begun": progress.begun, "done": progress.done,
            "failed": progress.failed, "left_out": step.left_out,
        })
    });
    let under_way =
        state.in_flight().into_iter().map(|(instance, attempt)| json!({"instance": instance, "attempt": attempt}));
    let failed =
        state.failures().into_iter().map(|(instance, failure)| json!({"instance": instance, "failure": failure}));
    let gates = state
        .open_gates()
        .into_iter()
        .map(|gate| json!({"step": gate.step, "instance": gate.instance, "show": gate.show}));
    let engine = seen.engine().filter(|_| seen.directory.is_running());
    let versions = what_runs::proved(&replayed.plan, &seen.records).into_iter();
    let versions: Vec<Value> = versions.map(|(host, proved)| json!({"host": host, "proved": proved})).collect();
    Ok(json!({
        "schema": "rke2flow.dev/status/v1",
        "run": replayed.id,
        "runbook": replayed.plan.runbook,
        "cluster": replayed.plan.cluster,
        "state": seen.stands().word(),
        "opened_at": replayed.opened_at,
        "last_record_at": replayed.last_at,
        "speed": replayed.opened.speed,
        "engine": engine.map(|(pid, machine)| json!({"pid": pid, "machine": machine})),
        "phases": seen.report()?.phases,
        "steps": steps.collect::<Vec<_>>(),
        "under_way": under_way.collect::<Vec<_>>(),
        "failed": failed.collect::<Vec<_>>(),
        "gates": gates.collect::<Vec<_>>(),
        "paused": state.paused(),
        "aborting": state.aborting(),
        "rolls_back": replayed.opened.parent,
        "rolled_back_by": state.rolled_back_by(),
        "versions": versions,
        "on_hosts": if state.closed().is_none() { held(&seen.records) } else { Vec::new() },
        "forecast": rest(runs, seen).map(|rest| rest.json()),
        "next": next(runs, seen),
    }))
}

/// Follows a run until its engine stops.
pub fn watch(global: &Global, args: &RunArg) -> Outcome {
    let runs = Runs::of(global)?;
    let seen = runs.to_look_at(args.run.as_ref())?;
    let detail = if global.verbose > 0 { Detail::More } else { Detail::Plain };
    let mut progress = Progress::new(&seen.replayed.plan, Colour::of_stdout(), detail);
    let mut show = |record: &Record| match global.output {
        Output::Json => print(&serde_json::to_string(record).expect("it was read from JSON")),
        _ => progress.record(record).iter().for_each(|line| print(line)),
    };
    seen.records.iter().for_each(&mut show);
    if let Some(rest) = rest(&runs, &seen) {
        eprintln!("{}", rest.line());
    }
    let mut shown = seen.replayed.state.closed().is_some();
    let mut known = Known { records: seen.records.len() as u64, bytes: 0 };
    block_on(async {
        let clock = Clock::real();
        while !shown {
            // Asked before reading: what an engine wrote before it went is read after.
            let alive = seen.directory.is_running();
            shown = follow(&seen.directory, &mut known, &mut show)? || !alive;
            if !shown {
                clock.sleep(WATCH_EVERY).await;
            }
        }
        Ok(Exit::Done)
    })?;
    let now = runs.see(&seen.replayed.id)?;
    eprintln!("{}", headline(&now));
    Ok(Exit::Done)
}

/// How far a journal has been shown.
struct Known {
    records: u64,
    bytes: u64,
}

/// Shows what is new; says whether the run is closed. A journal that has not grown is not read again.
fn follow(directory: &RunDirectory, known: &mut Known, show: &mut dyn FnMut(&Record)) -> Result<bool, Problem> {
    let bytes = std::fs::metadata(directory.journal()).map(|file| file.len()).unwrap_or_default();
    if bytes == known.bytes {
        return Ok(false);
    }
    known.bytes = bytes;
    let mut closed = false;
    journal::read(directory.path(), &mut |record| {
        if record.seq >= known.records {
            known.records = record.seq + 1;
            closed |= matches!(record.event, Event::RunClosed { .. });
            show(&record);
        }
    })
    .map_err(|error| Problem::new(Exit::Failed, "cannot follow the run").observed(error))?;
    Ok(closed)
}
