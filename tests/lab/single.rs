//! One server and one agent: the same plan with its own budgets, and the bucket when the server has no snapshot left.

use jiff::Timestamp;
use serde_json::Value;

use crate::cluster;
use crate::data;
use crate::figures::within_budget;
use crate::proof::Before;
use crate::scene::{NEW, Scene};
use crate::writes;

/// What the phases of an outage may take where there is one server, and the whole of it, in seconds.
const BUDGETS: [(&str, u32); 7] = [
    ("stop-workers", 60),
    ("stop-masters", 60),
    ("cluster-reset", 60),
    ("start-master-0", 150),
    ("rejoin", 90),
    ("velero-restore", 180),
    ("health", 60),
];
const OUTAGE_SECONDS: u32 = 600;

#[test]
fn a_single_server_comes_back_within_its_own_budgets_and_from_the_bucket_when_its_snapshots_are_gone() {
    let Some(scene) = Scene::of("a rollback of a single server in the lab", 1, 1) else { return };
    data::write_before(&scene);
    let before = Before::of(&scene);
    scene.rke2flow(&["run", "upgrade.ron", "--set", &format!("version={NEW}"), "--yes"]).ends_with(0);
    cluster::runs_version(&scene, NEW);
    data::write_after(&scene);
    before.is_gone(&scene);
    before.comes_back(&scene, |scene| {
        let rollback = scene.rke2flow(&["run", "rollback.ron", "--yes"]).ends_with(0);
        let report = scene.json(&["report", &scene.run()]);
        within_budget(&report, rollback.took);
        has_its_own_budgets(&report);
    });

    before.move_on(&scene);
    scene
        .first()
        .must("rm /var/lib/rancher/rke2/server/db/snapshots/rke2flow-* && rm -f /var/lib/rke2flow/snapshots/*")
        .unwrap();
    let local = scene.rke2flow(&["run", "rollback.ron", "--set", "from=local", "--yes"]).ends_with(1);
    local.says("is not on server-0");
    before.comes_back(&scene, |scene| {
        scene.rke2flow(&["run", "rollback.ron", "--set", "from=s3", "--yes"]).ends_with(0);
    });

    before.move_on(&scene);
    let (began, resets) = (Timestamp::now(), cluster::resets(&scene));
    is_taken_over_in_the_middle_of_its_reset(&scene);
    assert_eq!(cluster::resets(&scene), resets + 2, "one of the run that died, one of the run that took over");
    before.is_there(&scene);
    writes::came_from_one_control_plane(&scene, began);
}

/// The engine and its laptop are gone; somebody else has nothing but the hosts.
fn is_taken_over_in_the_middle_of_its_reset(scene: &Scene) {
    let mut engine = scene.start(&["run", "rollback.ron", "--yes"]);
    engine.await_record("ApplyStarted", "/ClusterReset@");
    let begins = "for i in $(seq 200); do pgrep -f '[c]luster-reset-restore-path' && exit; sleep 0.1; done; exit 1";
    scene.first().must(begins).unwrap();
    engine.kill();
    let dead = scene.run();
    let held = scene.rke2flow_of("bob", &["run", "rollback.ron", "--yes"]).ends_with(5);
    held.says(&dead).says("server-0: ").says("it is held down").says("--takeover");
    let taken = scene.rke2flow_of("bob", &["run", "rollback.ron", "--yes", "--takeover"]).ends_with(0);
    taken.says("taking over from").says(&dead);
}

#[track_caller]
fn has_its_own_budgets(report: &Value) {
    for (phase, seconds) in BUDGETS {
        let phases = report["phases"].as_array().unwrap();
        let found = phases.iter().find(|found| found["id"] == phase).unwrap();
        assert_eq!(found["budget_seconds"].as_f64(), Some(f64::from(seconds)), "{phase}");
    }
    assert_eq!(report["recovery"]["budget_seconds"].as_f64(), Some(f64::from(OUTAGE_SECONDS)));
}
