//! Servers that lose their power between two steps of a rollback and boot again: RKE2 stays down until its start step.

use jiff::Timestamp;
use rke2flow_lab::hosts::Host;
use serde_json::Value;

use crate::cluster;
use crate::data;
use crate::scene::{NEW, OLD, Scene};
use crate::writes;

/// What a server has behind it when it loses its power: each action of the rollback before its start.
const BOUNDARIES: [&str; 7] =
    ["HoldUnit", "KillNode", "PortsClosed", "InstallVersion", "PointAt", "MoveAside", "ClusterReset"];
/// The restored server serves, and the others are still down.
const RESTORED: &str = "VerifyRestored";
/// How many seconds a booted server is watched.
const WATCHED_SECONDS: u32 = 3;

#[test]
fn a_server_that_boots_in_the_middle_of_a_rollback_stays_down_until_its_start_step() {
    let Some(scene) = Scene::new("power cuts during a rollback in the lab") else { return };
    data::write_before(&scene);
    let before = data::digest(&scene);
    scene.rke2flow(&["run", "backup.ron", "--yes"]).ends_with(0);
    for cuts in rollbacks(&scene) {
        data::write_after(&scene);
        for host in scene.hosts() {
            host.install(NEW).unwrap();
        }
        let began = Timestamp::now();
        rolled_back_with(&scene, &cuts);
        assert_eq!(data::digest(&scene), before);
        cluster::runs_version(&scene, OLD);
        cluster::every_server_votes(&scene);
        cluster::nothing_is_held(&scene);
        writes::came_from_one_control_plane(&scene, began);
    }
}

/// A power cut: after which step of which server.
#[derive(Debug, Clone)]
struct Cut {
    after: String,
    server: String,
}

/// The cuts of each rollback. Every server loses its power, each time after another step; with
/// `RKE2FLOW_BOOTS=all`, every server after every step.
fn rollbacks(scene: &Scene) -> Vec<Vec<Cut>> {
    let servers: Vec<String> = scene.servers().iter().map(|server| server.name().to_owned()).collect();
    let all = std::env::var("RKE2FLOW_BOOTS").is_ok_and(|value| value == "all");
    let rounds = if all { servers.len() } else { 1 };
    let server = |place: usize, round: usize| servers[(place + round) % servers.len()].clone();
    let of_round = |round: usize| {
        let mut cuts = Vec::new();
        for (place, action) in BOUNDARIES.iter().enumerate() {
            match *action {
                "ClusterReset" => cuts.push(Cut { after: (*action).to_owned(), server: servers[0].clone() }),
                _ => cuts.push(Cut { after: (*action).to_owned(), server: server(place, round) }),
            }
        }
        cuts.push(Cut { after: RESTORED.to_owned(), server: servers[1 + round % 2].clone() });
        cuts
    };
    (0..rounds).map(of_round).collect()
}

fn rolled_back_with(scene: &Scene, cuts: &[Cut]) {
    let mut engine = scene.start(&["run", "rollback.ron", "--yes"]);
    let mut run: Option<String> = None;
    for cut in cuts {
        let owner = if cut.after == RESTORED { &scene.lab.spec().init } else { &cut.server };
        let step = format!("/{}@{owner}", cut.after);
        // It may have got there beside the server that the cut before waited for.
        if !run.as_ref().is_some_and(|run| has_settled(scene, run, &step)) {
            engine.await_record("Settled", &format!("{step}\""));
        }
        engine.kill();
        let host = scene.lab.host(&cut.server).unwrap();
        host.stop().unwrap();
        host.boot().unwrap();
        stays_down(&host, &cut.after);
        eprintln!("{} lost its power after {step}", cut.server);
        let run = run.get_or_insert_with(|| scene.run());
        engine = scene.start(&["resume", run]);
    }
    engine.ends_with(0);
    eprintln!("{} power cuts, {} resets begun so far", cuts.len(), cluster::resets(scene));
}

fn has_settled(scene: &Scene, run: &str, step: &str) -> bool {
    let is_it = |record: &Value| {
        record["kind"] == "Settled" && record["data"]["instance"].as_str().is_some_and(|name| name.ends_with(step))
    };
    scene.records(run).iter().any(is_it)
}

/// Asserts that systemd wanted to start RKE2 and was kept from it, and that nothing of it lives.
#[track_caller]
fn stays_down(host: &Host<'_>, after: &str) {
    // A boot that starts RKE2 after all goes on for as long as that takes.
    host.exec("timeout 20 systemctl is-system-running --wait").unwrap();
    let tried = host.must("systemctl show -p ConditionTimestampMonotonic -p ConditionResult rke2-server").unwrap();
    let kept = tried.contains("ConditionResult=no") && !tried.contains("Monotonic=0\n");
    assert!(kept, "after {after}, {}: {tried}", host.name());
    for _ in 0..WATCHED_SECONDS {
        assert_eq!(cluster::alive(host), "", "after {after}, alive on {} that was booted", host.name());
        std::thread::sleep(std::time::Duration::from_secs(1));
    }
}
