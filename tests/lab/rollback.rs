//! A rollback to before an upgrade: the data, the versions, the members, and nothing left behind.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;

use crate::cluster;
use crate::data;
use crate::scene::{NEW, OLD, Scene};
use crate::writes;

#[test]
fn a_rollback_takes_data_and_versions_back_and_leaves_nothing_behind() {
    let Some(scene) = Scene::new("a rollback in the lab") else { return };
    data::write_before(&scene);
    let (before, keys) = (data::digest(&scene), data::keys(&scene));
    let upgrade = scene.rke2flow(&["run", "upgrade.ron", "--set", &format!("version={NEW}"), "--yes"]).ends_with(0);
    eprintln!("upgrade {OLD} -> {NEW}: {:.1} s", upgrade.took.as_secs_f64());
    cluster::runs_version(&scene, NEW);
    data::write_after(&scene);
    assert_ne!(data::digest(&scene), before);

    let began = Timestamp::now();
    let rollback = scene.rke2flow(&["run", "rollback.ron", "--yes"]).ends_with(0);
    assert_eq!(data::keys(&scene), keys, "keys that are there after the rollback, and that were there before");
    assert_eq!(data::digest(&scene), before);
    cluster::runs_version(&scene, OLD);
    cluster::every_server_votes(&scene);
    cluster::nothing_is_held(&scene);
    assert_eq!(cluster::resets(&scene), 1);
    writes::came_from_one_control_plane(&scene, began);
    within_budget(&scene.json(&["report", &scene.run()]), rollback.took);
}

/// Asserts that every phase kept its budget, and prints what the run was spent on.
#[track_caller]
pub fn within_budget(report: &Value, wall: Duration) {
    let seconds = |value: &Value| value.as_f64().unwrap();
    for phase in report["phases"].as_array().unwrap() {
        eprintln!("  {:16} {:6.1} s, {}", phase["id"].as_str().unwrap(), seconds(&phase["seconds"]), phase["verdict"]);
        assert_ne!(phase["verdict"], "Over", "{phase}");
    }
    assert_eq!(report["recovery"]["verdict"], "Within", "{}", report["recovery"]);
    let path = report["critical_path"].as_array().unwrap();
    let sum = |of: &dyn Fn(&Value) -> bool| -> f64 {
        path.iter().filter(|segment| of(&segment["kind"])).map(|segment| seconds(&segment["seconds"])).sum()
    };
    let (whole, own) = (sum(&|_| true), sum(&|kind| kind["Wait"]["wait"] == "Engine"));
    eprintln!(
        "rollback: wall {:.1} s, outage {:.1} s, critical path {whole:.1} s, our own share {:.2} %",
        wall.as_secs_f64(),
        seconds(&report["recovery"]["seconds"]),
        100.0 * own / whole
    );
    let outside = wall.as_secs_f64() - whole;
    assert!(whole > 0.0 && outside < 5.0, "{outside:.1} s of the wall time are on no critical path");
}
