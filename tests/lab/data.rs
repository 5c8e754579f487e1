//! What applications keep in the cluster, written and read around rke2flow: by the API and by etcdctl.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use rke2flow_lab::hosts::Host;

use crate::scene::Scene;

/// Objects of an application, and keys that no API knows.
const PLACES: [&str; 2] = ["/registry/core/configmaps/shop/", "/lab/raw/"];
/// How long a control plane may take to accept a write.
const DEADLINE: Duration = Duration::from_secs(30);

/// Objects that are there when the recovery point is made.
pub fn write_before(scene: &Scene) {
    api(scene, "POST", "/api/v1/namespaces", r#"{"metadata":{"name":"shop"}}"#);
    for number in 0..10 {
        create(scene, &format!("order-{number}"), "paid");
        etcdctl(&scene.first(), &format!("put /lab/raw/{number} before-{number}"));
    }
}

/// Changes of every kind after the recovery point: made, altered, taken away.
pub fn write_after(scene: &Scene) {
    create(scene, "order-new", "open");
    api(scene, "PATCH", "/api/v1/namespaces/shop/configmaps/order-1", r#"{"data":{"state":"returned"}}"#);
    api(scene, "DELETE", "/api/v1/namespaces/shop/configmaps/order-2", "");
    let host = scene.first();
    etcdctl(&host, "put /lab/raw/new after");
    etcdctl(&host, "put /lab/raw/1 after");
    etcdctl(&host, "del /lab/raw/2");
}

/// What is there now: one digest over every key and value, the same on every server's own member.
#[track_caller]
pub fn digest(scene: &Scene) -> String {
    let digests: Vec<String> = scene.servers().iter().map(digest_of_member).collect();
    assert!(digests.windows(2).all(|pair| pair[0] == pair[1]), "the members differ: {digests:?}");
    digests[0].clone()
}

/// The keys that are there now.
pub fn keys(scene: &Scene) -> Vec<String> {
    let read = |place: &&str| etcdctl(&scene.first(), &format!("get --keys-only --prefix {place}"));
    PLACES.iter().map(read).flat_map(|text| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>()).collect()
}

/// Runs etcdctl on a server, against its own member.
#[track_caller]
pub fn etcdctl(host: &Host<'_>, words: &str) -> String {
    host.must(&format!("ETCDCTL_API=3 etcdctl --endpoints http://127.0.0.1:2379 {words}")).unwrap()
}

/// Asks the first server's API, until it says yes.
#[track_caller]
pub fn api(scene: &Scene, method: &str, path: &str, body: &str) -> String {
    let kind = if method == "PATCH" { "application/merge-patch+json" } else { "application/json" };
    let script = format!(
        "cd /var/lib/rancher/{}/server/tls && curl -sS --fail-with-body --max-time 10 --cacert server-ca.crt \
         --cert client-admin.crt --key client-admin.key -X {method} -H 'content-type: {kind}' \
         --data-binary @- https://127.0.0.1:6443{path}",
        scene.distribution()
    );
    let until = Instant::now() + DEADLINE;
    loop {
        let answer = scene.first().exec_within(&script, body.as_bytes(), DEADLINE).unwrap();
        if answer.success() {
            return answer.stdout;
        }
        assert!(Instant::now() < until, "{method} {path}: {}{}", answer.stdout, answer.stderr);
        std::thread::sleep(Duration::from_millis(200));
    }
}

fn create(scene: &Scene, name: &str, state: &str) {
    let body = format!(r#"{{"metadata":{{"name":"{name}"}},"data":{{"state":"{state}"}}}}"#);
    api(scene, "POST", "/api/v1/namespaces/shop/configmaps", &body);
}

#[track_caller]
fn digest_of_member(host: &Host<'_>) -> String {
    let mut script = String::from("export ETCDCTL_API=3; (");
    for place in PLACES {
        write!(script, "etcdctl --endpoints http://127.0.0.1:2379 --consistency=s get --prefix {place} && ").unwrap();
    }
    script.push_str("true) >/tmp/lab-digest && test -s /tmp/lab-digest && sha256sum </tmp/lab-digest");
    host.must(&script).unwrap()
}
