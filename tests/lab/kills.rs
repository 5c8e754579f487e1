//! `kill -9` of the engine at moments of chance, and an operator who loses his network in the middle of a reset.

use std::time::{Duration, Instant};

use jiff::Timestamp;

use crate::chance::Chance;
use crate::engine::Engine;
use crate::proof::Before;
use crate::scene::Scene;
use crate::{data, writes};

/// Kills, unless `RKE2FLOW_KILLS` says otherwise.
const KILLS: usize = 3;
/// Kills of one rollback: more of them make another one.
const KILLS_PER_ROLLBACK: usize = 8;
/// Records of a rollback before its reset begins.
const RECORDS_BEFORE_RESET: u64 = 100;
/// The most records between the start of an engine and its death; a rollback has about 350.
const RECORDS_MAX: u64 = 120;
/// The longest that the killer waits after the last of those records.
const PAUSE_MAX_MS: u64 = 1500;
/// How long the operator stays cut off after the reset: long enough for the engine to notice.
const CUT_OFF: Duration = Duration::from_secs(4);
/// How long a reset may take.
const RESET_DEADLINE: Duration = Duration::from_secs(120);
const TICK: Duration = Duration::from_millis(20);

#[test]
fn a_rollback_survives_kills_of_the_engine_and_the_loss_of_the_network_during_the_reset() {
    let Some(scene) = Scene::of("a rollback that is killed in the lab", 3, 3) else { return };
    data::write_before(&scene);
    let before = Before::of(&scene);
    scene.rke2flow(&["run", "backup.ron", "--yes"]).ends_with(0);

    let mut killer = Killer::new();
    before.move_on(&scene);
    before.comes_back(&scene, |scene| {
        let engine = killer.kill(scene, start(scene), RECORDS_BEFORE_RESET);
        let engine = cut_off_during_the_reset(scene, engine);
        killer.drive(scene, engine);
    });
    while killer.left > 0 {
        before.move_on(&scene);
        before.comes_back(&scene, |scene| killer.drive(scene, start(scene)));
    }
}

fn start(scene: &Scene) -> Engine {
    scene.start(&["run", "rollback.ron", "--yes"])
}

/// Kills engines at moments of chance.
struct Killer {
    chance: Chance,
    left: usize,
}

impl Killer {
    fn new() -> Self {
        let left = std::env::var("RKE2FLOW_KILLS").map_or(KILLS, |kills| kills.parse().unwrap());
        Self { chance: Chance::new(), left }
    }

    /// Drives a run to its end, killing as often as a rollback has to stand.
    fn drive(&mut self, scene: &Scene, mut engine: Engine) {
        let last = self.left.saturating_sub(KILLS_PER_ROLLBACK);
        while self.left > last {
            engine = self.kill(scene, engine, RECORDS_MAX);
            if scene.open_run().is_none() {
                return;
            }
        }
        engine.ends_with(0);
    }

    /// Lets the engine go on for less than so many records, kills it, and goes on with another one.
    fn kill(&mut self, scene: &Scene, mut engine: Engine, records_max: u64) -> Engine {
        if !engine.reads(self.chance.below(records_max) as usize) {
            // It was quicker, and is done.
            return engine;
        }
        std::thread::sleep(Duration::from_millis(self.chance.below(PAUSE_MAX_MS)));
        engine.kill();
        self.left = self.left.saturating_sub(1);
        let run = scene.run();
        let records = scene.records(&run);
        eprintln!("killed after {} records, the last one a {}", records.len(), records.last().unwrap()["kind"]);
        scene.start(&["resume", &run])
    }
}

/// The network is away from the middle of the reset until it has ended. The engine lives on.
fn cut_off_during_the_reset(scene: &Scene, mut engine: Engine) -> Engine {
    engine.await_record("ApplyStarted", "/ClusterReset@");
    let resetting = || scene.first().exec("pgrep -f '[c]luster-reset-restore-path'").unwrap().success();
    await_that("the reset to run", resetting);
    scene.lab.cut_operator().unwrap();
    let cut = Timestamp::now();
    await_that("the reset to end", || !resetting());
    std::thread::sleep(CUT_OFF);
    let (_, reset) = writes::newest_reset(scene);
    assert!(reset.to > cut, "the reset had ended before the operator was cut off");
    scene.lab.heal_operator().unwrap();
    eprintln!("the reset ended {:.1} s after the cut", reset.to.duration_since(cut).as_secs_f64());
    engine
}

fn await_that(what: &str, holds: impl Fn() -> bool) {
    let until = Instant::now() + RESET_DEADLINE;
    while !holds() {
        assert!(Instant::now() < until, "waited for {what}");
        std::thread::sleep(TICK);
    }
}
