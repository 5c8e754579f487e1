//! Runs that were given up, and the runs after them: nothing of the old one is taken for the new one's.

#![allow(clippy::unwrap_used)] // what tests are made of is test code as well

mod rehearsed;

use std::time::Duration;

use rehearsed::{Rehearsal, Rehearsed, Stop};
use rke2flow_engine::id::HostName;
use rke2flow_engine::record::Verdict;
use rke2flow_engine::run::Outcome;
use rke2flow_steps::host::Hosts;
use rke2flow_twin::inprocess::access;
use rke2flow_twin::{Fault, TwinSpec, ViolationKind};

const UPGRADE: &str = include_str!("../../../runbooks/upgrade.ron");
const ROLLBACK: &str = include_str!("../../../runbooks/rollback.ron");
const NEW: &str = "v1.34.1+rke2r1";

/// An upgraded cluster, and a rollback of it that ended before the first effect with this text.
async fn cut_before(text: &'static str) -> (Rehearsed, Rehearsal) {
    let rehearsed = Rehearsed::new(TwinSpec::default(), NEW);
    let (_, outcome) = rehearsed.run("261122-0400-upgr", UPGRADE, None).await;
    assert_eq!(outcome.unwrap().unwrap(), Outcome::Closed(Verdict::Succeeded));
    let (run, outcome) = rehearsed.run("261122-0500-back", ROLLBACK, Some(Stop::BeforeFirst(text))).await;
    assert!(outcome.is_none(), "{text}: {outcome:?}");
    (rehearsed, run)
}

#[tokio::test(start_paused = true)]
async fn a_rollback_after_one_that_was_cut_off_anywhere_and_given_up_succeeds() {
    for text in ["KillNode", "InstallVersion", "MoveAside", "ClusterReset", "ReleaseHold", "StartUnit", "CleanUp"] {
        let (rehearsed, run) = cut_before(text).await;
        drop(rehearsed.abort(&run).await);
        let (_, outcome) = rehearsed.run("261122-0600-more", ROLLBACK, None).await;
        assert_eq!(outcome.unwrap().unwrap(), Outcome::Closed(Verdict::Succeeded), "{text}");
        assert_eq!(rehearsed.twin.judge(), [], "{text}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_rollback_given_up_whose_data_cannot_be_put_back_keeps_its_servers_held_and_says_so() {
    let (rehearsed, run) = cut_before("ClusterReset").await;
    rehearsed.twin.inject(Fault::UnitFails { host: None, change: "MoveBack".to_owned(), stage: 2, times: 9 });
    let Ok(Outcome::Failed { instances }) = rehearsed.abort(&run).await else { panic!("the abort hides what is down") };
    for server in ["server-0", "server-1", "server-2"] {
        let held = format!("back-data/MoveBack@{server}");
        assert!(instances.iter().any(|(id, _)| id.to_string() == held), "{instances:?}");
    }
    for server in ["server-0", "server-1", "server-2"] {
        rehearsed.twin.power_cycle(&HostName::new(server).unwrap());
    }
    rehearsed.twin.clock().sleep(Duration::from_secs(300)).await;
    let found = rehearsed.twin.judge();
    assert!(found.iter().all(|violation| violation.kind != ViolationKind::EmptyCluster), "{found:#?}");
}

#[tokio::test(start_paused = true)]
async fn two_rollbacks_in_a_row_both_succeed() {
    let (rehearsed, _) = cut_before("CleanUp").await;
    for id in ["261122-0600-more", "261122-0700-over"] {
        let (_, outcome) = rehearsed.run(id, ROLLBACK, None).await;
        assert_eq!(outcome.unwrap().unwrap(), Outcome::Closed(Verdict::Succeeded), "{id}");
        assert_eq!(rehearsed.twin.judge(), [], "{id}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_upgrade_after_one_that_was_given_up_halfway_makes_a_point_of_its_own_and_finishes() {
    for text in ["SaveSnapshot", "WritePoint", "InstallVersion", "RestartUnit"] {
        let rehearsed = Rehearsed::new(TwinSpec::default(), NEW);
        let (run, outcome) = rehearsed.run("261122-0400-upgr", UPGRADE, Some(Stop::BeforeFirst(text))).await;
        assert!(outcome.is_none(), "{text}: {outcome:?}");
        assert_eq!(rehearsed.abort(&run).await.unwrap(), Outcome::Closed(Verdict::Aborted), "{text}");
        let (_, outcome) = rehearsed.run("261122-0500-next", UPGRADE, None).await;
        assert_eq!(outcome.unwrap().unwrap(), Outcome::Closed(Verdict::Succeeded), "{text}");
        assert_eq!(rehearsed.twin.judge(), [], "{text}");
        let access = access(&rehearsed.twin, rehearsed.cluster.clone());
        for server in rehearsed.cluster.servers() {
            let points = Hosts::new(access.clone()).points(&server.name).await.unwrap();
            assert!(points.iter().any(|point| point.id == "261122-0500-next"), "{text}: {}", server.name);
        }
    }
}
