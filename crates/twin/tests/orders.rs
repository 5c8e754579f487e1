//! Claims, receipts and cuts: an order is taken once, by whom the claim belongs to, and can be cut off anywhere.

#![allow(clippy::unwrap_used)] // what tests are made of is test code as well

mod hand;

use hand::{Hand, NEW, OLD, Snapshot, done, host, parts};
use proptest::prelude::{Strategy, prop_oneof, proptest};
use proptest::prop_assert;
use rke2flow_engine::action::Claim;
use rke2flow_engine::clock::Clock;
use rke2flow_steps::answer::{ClaimAnswer, ReceiptAnswer};
use rke2flow_steps::command::{Change, ClaimCommand, HostCommand, Look};
use rke2flow_steps::render::answer;
use rke2flow_twin::{EntryKind, Fault, Twin, TwinSpec};

#[tokio::test(start_paused = true)]
async fn an_order_that_is_sent_again_answers_its_receipt_and_runs_once() {
    let mut hand = Hand::new();
    let name = host("agent-0");
    let order = hand.order(&name, Change::Hold);
    assert_eq!(hand.give(&name, &order), ReceiptAnswer::Running);
    hand.sleep(10).await;
    assert!(done(&hand.give(&name, &order)));
    hand.must(&name, Change::CleanUp).await;
    assert!(done(&hand.give(&name, &order)));
    assert!(!hand.survey(&name).hold, "the order ran again");
    hand.no_violation();
}

#[tokio::test(start_paused = true)]
async fn a_stale_claim_is_refused_and_says_whose_it_is_now() {
    let mut hand = Hand::new();
    let name = host("server-0");
    let stale = hand.order(&name, Change::Hold);
    let old = hand.claim.clone();
    hand.next_run("261122-0500-next");
    let ReceiptAnswer::Refused(Some(held)) = hand.give(&name, &stale) else { panic!("a stale order was taken") };
    assert_eq!(held.claim, hand.claim);
    let take: ClaimAnswer = answer(&hand.send(&name, HostCommand::Claim(ClaimCommand::Take(old.clone())))).unwrap();
    assert!(matches!(take, ClaimAnswer::Refused(_)));
    let release: ClaimAnswer = answer(&hand.send(&name, HostCommand::Claim(ClaimCommand::Release(old)))).unwrap();
    assert!(matches!(release, ClaimAnswer::Refused(_)));
    assert!(!hand.survey(&name).hold);
}

#[tokio::test(start_paused = true)]
async fn a_unit_that_a_reboot_cut_off_says_in_which_boot_it_was() {
    let mut hand = Hand::new();
    let name = host("agent-0");
    let order = hand.order(&name, hand::fetch(NEW));
    hand.give(&name, &order);
    hand.twin.power_cycle(&name);
    hand.sleep(60).await;
    let ReceiptAnswer::Interrupted { boot } = hand.give(&name, &order) else { panic!("not interrupted") };
    assert_ne!(boot, hand.survey(&name).boot);
}

#[tokio::test(start_paused = true)]
async fn looks_are_reads_in_the_log_and_nothing_else_is() {
    let mut hand = Hand::new();
    hand.must(&host("server-0"), Change::Hold).await;
    let before = hand.twin.log().len();
    hand.survey(&host("server-0"));
    hand.get("/api/v1/nodes");
    hand.look::<rke2flow_steps::answer::Points>(&host("server-0"), Look::Points);
    let log = hand.twin.log();
    assert!(log[before..].iter().all(|entry| entry.kind == EntryKind::Read) && log.len() == before + 3);
    assert!(
        log.iter().any(|entry| entry.what == "change Hold" && entry.unit.is_some() && entry.kind == EntryKind::Write)
    );
}

#[tokio::test(start_paused = true)]
async fn a_script_that_is_not_ours_is_refused() {
    let hand = Hand::new();
    let output = hand.twin.shell(&host("server-0"), "root", "rm -rf /\n").await;
    assert_eq!(output.exit, 127);
}

/// A rollback whose change of this name is cut off after this stage on every host, then given again.
async fn rollback_with_cut(change: &str, stage: usize) -> serde_json::Value {
    let times = 6;
    let cut = Fault::UnitCut { host: None, change: change.to_owned(), stage, times };
    let mut hand = Hand::on(TwinSpec { velero: false, ..TwinSpec::default() });
    hand.fetch(&[OLD, NEW]).await;
    let snapshot: Snapshot = hand.snapshot("point").await.unwrap();
    hand.upgrade(NEW).await;
    hand.next_run("261122-0500-back");
    hand.twin.inject(cut);
    let (all, servers) = (hand.names(None), hand.servers());
    let staged = "/var/lib/rke2flow/staged/snapshot".to_owned();
    let Snapshot { path: file, sha256 } = snapshot;
    let zero = [host("server-0")];
    let twice = |hand: Hand, names: Vec<_>, change: Change| twice(hand, names, change);
    let mut hand = twice(hand, all.clone(), Change::Hold).await;
    hand = twice(hand, all.clone(), Change::KillNode { grace_seconds: 5 }).await;
    hand = twice(hand, all.clone(), hand::install(OLD)).await;
    hand = twice(hand, servers.clone(), Change::MoveAside { parts: parts() }).await;
    hand = twice(hand, zero.to_vec(), Change::PointAt { server: None }).await;
    hand = twice(hand, servers[1..].to_vec(), Change::PointAt { server: Some("https://server-0:9345".into()) }).await;
    hand = twice(hand, zero.to_vec(), Change::StageSnapshot { file, sha256: sha256.clone(), to: staged.clone() }).await;
    hand = twice(hand, zero.to_vec(), Change::ClusterReset { snapshot: staged, sha256 }).await;
    for name in all.clone() {
        hand = twice(hand, vec![name.clone()], Change::ReleaseHold).await;
        hand = twice(hand, vec![name.clone()], Change::StartUnit).await;
        hand.active(&name).await;
    }
    let hand = twice(hand, all, Change::CleanUp).await;
    hand.sleep(60).await;
    hand.no_violation();
    hand.twin.fingerprint()
}

/// Gives a change to hosts; one that was cut off is given again until it comes to its end.
async fn twice(mut hand: Hand, names: Vec<rke2flow_engine::id::HostName>, change: Change) -> Hand {
    for name in names {
        let mut receipt = hand.change(&name, change.clone()).await;
        while matches!(receipt, ReceiptAnswer::Interrupted { .. }) {
            receipt = hand.change(&name, change.clone()).await;
        }
        assert!(done(&receipt), "{change:?} on {name}: {receipt:?}");
    }
    hand
}

#[tokio::test(start_paused = true)]
async fn a_rollback_cut_after_any_stage_of_any_change_comes_to_the_same_end() {
    let undisturbed = rollback_with_cut("Nothing", 0).await;
    let changes = [
        ("Hold", Change::Hold.stages()),
        ("KillNode", Change::KillNode { grace_seconds: 5 }.stages()),
        ("InstallVersion", hand::install(OLD).stages()),
        ("MoveAside", Change::MoveAside { parts: parts() }.stages()),
        ("PointAt", Change::PointAt { server: None }.stages()),
        ("ClusterReset", Change::ClusterReset { snapshot: String::new(), sha256: String::new() }.stages()),
        ("ReleaseHold", Change::ReleaseHold.stages()),
        ("StartUnit", Change::StartUnit.stages()),
        ("CleanUp", Change::CleanUp.stages()),
    ];
    for (change, stages) in changes {
        for (stage, name) in stages.iter().enumerate() {
            let print = rollback_with_cut(change, stage).await;
            assert_eq!(differences(&undisturbed, &print), Vec::<String>::new(), "cut of {change} after {name}");
        }
    }
}

/// Paths at which two values differ; how many control planes there were is no matter.
fn differences(left: &serde_json::Value, right: &serde_json::Value) -> Vec<String> {
    let (Some(a), Some(b)) = (left.as_object(), right.as_object()) else {
        return if left == right { Vec::new() } else { vec![format!("{left} != {right}")] };
    };
    let keys = a.keys().chain(b.keys().filter(|key| !a.contains_key(*key))).filter(|key| *key != "control_planes");
    let null = serde_json::Value::Null;
    let below = |key: &String| {
        let found = differences(a.get(key).unwrap_or(&null), b.get(key).unwrap_or(&null));
        found.into_iter().map(move |rest| format!("{key}: {rest}")).collect::<Vec<_>>()
    };
    keys.flat_map(below).collect()
}

fn any_change() -> impl Strategy<Value = Change> {
    prop_oneof![
        proptest::strategy::Just(Change::Hold),
        proptest::strategy::Just(Change::ReleaseHold),
        proptest::strategy::Just(Change::KillNode { grace_seconds: 3 }),
        proptest::strategy::Just(Change::StartUnit),
        proptest::strategy::Just(Change::RestartUnit),
        proptest::strategy::Just(Change::CleanUp),
        proptest::strategy::Just(hand::fetch(NEW)),
        proptest::strategy::Just(hand::install(NEW)),
        proptest::strategy::Just(hand::install(OLD)),
        proptest::strategy::Just(Change::MoveAside { parts: parts() }),
        proptest::strategy::Just(Change::MoveBack { parts: parts() }),
        proptest::strategy::Just(Change::PointAt { server: None }),
        proptest::strategy::Just(Change::SaveSnapshot { name: "any".to_owned() }),
        proptest::strategy::Just(Change::Script { script: "touch /tmp/x".to_owned() }),
    ]
}

proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(48))]

    /// Whatever is ordered where and when: no panic, a stale claim never acts, a receipt never goes back.
    #[test]
    fn any_sequence_of_orders_keeps_the_rules(
        steps in proptest::collection::vec((0_usize..6, any_change(), 0_u64..200, proptest::bool::weighted(0.2), 0_u32..12), 1..40)
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let mut hand = Hand::new();
            let names = hand.names(None);
            let mut given = Vec::new();
            for (at, change, wait, stale, power) in steps {
                let name = names[at].clone();
                if power == 0 {
                    hand.twin.power_cycle(&name);
                }
                let mut order = hand.order(&name, change);
                if stale {
                    order.claim = Claim { number: 0, ..order.claim };
                }
                if hand.twin.reachable(&name) {
                    let receipt = hand.give(&name, &order);
                    prop_assert!(matches!(receipt, ReceiptAnswer::Refused(_)) == stale, "{receipt:?}");
                    if !stale {
                        given.push((name, order));
                    }
                }
                hand.sleep(wait).await;
                hand.twin.judge();
                hand.twin.fingerprint();
            }
            hand.sleep(700).await;
            for (name, order) in &given {
                let receipt = hand.give(name, order);
                prop_assert!(matches!(receipt, ReceiptAnswer::Finished { .. } | ReceiptAnswer::Interrupted { .. }), "{receipt:?}");
                prop_assert!(hand.give(name, order) == receipt);
            }
            prop_assert!(!hand.kinds().contains(&rke2flow_twin::ViolationKind::UnitRunTwice));
            Ok(())
        })?;
    }
}

#[tokio::test(start_paused = true)]
async fn a_faster_clock_makes_the_same_cluster_in_less_time() {
    let twin = Twin::new(TwinSpec { speed: 50, ..TwinSpec::default() }, Clock::with_speed(50));
    let began = tokio::time::Instant::now();
    twin.clock().sleep(std::time::Duration::from_secs(3600)).await;
    assert!(twin.judge().is_empty(), "{:?}", twin.judge());
    assert_eq!(began.elapsed().as_secs(), 72);
}
