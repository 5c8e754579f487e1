//! An upgrade over two minor releases in one run: a round and a recovery point for each.

#![allow(clippy::unwrap_used)] // what tests are made of is test code as well

mod rehearsed;

use std::collections::BTreeSet;

use rehearsed::{Rehearsal, Rehearsed, Stop};
use rke2flow_engine::id::HostName;
use rke2flow_engine::record::{Event, Verdict};
use rke2flow_engine::run::Outcome;
use rke2flow_steps::host::Hosts;
use rke2flow_steps::point::RecoveryPoint;
use rke2flow_twin::inprocess::access;
use rke2flow_twin::{Fault, TwinSpec};
use serde_json::Value;

const UPGRADE: &str = include_str!("../../../runbooks/upgrade.ron");
const ROLLBACK: &str = include_str!("../../../runbooks/rollback.ron");
const OLD: &str = "v1.33.4+rke2r1";
const FIRST: &str = "v1.34.1+rke2r1";
const SECOND: &str = "v1.35.1+rke2r1";
const RUN: &str = "261122-0400-upgr";

/// The upgrade runbook for these releases.
fn over(releases: &[&str]) -> String {
    let written = r#"Versions(["${cluster.version}"])"#;
    assert!(UPGRADE.contains(written));
    UPGRADE.replace(written, &format!("Versions({releases:?})"))
}

fn back_to(point: &str) -> String {
    let written = r#"RecoveryPoint("latest")"#;
    assert!(ROLLBACK.contains(written));
    ROLLBACK.replace(written, &format!("RecoveryPoint({point:?})"))
}

fn twin() -> Rehearsed {
    Rehearsed::new(TwinSpec::default(), FIRST)
}

/// Every version that a node says it runs, and that is installed on a host.
async fn versions(rehearsed: &Rehearsed) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    running(&rehearsed.twin.fingerprint(), &mut found);
    let hosts = Hosts::new(access(&rehearsed.twin, rehearsed.cluster.clone()));
    for host in &rehearsed.cluster.hosts {
        found.insert(hosts.survey(&host.name).await.unwrap().installed);
    }
    found
}

fn running(value: &Value, found: &mut BTreeSet<String>) {
    let Some(fields) = value.as_object() else { return };
    for (name, field) in fields {
        match field.as_str() {
            Some(text) if ["version", "static_pods"].contains(&name.as_str()) => drop(found.insert(text.to_owned())),
            _ => running(field, found),
        }
    }
}

async fn points(rehearsed: &Rehearsed, server: &str) -> Vec<RecoveryPoint> {
    let hosts = Hosts::new(access(&rehearsed.twin, rehearsed.cluster.clone()));
    hosts.points(&HostName::new(server).unwrap()).await.unwrap()
}

/// Steps that began to change something.
fn changed(run: &Rehearsal) -> BTreeSet<String> {
    let begun = run.disk.records().into_iter().filter_map(|record| match record.event {
        Event::ApplyStarted { instance, .. } => Some(instance.to_string()),
        _ => None,
    });
    begun.collect()
}

#[tokio::test(start_paused = true)]
async fn two_minors_are_two_rounds_with_a_recovery_point_each_and_nothing_is_left_to_do() {
    let rehearsed = twin();
    let text = over(&[FIRST, SECOND]);
    let (_, outcome) = rehearsed.run(RUN, &text, None).await;
    assert_eq!(outcome.unwrap().unwrap(), Outcome::Closed(Verdict::Succeeded));
    assert_eq!(rehearsed.twin.judge(), []);
    assert_eq!(versions(&rehearsed).await, BTreeSet::from([SECOND.to_owned()]));
    for server in ["server-0", "server-1", "server-2"] {
        let points = points(&rehearsed, server).await;
        let told = |number: usize| {
            let point = points.iter().find(|point| point.id == format!("{RUN}-{number}")).unwrap();
            (point.version.clone(), point.before_version.clone(), point.mixed())
        };
        assert_eq!(told(1), (OLD.to_owned(), FIRST.to_owned(), None), "{server}");
        assert_eq!(told(2), (FIRST.to_owned(), SECOND.to_owned(), None), "{server}");
        let backups: BTreeSet<&str> = points.iter().map(|point| point.velero_backup.as_str()).collect();
        assert_eq!(backups.len(), 2, "{backups:?}");
    }
    let before = rehearsed.at_rest().await;
    let (again, outcome) = rehearsed.run("261122-0500-next", &text, None).await;
    assert_eq!(outcome.unwrap().unwrap(), Outcome::Closed(Verdict::Succeeded));
    assert_eq!(changed(&again), BTreeSet::new());
    assert_eq!(rehearsed.at_rest().await, before);
}

/// An upgrade that failed in its second round on the second server; something was written before that round's snapshot,
/// and something after it.
async fn failed_in_the_second_round() -> (Rehearsed, Rehearsal) {
    let rehearsed = twin();
    let text = over(&[FIRST, SECOND]);
    let second = Some(Stop::BeforeNth("server-0: change SaveSnapshot", 2));
    let (run, outcome) = rehearsed.run(RUN, &text, second).await;
    assert!(outcome.is_none(), "{outcome:?}");
    rehearsed.write("before-the-second-point");
    let restart = Some(Stop::BeforeFirst("server-2: change RestartUnit"));
    assert!(rehearsed.resume_until(&run, restart).await.is_none());
    rehearsed.write("after-the-second-point");
    // The second to go: server-1 leads etcd since the first round, and goes last.
    let host = Some(HostName::new("server-2").unwrap());
    rehearsed.twin.inject(Fault::UnitFails { host, change: "RestartUnit".to_owned(), stage: 0, times: 3 });
    let Some(Ok(Outcome::Failed { instances })) = rehearsed.resume(&run).await else { panic!("it did not fail") };
    assert!(instances.iter().any(|(id, _)| id.to_string() == "servers-2/RestartUnit@server-2"), "{instances:?}");
    (rehearsed, run)
}

#[tokio::test(start_paused = true)]
async fn a_rollback_after_a_failure_in_the_second_round_goes_back_one_release_and_a_second_one_two() {
    let (rehearsed, _) = failed_in_the_second_round().await;
    let (_, outcome) = rehearsed.run("261122-0500-back", &back_to(RUN), None).await;
    assert_eq!(outcome.unwrap().unwrap(), Outcome::Closed(Verdict::Succeeded));
    assert_eq!(rehearsed.twin.judge(), []);
    assert_eq!(versions(&rehearsed).await, BTreeSet::from([FIRST.to_owned()]));
    assert!(rehearsed.has("before-the-second-point") && !rehearsed.has("after-the-second-point"));

    let (_, outcome) = rehearsed.run("261122-0600-more", &back_to(&format!("{RUN}-1")), None).await;
    assert_eq!(outcome.unwrap().unwrap(), Outcome::Closed(Verdict::Succeeded));
    assert_eq!(rehearsed.twin.judge(), []);
    assert_eq!(versions(&rehearsed).await, BTreeSet::from([OLD.to_owned()]));
    assert!(!rehearsed.has("before-the-second-point"));
}

#[tokio::test(start_paused = true)]
async fn a_run_after_one_that_was_given_up_in_the_second_round_leaves_the_first_one_alone() {
    let (rehearsed, run) = failed_in_the_second_round().await;
    assert_eq!(rehearsed.abort(&run).await.unwrap(), Outcome::Closed(Verdict::Aborted));
    let (next, outcome) = rehearsed.run("261122-0500-next", &over(&[FIRST, SECOND]), None).await;
    assert_eq!(outcome.unwrap().unwrap(), Outcome::Closed(Verdict::Succeeded));
    assert_eq!(rehearsed.twin.judge(), []);
    assert_eq!(versions(&rehearsed).await, BTreeSet::from([SECOND.to_owned()]));
    let changed = changed(&next);
    let of_the_first: Vec<&String> =
        changed.iter().filter(|id| id.split('/').next().unwrap().ends_with("-1")).collect();
    assert!(of_the_first.is_empty(), "{of_the_first:?}");
    assert!(changed.contains("servers-2/RestartUnit@server-2"), "{changed:?}");
    assert!(!changed.contains("servers-2/RestartUnit@server-0"), "it runs the second release already");
}

#[tokio::test(start_paused = true)]
async fn a_release_that_does_not_exist_is_found_out_before_anything_is_changed() {
    let rehearsed = twin();
    let (run, outcome) = rehearsed.run(RUN, &over(&[FIRST, "v1.35.9+rke2r1"]), None).await;
    let Some(Ok(Outcome::Failed { instances })) = outcome else { panic!("{outcome:?}") };
    assert!(instances.iter().all(|(id, _)| id.to_string().starts_with("prefetch-new-2/")), "{instances:?}");
    let changed = changed(&run);
    assert!(!changed.iter().any(|id| id.starts_with("servers-")), "{changed:?}");
    assert_eq!(versions(&rehearsed).await, BTreeSet::from([OLD.to_owned()]));
}
