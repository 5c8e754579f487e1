//! A rollback to before an upgrade: the data, the versions, the members, and nothing left behind.

use crate::cluster;
use crate::data;
use crate::figures::within_budget;
use crate::proof::Before;
use crate::scene::{NEW, OLD, Scene};

#[test]
fn a_rollback_takes_data_and_versions_back_and_leaves_nothing_behind() {
    let Some(scene) = Scene::of("a rollback in the lab", 3, 3) else { return };
    data::write_before(&scene);
    let before = Before::of(&scene);
    let upgrade = scene.rke2flow(&["run", "upgrade.ron", "--set", &format!("version={NEW}"), "--yes"]).ends_with(0);
    eprintln!("upgrade {OLD} -> {NEW}: {:.1} s", upgrade.took.as_secs_f64());
    cluster::runs_version(&scene, NEW);
    data::write_after(&scene);
    before.is_gone(&scene);
    before.comes_back(&scene, |scene| {
        let rollback = scene.rke2flow(&["run", "rollback.ron", "--yes"]).ends_with(0);
        within_budget(&scene.json(&["report", &scene.run()]), rollback.took);
    });
}
