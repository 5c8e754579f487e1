//! Every script of `upgrade` and `rollback` cut off on its host after each of its commands: the step is tried again, and
//! the world comes to the same end.

#![allow(clippy::unwrap_used)] // test code

mod rehearsed;

use std::collections::BTreeSet;

use rehearsed::Rehearsed;
use rke2flow_engine::action::Failure;
use rke2flow_engine::cluster::Releases;
use rke2flow_engine::id::InstanceId;
use rke2flow_engine::record::Verdict;
use rke2flow_engine::run::Outcome;
use rke2flow_steps::command::{Change, NodePart};
use rke2flow_steps::point::RecoveryPoint;
use rke2flow_steps::transfer::Presigned;
use rke2flow_twin::{Fault, TwinSpec};
use serde_json::{Value, json};

const UPGRADE: &str = include_str!("../../../runbooks/upgrade.ron");
const ROLLBACK: &str = include_str!("../../../runbooks/rollback.ron");
const NEW: &str = "v1.34.1+rke2r1";

/// How a run ended: its world, and the kinds of change that it ordered.
struct End {
    world: Value,
    ordered: BTreeSet<String>,
    retried: bool,
}

#[test]
fn every_script_of_an_upgrade_can_be_cut_after_each_command() {
    cut_each(&[UPGRADE]);
}

#[test]
fn every_script_of_a_rollback_can_be_cut_after_each_command() {
    cut_each(&[UPGRADE, ROLLBACK]);
}

/// Cuts the first script of each kind in the last of these runbooks, after each of its stages.
fn cut_each(runbooks: &[&str]) {
    let undisturbed = paused(story(runbooks, None));
    let mut cuts = Vec::new();
    for change in undisturbed.ordered.iter().map(|name| known(name)) {
        let name = name_of(&change);
        let at = |stage| Fault::UnitCut { host: None, change: name.clone(), stage, times: 1 };
        cuts.extend((0..change.stages().len()).map(at));
    }
    let mut wrong = Vec::new();
    for cut in &cuts {
        let end = paused(story(runbooks, Some(cut.clone())));
        if !end.retried {
            wrong.push(format!("{cut:?}: nothing was cut"));
        }
        if without_planes(&end.world) != without_planes(&undisturbed.world) {
            wrong.push(format!("{cut:?}: {:#} became {:#}", undisturbed.world, end.world));
        }
    }
    println!("{} cuts in {} kinds of scripts: {:?}", cuts.len(), undisturbed.ordered.len(), undisturbed.ordered);
    assert!(wrong.is_empty(), "{} of {} cuts:\n{}", wrong.len(), cuts.len(), wrong.join("\n"));
}

async fn story(runbooks: &[&str], cut: Option<Fault>) -> End {
    let rehearsed = Rehearsed::new(TwinSpec::default(), NEW);
    let (last, before) = runbooks.split_last().unwrap();
    for text in before {
        let (_, outcome) = rehearsed.run("261122-0400-upgr", text, None).await;
        assert_eq!(outcome.unwrap().unwrap(), Outcome::Closed(Verdict::Succeeded));
    }
    let logged_before = rehearsed.twin.log().len();
    if let Some(cut) = cut.clone() {
        rehearsed.twin.inject(cut);
    }
    let (run, outcome) = rehearsed.run("261122-0500-last", last, None).await;
    let mut outcome = outcome.unwrap().unwrap();
    // An irreversible step is not tried again by itself: a person looks, and resumes.
    let left_to_a_person = matches!(&outcome, Outcome::Failed { instances } if irreversible(instances));
    if left_to_a_person {
        outcome = rehearsed.resume(&run).await.unwrap().unwrap();
    }
    assert_eq!(outcome, Outcome::Closed(Verdict::Succeeded), "{cut:?}");
    assert_eq!(rehearsed.twin.judge(), [], "{cut:?}");
    let log = rehearsed.twin.log().into_iter().skip(logged_before);
    let ordered = log.filter_map(|entry| entry.what.strip_prefix("change ").map(str::to_owned)).collect();
    let retried = run.disk.records().iter().any(|record| format!("{:?}", record.event).starts_with("RetryScheduled"));
    End { world: rehearsed.at_rest().await, ordered, retried: retried || left_to_a_person }
}

fn irreversible(failed: &[(InstanceId, Failure)]) -> bool {
    failed.iter().all(|(instance, _)| instance.as_str().starts_with("start-0/"))
}

/// How many control planes there were is no matter: a reset may have been repeated.
fn without_planes(world: &Value) -> Value {
    let mut world = world.clone();
    if let Some(fields) = world.as_object_mut() {
        fields.remove("control_planes");
    }
    world
}

fn name_of(change: &Change) -> String {
    format!("{change:?}").chars().take_while(|letter| letter.is_alphanumeric()).collect()
}

/// A change of this name; its stages do not depend on its fields.
fn known(name: &str) -> Change {
    let text = String::new;
    let parts = || vec![NodePart::Etcd, NodePart::Tls, NodePart::Cred, NodePart::ShippedCharts];
    let all = [
        Change::FetchRelease { version: text(), from: Releases::default(), arch: text() },
        Change::StageSnapshot { file: text(), sha256: text(), to: text() },
        Change::SaveSnapshot { name: text() },
        Change::UploadSnapshot { file: text(), sha256: text(), request: request() },
        Change::FetchSnapshot { to: text(), size: 0, sha256: text(), request: request() },
        Change::InstallVersion { version: text(), keep_replaced: true },
        Change::Hold,
        Change::ReleaseHold,
        Change::KillNode { grace_seconds: 1 },
        Change::MoveAside { parts: parts() },
        Change::PointAt { server: None },
        Change::ClusterReset { snapshot: text(), sha256: text() },
        Change::StartUnit,
        Change::RestartUnit,
        Change::WritePoint { point: Box::new(point()) },
        Change::CleanUp,
    ];
    all.into_iter().find(|change| name_of(change) == name).unwrap_or_else(|| panic!("{name} is not known to this test"))
}

fn request() -> Presigned {
    Presigned { url: String::new(), headers: Vec::new(), ca: String::new() }
}

fn point() -> RecoveryPoint {
    let empty = json!({
        "schema": "", "id": "", "cluster": "", "taken_at": "2026-01-01T00:00:00Z", "version": "", "snapshots": [],
        "token_sha256": "", "ca_sha256": "", "sentinel_before": "", "sentinel_after": "",
    });
    serde_json::from_value(empty).unwrap()
}

/// Runs on a clock that jumps to the next wait.
fn paused<T>(story: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(story)
}
