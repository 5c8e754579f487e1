//! Every server is a new machine: the bucket and the server token are all that is left of the cluster.

use std::time::Duration;

use jiff::Timestamp;

use crate::proof::Before;
use crate::scene::Scene;
use crate::{cluster, data, writes};

#[test]
fn a_cluster_whose_servers_are_all_new_machines_comes_back_from_the_bucket_and_the_token() {
    let Some(scene) = Scene::of("a rebuild in the lab", 3, 1) else { return };
    data::write_before(&scene);
    let before = Before::of(&scene);
    scene.rke2flow(&["run", "backup.ron", "--yes"]).ends_with(0);
    let began = Timestamp::now();
    before.move_on(&scene);
    // The servers' own notes go with their disks: the agent's must be enough to prove something.
    std::thread::sleep(Duration::from_secs(5));

    for server in scene.servers() {
        server.replace().unwrap();
        server.configure().unwrap();
        server.must("sed -i '/^token:/d' /etc/rancher/rke2/config.yaml").unwrap();
    }
    scene.rke2flow(&["run", "rebuild.ron", "--yes"]).ends_with(4).says("rke2flow trust");
    scene.rke2flow(&["trust", "--yes"]).ends_with(0);
    let missing = scene.rke2flow(&["run", "rebuild.ron", "--yes"]).ends_with(4);
    missing.says("FAIL server token").says("PASS host server-2: a new machine");

    let token = scene.lab.dir().join("token");
    scene.change_cluster_file(|text| text.replacen("token: None,", &format!("token: File({token:?}),"), 1));
    let rebuild = scene.rke2flow(&["run", "rebuild.ron", "--yes"]).ends_with(0);
    eprintln!("rebuild: {:.1} s", rebuild.took.as_secs_f64());
    assert_eq!(cluster::resets(&scene), 1, "resets that were begun");
    before.is_there(&scene);
    writes::came_from_one_control_plane(&scene, began);
    for server in scene.servers() {
        assert_eq!(server.must("systemctl is-enabled rke2-server").unwrap().trim(), "enabled", "{}", server.name());
    }
}
