//! `status`, `watch`, `runs`, `show`, `logs`: looking at runs. They read the journal only, and take no lock.

use std::time::Duration;

use rke2flow_engine::clock::Clock;
use rke2flow_engine::id::InstanceId;
use rke2flow_engine::journal::{self, RunDirectory};
use rke2flow_engine::record::{Event, Record};
use rke2flow_engine::state::Standing;
use serde_json::{Value, json};

use super::{block_on, print, print_json};
use crate::args::{Global, LogsArgs, Output, RunArg, RunRequired};
use crate::exit::{Exit, Outcome, Problem};
use crate::held::held;
use crate::runs::{Runs, Seen, Stands};
use crate::show::progress::{Detail, Progress};
use crate::show::{self, Colour, phases};

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

fn headline(seen: &Seen) -> String {
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
    let state = &seen.replayed.state;
    let mut lines = vec![headline(seen), String::new(), phases::table(&seen.report()?, Colour::of_stdout())];
    let mut section = |title: &str, entries: Vec<String>| {
        if !entries.is_empty() {
            lines.push(format!("\n{title}:"));
            lines.extend(entries.into_iter().map(|entry| format!("  {entry}")));
        }
    };
    let under_way = state.in_flight().into_iter().map(|(instance, attempt)| format!("{instance} (attempt {attempt})"));
    section(if seen.directory.is_running() { "under way" } else { "cut off" }, under_way.collect());
    section("failed", state.failures().iter().map(|(instance, failure)| format!("{instance}: {failure}")).collect());
    section(
        "waits for consent",
        state.open_gates().iter().map(|gate| format!("{}: {}", gate.step, gate.show)).collect(),
    );
    section("paused", state.paused().map(str::to_owned).into_iter().collect());
    if state.closed().is_none() {
        section("on hosts", held(&seen.records).iter().map(|held| format!("{}: {}", held.target, held.what)).collect());
    }
    section("next", next(runs, seen));
    Ok(lines.join("\n"))
}

fn next(runs: &Runs, seen: &Seen) -> Vec<String> {
    let id = &seen.replayed.id;
    let gates = seen.replayed.state.open_gates();
    let approve = gates.iter().map(|gate| runs.again(&format!("approve {id} {}", gate.step)));
    let rest: Vec<String> = match seen.stands() {
        Stands::Closed(_) => vec![format!("report {id}")],
        Stands::Running => vec![format!("watch {id}")],
        Stands::Paused => vec![format!("continue {id}"), format!("resume {id}")],
        Stands::Failed | Stands::AtGate | Stands::Interrupted => vec![format!("resume {id}"), format!("abort {id}")],
    };
    approve.chain(rest.iter().map(|rest| runs.again(rest))).collect()
}

fn status_json(runs: &Runs, seen: &Seen) -> Result<Value, Problem> {
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
        "on_hosts": if state.closed().is_none() { held(&seen.records) } else { Vec::new() },
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
    let lane = (0..graph.lanes().len()).find(|&lane| {
        let position = state.lane_state(lane).position;
        graph.instance(lane, position).as_str() == instance
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
