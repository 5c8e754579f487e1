//! An S3 endpoint that takes no uploads from RKE2, which says that it saved and exits 0.

use rke2flow_lab::hosts::s3::{self, Credentials};

use crate::data;
use crate::proof::Before;
use crate::scene::Scene;

const CONFIG: &str = "/etc/rancher/rke2/config.yaml";

#[test]
fn an_upload_that_failed_without_a_word_is_made_up_for_or_the_run_says_that_it_cannot() {
    let Some(scene) = Scene::of("an upload that fails in the lab", 1, 0) else { return };
    only_reads_the_bucket(&scene);
    let server = scene.first();
    let saved = server.exec("rke2 etcd-snapshot save --name by-hand").unwrap();
    assert!(saved.success() && saved.stderr.contains(" saved."), "{saved:?}");
    assert_eq!(in_bucket(&scene, "by-hand"), Vec::<String>::new(), "objects in the bucket");

    data::write_before(&scene);
    let before = Before::of(&scene);
    scene.rke2flow(&["run", "backup.ron", "--yes"]).ends_with(0);
    let run = scene.run();
    let sent = in_bucket(&scene, &format!("rke2flow-{run}"));
    assert_eq!(sent.len(), 1, "{sent:?}");
    before.move_on(&scene);
    server
        .must("rm /var/lib/rancher/rke2/server/db/snapshots/rke2flow-* && rm -f /var/lib/rke2flow/snapshots/*")
        .unwrap();
    before.comes_back(&scene, |scene| drop(scene.rke2flow(&["run", "rollback.ron", "--yes"]).ends_with(0)));

    // The operator reaches the endpoint, the host does not: nobody can send what is on the host.
    server.must(&format!("ip route add blackhole {}", scene.lab.subnet().s3())).unwrap();
    let refused = scene.rke2flow(&["run", "backup.ron", "--yes"]).ends_with(1);
    refused.says("rke2flow logs").says("abort");
    let run = scene.run();
    assert_eq!(in_bucket(&scene, &format!("rke2flow-{run}")), Vec::<String>::new(), "objects in the bucket");
    server.must(&format!("ip route del blackhole {}", scene.lab.subnet().s3())).unwrap();
    scene.rke2flow(&["resume", &run]).ends_with(0);
    assert_eq!(in_bucket(&scene, &format!("rke2flow-{run}")).len(), 1, "objects in the bucket");
}

/// RKE2 on the server has an account that may look and may not write, as after a change of a bucket's policy.
fn only_reads_the_bucket(scene: &Scene) {
    let Credentials { access_key, secret_key } = s3::reader(&scene.lab).unwrap();
    let script = format!(
        "sed -i -e 's|^etcd-s3-access-key: .*|etcd-s3-access-key: {access_key}|' \
         -e 's|^etcd-s3-secret-key: .*|etcd-s3-secret-key: {secret_key}|' {CONFIG} && systemctl restart rke2-server"
    );
    scene.first().must_within(&script, b"", std::time::Duration::from_secs(120)).unwrap();
}

/// Keys below the cluster's folder whose name begins so, as the endpoint lists them.
fn in_bucket(scene: &Scene, name: &str) -> Vec<String> {
    let Credentials { access_key, secret_key } = s3::credentials(&scene.lab).unwrap();
    let (endpoint, bucket, folder) = (s3::endpoint(&scene.lab), s3::BUCKET, s3::FOLDER);
    let output = std::process::Command::new("curl")
        .args(["-sS", "--fail", "--max-time", "20", "--aws-sigv4", &format!("aws:amz:{}:s3", s3::REGION)])
        .args(["--user", &format!("{access_key}:{secret_key}")])
        .args(["-H", "x-amz-content-sha256: UNSIGNED-PAYLOAD"])
        .arg(format!("http://{endpoint}/{bucket}?list-type=2&prefix={folder}%2F{name}"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    text.split("<Key>").skip(1).map(|rest| rest.split('<').next().unwrap().to_owned()).collect()
}
