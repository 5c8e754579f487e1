//! Rollbacks of three servers that are not the usual one: on another server than the first, and without a server that is
//! gone, which comes back afterwards.

use crate::data;
use crate::proof::Before;
use crate::scene::Scene;
use crate::{watch, writes};

#[test]
fn another_server_than_the_first_is_restored_and_a_lost_one_is_left_behind_until_it_is_cleaned() {
    let Some((scene, before)) = with_a_recovery_point("another init server, and a lost one, in the lab") else {
        return;
    };
    before.move_on(&scene);
    before.comes_back(&scene, |scene| {
        scene.rke2flow(&["run", "rollback.ron", "--init", "server-1", "--yes"]).ends_with(0);
    });
    assert_eq!(writes::newest_reset(&scene).0, "server-1");
    watch::nothing_lived_beside_the_reset(&scene);

    comes_back_without(&scene, &before, "server-1", "server-0");
    rejoins(&scene, "server-1");
    before.is_there(&scene);
}

fn with_a_recovery_point(test: &str) -> Option<(Scene, Before)> {
    let scene = Scene::of(test, 3, 1)?;
    data::write_before(&scene);
    let before = Before::of(&scene);
    scene.rke2flow(&["run", "backup.ron", "--yes"]).ends_with(0);
    watch::begin(&scene);
    Some((scene, before))
}

/// A rollback without a server that has lost its power.
fn comes_back_without(scene: &Scene, before: &Before, lost: &str, restored: &str) {
    before.move_on(scene);
    scene.host(lost).stop().unwrap();
    before.comes_back(scene, |scene| {
        scene.rke2flow(&["run", "rollback.ron", "--yes"]).ends_with(4).says("--lost");
        scene.rke2flow(&["run", "rollback.ron", "--lost", lost, "--yes"]).ends_with(0);
    });
    assert_eq!(scene.servers().len(), 2);
    assert_eq!(writes::newest_reset(scene).0, restored);
    watch::nothing_lived_beside_the_reset(scene);
    for server in scene.servers() {
        assert_eq!(server.must("ls /var/lib/rke2flow/lost").unwrap().trim(), lost, "on {}", server.name());
    }
}

/// It is powered on with what it had, is refused by every run, and joins anew.
fn rejoins(scene: &Scene, lost: &str) {
    scene.host(lost).boot().unwrap();
    let refused = scene.rke2flow(&["run", "backup.ron", "--yes"]).ends_with(4);
    refused.says(&format!("rejoin --set host={lost}"));
    scene.rke2flow(&["run", "rejoin.ron", "--set", &format!("host={lost}"), "--yes"]).ends_with(0);
    assert_eq!(scene.servers().len(), 3);
    for server in scene.servers() {
        assert_eq!(server.must("ls /var/lib/rke2flow/lost 2>/dev/null || true").unwrap(), "", "on {}", server.name());
    }
}
