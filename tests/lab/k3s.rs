//! K3s in the lab: the same runbooks, an upgrade and a rollback, with the proof of `rollback.rs`.

use jiff::Timestamp;

use crate::cluster;
use crate::data;
use crate::figures::within_budget;
use crate::scene::{self, K3S_NEW, K3S_OLD, Scene};
use crate::writes;

/// What a person gave the unit: the installer would forget it.
const FLAG: &str = "--node-label=kept=yes";

#[test]
fn k3s_is_upgraded_and_goes_back_with_its_data_and_keeps_the_flags_of_its_units() {
    let Some(scene) = Scene::k3s("an upgrade and a rollback of K3s in the lab") else { return };
    for host in scene.servers() {
        let unit = "/etc/systemd/system/k3s.service";
        host.must(&format!(
            "sed -i 's|/k3s server$|& {FLAG}|' {unit} && grep -q -e {FLAG} {unit} && systemctl daemon-reload"
        ))
        .unwrap();
    }
    data::write_before(&scene);
    let (before, keys) = (data::digest(&scene), data::keys(&scene));
    let upgrade = scene
        .rke2flow(&["run", "upgrade.ron", "--set", &format!("version={K3S_NEW}"), "--waive", scene::OLD_ETCD, "--yes"])
        .ends_with(0);
    eprintln!("upgrade {K3S_OLD} -> {K3S_NEW}: {:.1} s", upgrade.took.as_secs_f64());
    cluster::runs_version(&scene, K3S_NEW);
    for host in scene.servers() {
        let manifests = host.must("ls /var/lib/rancher/k3s/agent/pod-manifests 2>/dev/null; true").unwrap();
        assert_eq!(manifests, "", "static pods on {}", host.name());
        let running =
            host.must("tr '\\0' ' ' </proc/$(systemctl show --property=MainPID --value k3s)/cmdline").unwrap();
        assert!(running.contains(FLAG), "{}: {running}", host.name());
    }
    data::write_after(&scene);
    assert_ne!(data::digest(&scene), before);

    let began = Timestamp::now();
    let rollback = scene.rke2flow(&["run", "rollback.ron", "--yes"]).ends_with(0);
    assert_eq!(data::keys(&scene), keys, "keys that are there after the rollback, and that were there before");
    assert_eq!(data::digest(&scene), before);
    cluster::runs_version(&scene, K3S_OLD);
    cluster::every_server_votes(&scene);
    cluster::nothing_is_held(&scene);
    assert_eq!(cluster::resets(&scene), 1);
    writes::came_from_one_control_plane(&scene, began);
    within_budget(&scene.json(&["report", &scene.run()]), rollback.took);
}
