//! Servers that lose their power between two steps of a rollback, or inside the reset, and boot again: RKE2 stays down
//! until its start step.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use rke2flow_lab::hosts::Host;
use serde_json::Value;

use crate::cluster;
use crate::data;
use crate::engine::Engine;
use crate::proof::Before;
use crate::scene::Scene;
use crate::{watch, writes};

/// What a server has behind it when it loses its power: each action of the rollback before its start.
const BOUNDARIES: [&str; 7] =
    ["HoldUnit", "KillNode", "PortsClosed", "InstallVersion", "PointAt", "MoveAside", "ClusterReset"];
/// The restored server serves, and the others are still down.
const RESTORED: &str = "VerifyRestored";
/// The one step that is cut off in its middle as well.
const RESET: &str = "ClusterReset";
/// How many seconds a booted server is watched.
const WATCHED_SECONDS: u32 = 3;
/// How long the reset may take to begin on its host, once it is ordered.
const RESET_BEGINS: Duration = Duration::from_secs(60);
const TICK: Duration = Duration::from_millis(20);

#[test]
fn a_server_that_boots_in_the_middle_of_a_rollback_stays_down_until_its_start_step() {
    let Some(scene) = Scene::of("power cuts during a rollback in the lab", 3, 3) else { return };
    data::write_before(&scene);
    let before = Before::of(&scene);
    scene.rke2flow(&["run", "backup.ron", "--yes"]).ends_with(0);
    watch::begin(&scene);
    for cuts in rollbacks(&scene) {
        before.move_on(&scene);
        let (began, resets) = (Timestamp::now(), cluster::resets(&scene));
        let cut_off = rolled_back_with(&scene, &cuts);
        let begun = cluster::resets(&scene) - resets;
        eprintln!("{} power cuts, {begun} resets, {cut_off} of them cut off", cuts.len());
        // One reset, and another one only when the first was cut off.
        assert!((1..=1 + cut_off).contains(&begun), "{begun} resets were begun, {cut_off} were cut off");
        before.is_there(&scene);
        writes::came_from_one_control_plane(&scene, began);
        watch::nothing_lived_beside_the_reset(&scene);
    }
}

/// A power cut of a server.
#[derive(Debug, Clone)]
struct Cut {
    when: When,
    server: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum When {
    /// Between two steps: this one is done.
    After(&'static str),
    /// While the reset runs.
    InsideTheReset,
}

/// The cuts of each rollback. Every server loses its power, each time after another step, and the restored one inside
/// its reset too; with `RKE2FLOW_BOOTS=all`, every server after every step.
fn rollbacks(scene: &Scene) -> Vec<Vec<Cut>> {
    let servers: Vec<String> = scene.servers().iter().map(|server| server.name().to_owned()).collect();
    let all = std::env::var("RKE2FLOW_BOOTS").is_ok_and(|value| value == "all");
    let rounds = if all { servers.len() } else { 1 };
    let of_round = |round: usize| {
        let mut cuts = Vec::new();
        for (place, action) in BOUNDARIES.iter().enumerate() {
            let reset = *action == RESET;
            if reset && round == 0 {
                cuts.push(Cut { when: When::InsideTheReset, server: servers[0].clone() });
            }
            // In the first round the cut before is one of the restored server: its reset waits for that one's boot.
            let server = if reset { 0 } else { (place + round + 1) % servers.len() };
            cuts.push(Cut { when: When::After(action), server: servers[server].clone() });
        }
        cuts.push(Cut { when: When::After(RESTORED), server: servers[1 + round % 2].clone() });
        cuts
    };
    (0..rounds).map(of_round).collect()
}

/// Rolls back, with these cuts; the number of resets that were cut off.
fn rolled_back_with(scene: &Scene, cuts: &[Cut]) -> usize {
    let mut engine = scene.start(&["run", "rollback.ron", "--yes"]);
    let (mut run, mut cut_off): (Option<String>, usize) = (None, 0);
    for cut in cuts {
        let host = scene.lab.host(&cut.server).unwrap();
        match cut.when {
            When::After(action) => {
                let owner = if action == RESTORED { &scene.lab.spec().init } else { &cut.server };
                engine = await_step(scene, engine, run.as_deref(), "Settled", &format!("/{action}@{owner}"));
            }
            When::InsideTheReset => {
                let step = format!("/{RESET}@{}", cut.server);
                engine = await_step(scene, engine, run.as_deref(), "ApplyStarted", &step);
                cut_off += usize::from(is_resetting(&host));
            }
        }
        engine.kill();
        host.stop().unwrap();
        host.boot().unwrap();
        let run = run.get_or_insert_with(|| scene.run());
        // On a busy machine the engine may have been quicker than its killer.
        let was_started = has_record(scene, run, "ApplyStarted", &format!("/ReleaseHold@{}", cut.server));
        if !was_started {
            stays_down(&host, cut);
        }
        let too_late = if was_started { ", after its start step began" } else { "" };
        eprintln!("{} lost its power: {:?}{too_late}", cut.server, cut.when);
        engine = scene.start(&["resume", run]);
    }
    engine.ends_with(0);
    cut_off
}

/// Waits for a record of a step. It may be there already: engines go on beside what the cut before waited for.
fn await_step(scene: &Scene, mut engine: Engine, run: Option<&str>, kind: &str, step: &str) -> Engine {
    if !run.is_some_and(|run| has_record(scene, run, kind, step)) {
        engine.await_record(kind, &format!("{step}\""));
    }
    engine
}

fn has_record(scene: &Scene, run: &str, kind: &str, step: &str) -> bool {
    let is_it = |record: &Value| {
        record["kind"] == kind && record["data"]["instance"].as_str().is_some_and(|name| name.ends_with(step))
    };
    scene.records(run).iter().any(is_it)
}

/// Waits until the reset has begun to restore. Whether it is under way then, and not over already.
fn is_resetting(host: &Host<'_>) -> bool {
    let until = Instant::now() + RESET_BEGINS;
    loop {
        let seen = host
            .must(
                "pgrep -f '[c]luster-reset-restore-path' >/dev/null && echo runs; \
                 ls -d /var/lib/rancher/rke2/server/db/etcd/member /var/lib/rancher/rke2/server/db/reset-flag; true",
            )
            .unwrap();
        match (seen.contains("runs"), seen.contains("member"), seen.contains("reset-flag")) {
            (true, true, _) => return true,
            (false, _, true) => return false,
            _ => assert!(Instant::now() < until, "the reset has not begun on {}: {seen}", host.name()),
        }
        std::thread::sleep(TICK);
    }
}

/// Asserts that systemd wanted to start RKE2 and was kept from it, and that nothing of it lives.
#[track_caller]
fn stays_down(host: &Host<'_>, cut: &Cut) {
    // A boot that starts RKE2 after all goes on for as long as that takes.
    host.exec("timeout 20 systemctl is-system-running --wait").unwrap();
    let tried = host.must("systemctl show -p ConditionTimestampMonotonic -p ConditionResult rke2-server").unwrap();
    let kept = tried.contains("ConditionResult=no") && !tried.contains("Monotonic=0\n");
    assert!(kept, "{cut:?}: {tried}");
    for _ in 0..WATCHED_SECONDS {
        assert_eq!(cluster::alive(host), "", "{cut:?}: alive after the boot");
        std::thread::sleep(Duration::from_secs(1));
    }
}
