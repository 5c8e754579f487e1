//! What is kept of runs that are over: which durations count, and the file that keeps them.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rke2flow_engine::clock::Clock;
use rke2flow_engine::cluster::Role;
use rke2flow_engine::duration::Span;
use rke2flow_engine::history::{Durations, Entry, HistoryError, Kept, Kind, Mttr, Store, Where};
use rke2flow_engine::id::{HostName, RunId};
use rke2flow_engine::plan::{Forecast, HostEntry, Plan, StepPlan};
use rke2flow_engine::report::Report;
use rke2flow_engine::run::{Engine, Gates, NewRun, Outcome, Run, Stop};
use rke2flow_engine::state::State;
use serde_json::json;
use tokio::sync::watch;

use crate::world::{Scenario, World, act, after, doing, new_run, on, plan, step};

const CLUSTER: &str = r#"(format: 1, name: "toys", hosts: [(name: "h1", address: "10.0.0.1", role: Server)])"#;

fn takes(mark: &str, seconds: u64) -> rke2flow_engine::action::PlannedAction {
    act("Make", json!({"mark": mark, "takes": seconds}))
}

/// A server and an agent, one after the other: 30 s each; then an outage of 20 s behind a gate.
fn roll() -> Plan {
    let roll = doing(on("roll", &["h1", "h2"], 1), vec![takes("a", 30)]);
    let ask = after(doing(step("ask"), vec![act("Ask", json!({"mark": "ask", "show": "go on?"}))]), &[0]);
    let out = StepPlan { phase: 1, ..after(doing(on("out", &["h1"], 1), vec![takes("b", 20)]), &[1]) };
    let host = |name: &str, role| HostEntry {
        name: HostName::new(name).unwrap(),
        address: format!("10.0.0.{}", &name[1..]),
        role,
        lost: false,
    };
    let mut plan = plan(vec![roll, ask, out]);
    plan.hosts = vec![host("h1", Role::Server), host("h2", Role::Agent)];
    plan.budget = Some(Span::from_secs(30));
    plan
}

fn real(plan: Plan) -> NewRun {
    NewRun { cluster: CLUSTER.to_owned(), ..new_run(plan) }
}

fn made(place: Where) -> Kind {
    Kind { action: "Make".to_owned(), place }
}

fn rounded(entry: &Entry, place: Where) -> Vec<f64> {
    entry.took.get(&made(place)).into_iter().flatten().map(|seconds| seconds.round()).collect()
}

async fn entry_of(new: NewRun) -> Entry {
    let scenario = Scenario::new();
    scenario.begin_with(new).gates(Gates::Yes).drive().await.unwrap();
    Entry::of(&scenario.records(), &World::default()).unwrap().unwrap()
}

#[tokio::test(start_paused = true)]
async fn what_succeeded_is_measured_by_action_and_place() {
    let entry = entry_of(real(roll())).await;
    assert_eq!((rounded(&entry, Where::Server), rounded(&entry, Where::Agent)), (vec![20.0, 30.0], vec![30.0]));
    assert_eq!((entry.took.len(), entry.rehearsal, entry.cluster.as_str()), (2, None, "toys"));
    assert_eq!(entry.recovery.unwrap().seconds.round(), 20.0);
}

#[tokio::test(start_paused = true)]
async fn failed_attempts_waits_for_people_and_goals_that_held_already_are_not_measured() {
    let scenario = Scenario::new();
    scenario.world.mark("there@operator");
    let flaky = doing(step("flaky"), vec![act("Make", json!({"mark": "flaky", "takes": 7, "fails": 1}))]);
    let ask = after(doing(step("ask"), vec![act("Ask", json!({"mark": "ask", "show": "?"}))]), &[0]);
    let there = after(doing(step("there"), vec![takes("there", 9)]), &[1]);
    let looks = after(doing(step("looks"), vec![act("Watch", json!({"mark": "there"}))]), &[2]);
    scenario.begin_with(real(plan(vec![flaky, ask, there, looks]))).gates(Gates::Yes).drive().await.unwrap();
    let entry = Entry::of(&scenario.records(), &scenario.world).unwrap().unwrap();
    let kinds: Vec<String> = entry.took.keys().map(ToString::to_string).collect();
    assert_eq!(
        (kinds, rounded(&entry, Where::Operator)),
        (vec!["Make@operator".into(), "Watch@operator".into()], vec![7.0])
    );
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_a_crash_cut_in_two_is_not_measured() {
    let scenario = Scenario::new();
    let (stop, stopping) = watch::channel(Stop::Run);
    let running = tokio::spawn(scenario.begin_with(real(roll())).gates(Gates::Yes).stop(stopping).drive());
    tokio::time::sleep(Duration::from_secs(40)).await;
    stop.send(Stop::Now).unwrap();
    running.await.unwrap().unwrap();
    assert_eq!(Entry::of(&scenario.records(), &World::default()).unwrap(), None, "it is open");
    scenario.resume().gates(Gates::Yes).drive().await.unwrap();
    let entry = Entry::of(&scenario.records(), &World::default()).unwrap().unwrap();
    assert_eq!((rounded(&entry, Where::Server), rounded(&entry, Where::Agent)), (vec![20.0, 30.0], vec![]));
}

#[tokio::test(start_paused = true)]
async fn a_rehearsal_is_never_measured_at_whichever_speed() {
    let marked = CLUSTER.replace("name: \"toys\"", "name: \"toys\", rehearsal: (speed: 1)");
    let at_life_speed = entry_of(NewRun { cluster: marked, ..new_run(roll()) }).await;
    assert_eq!((at_life_speed.rehearsal, at_life_speed.took.len()), (Some(1), 0));
    let mut fast = real(roll());
    fast.opened.speed = 50;
    assert_eq!(entry_of(fast).await.rehearsal, Some(50));
    let unreadable = entry_of(NewRun { cluster: "(format: 7)".to_owned(), ..new_run(roll()) }).await;
    assert_eq!(unreadable.rehearsal, Some(1));
}

#[tokio::test(start_paused = true)]
async fn what_is_left_of_a_run_is_forecast_from_what_is_done_and_what_was_begun() {
    let scenario = Scenario::new();
    let (stop, stopping) = watch::channel(Stop::Run);
    let running = tokio::spawn(scenario.begin_with(real(roll())).gates(Gates::Yes).stop(stopping).drive());
    tokio::time::sleep(Duration::from_secs(40)).await;
    stop.send(Stop::Now).unwrap();
    running.await.unwrap().unwrap();
    let run = Run::resume(Box::new(rke2flow_engine::journal::MemoryJournal::open(scenario.disk.clone()))).unwrap();
    let state: &State = &run.replayed().state;
    let took = |place, seconds: f64| (made(place), vec![seconds]);
    let durations = Durations::of([[took(Where::Server, 25.0), took(Where::Agent, 31.0)].into()]);
    let rest = Forecast::rest(state, &World::default(), &durations, &|slot| {
        Duration::from_secs(if slot.target == 1 { 10 } else { 0 })
    })
    .unwrap();
    // The first of `roll` is done; 10 s of the second are over; the outage is to come.
    assert_eq!((rest.total, rest.outage), (Span::from_secs(21 + 25), Span::from_secs(25)));
}

#[tokio::test(start_paused = true)]
async fn a_report_is_compared_with_what_was_forecast() {
    let scenario = Scenario::new();
    scenario.begin_with(real(roll())).gates(Gates::Yes).drive().await.unwrap();
    let durations = Durations::of([[(made(Where::Server), vec![18.0]), (made(Where::Agent), vec![40.0])].into()]);
    let forecast = Forecast::measured(&roll(), &World::default(), &durations).unwrap();
    let report = Report::of(&scenario.records()).unwrap().against(&forecast);
    let text = report.to_text();
    let section = text.split("\n\n").find(|section| section.starts_with("against")).unwrap();
    insta::assert_snapshot!(section);
}

/// Runs the plan to its end in a run directory below `state`.
async fn run_in(state: &Path, id: &str, plan: Plan) {
    let id = RunId::new(id).unwrap();
    let clock = Clock::real();
    let run = Run::create(&state.join("runs"), NewRun { id, ..real(plan) }, &clock).unwrap();
    let outcome = Engine::new(run, Arc::new(World::default()), clock).gates(Gates::Yes).drive().await.unwrap();
    assert!(matches!(outcome, Outcome::Closed(_)));
}

fn refresh(state: &Path) -> Kept {
    Store::at(state).refresh(&World::default()).unwrap()
}

fn runs(kept: &Kept) -> Vec<&str> {
    kept.entries.iter().map(|entry| entry.run.as_str()).collect()
}

#[tokio::test(start_paused = true)]
async fn a_run_that_was_pruned_stays_in_the_history() {
    let state = tempfile::tempdir().unwrap();
    assert_eq!(refresh(state.path()), Kept::default());
    assert!(!Store::at(state.path()).path().exists(), "nothing is written about nothing");
    run_in(state.path(), "260101-0000-aaaa", roll()).await;
    assert_eq!(runs(&refresh(state.path())), ["260101-0000-aaaa"]);
    std::fs::remove_dir_all(state.path().join("runs/260101-0000-aaaa")).unwrap();
    run_in(state.path(), "260102-0000-bbbb", roll()).await;
    let kept = refresh(state.path());
    assert_eq!(runs(&kept), ["260101-0000-aaaa", "260102-0000-bbbb"]);
    assert_eq!(kept.durations(&roll()).count(&made(Where::Server)), 4);
    assert_eq!(refresh(state.path()), kept, "reading it again changes nothing");
}

#[tokio::test(start_paused = true)]
async fn damaged_lines_are_told_and_made_again_from_the_runs() {
    let state = tempfile::tempdir().unwrap();
    for id in ["260101-0000-aaaa", "260102-0000-bbbb"] {
        run_in(state.path(), id, roll()).await;
    }
    let before = refresh(state.path());
    let file = Store::at(state.path()).path();
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, &text[..text.len() - 40]).unwrap();
    let mended = refresh(state.path());
    assert_eq!(mended.entries, before.entries);
    assert!(mended.notes[0].contains("1 line of") && mended.notes[0].contains("could not be read"), "{mended:?}");
    assert!(file.with_extension("ndjson.damaged").exists());
    assert_eq!(refresh(state.path()), before);
}

#[tokio::test(start_paused = true)]
async fn what_a_newer_version_wrote_is_neither_read_nor_overwritten() {
    let state = tempfile::tempdir().unwrap();
    run_in(state.path(), "260101-0000-aaaa", roll()).await;
    let file = Store::at(state.path()).path();
    std::fs::write(&file, "{\"v\":2,\"run\":7}\n").unwrap();
    let refused = Store::at(state.path()).refresh(&World::default()).unwrap_err();
    assert!(matches!(refused, HistoryError::Newer { v: 2, .. }), "{refused}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "{\"v\":2,\"run\":7}\n");
}

#[tokio::test(start_paused = true)]
async fn two_processes_that_take_in_runs_at_once_lose_none() {
    let state = tempfile::tempdir().unwrap();
    for id in ["260101-0000-aaaa", "260102-0000-bbbb", "260103-0000-cccc"] {
        run_in(state.path(), id, roll()).await;
    }
    let all = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| refresh(state.path()))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
    });
    assert!(all.iter().all(|kept| runs(kept).len() == 3), "{all:?}");
    assert_eq!(runs(&refresh(state.path())).len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_cluster_keeps_its_history_while_its_servers_are_replaced_and_another_one_of_its_name_has_none() {
    let moved = |addresses: &[&str]| {
        let mut plan = roll();
        let server = plan.hosts[0].clone();
        let servers = addresses.iter().map(|address| HostEntry { address: (*address).to_owned(), ..server.clone() });
        plan.hosts = servers.chain([plan.hosts[1].clone()]).collect();
        plan
    };
    let state = tempfile::tempdir().unwrap();
    let plans = [moved(&["old", "both"]), moved(&["both", "new"])];
    for (id, plan) in ["260101-0000-aaaa", "260102-0000-bbbb"].into_iter().zip(plans) {
        run_in(state.path(), id, plan).await;
    }
    let kept = refresh(state.path());
    assert_eq!(kept.durations(&moved(&["new"])).runs(), 2);
    assert_eq!(kept.durations(&moved(&["elsewhere"])).runs(), 0);
    run_in(state.path(), "260103-0000-cccc", moved(&["elsewhere"])).await;
    assert_eq!(Mttr::of(&refresh(state.path()), None, 10).clusters.len(), 2);
}
