//! The cluster as it is: what runs on the hosts, who votes, what rke2flow left there.

use std::collections::BTreeSet;

use rke2flow_lab::hosts::{Host, Role};
use serde_json::Value;

use crate::data::{api, etcdctl};
use crate::scene::Scene;

/// Asserts that this version is installed and runs on every host, and that the API knows every node as running it.
#[track_caller]
pub fn runs_version(scene: &Scene, version: &str) {
    let distribution = scene.distribution();
    for host in scene.hosts() {
        let name = host.name();
        let installed = host.must(&format!("/usr/local/bin/{distribution} --version")).unwrap();
        assert!(installed.starts_with(&format!("{distribution} version {version} ")), "{name}: {installed}");
        let kind = if host.role() == Role::Server { "server" } else { "agent" };
        let running = host.must(&format!("ps -eo args | grep '[l]ab-rke2 {distribution} --release'")).unwrap();
        assert!(running.contains(&format!("--release {version} {kind}")), "{name}: {running}");
        assert_eq!(running.lines().count(), 1, "{name}: {running}");
        assert_eq!(containers_of_other_versions(&host, version), "", "{name}");
    }
    let nodes: Value = serde_json::from_str(&api(scene, "GET", "/api/v1/nodes", "")).unwrap();
    let known: BTreeSet<(String, String)> = nodes["items"].as_array().unwrap().iter().map(name_and_version).collect();
    let is_off = |name: &String| !scene.host(name).is_on();
    let known: BTreeSet<(String, String)> = known.into_iter().filter(|(name, _)| !is_off(name)).collect();
    let expected = scene.hosts().iter().map(|host| (host.name().to_owned(), version.to_owned())).collect();
    assert_eq!(known, expected, "nodes that the API knows, of hosts that are on");
}

/// Asserts that every server votes and that nobody else is a member.
#[track_caller]
pub fn every_server_votes(scene: &Scene) {
    for host in scene.servers() {
        let members: Value = serde_json::from_str(&etcdctl(&host, "member list -w json")).unwrap();
        let members = members["members"].as_array().unwrap();
        let voting: BTreeSet<String> = members
            .iter()
            .filter(|member| member["isLearner"] != Value::Bool(true))
            .map(|member| member["peerURLs"][0].as_str().unwrap().to_owned())
            .collect();
        let expected: BTreeSet<String> =
            scene.servers().iter().map(|host| format!("http://{}:2380", host.address().unwrap())).collect();
        assert_eq!((voting, members.len()), (expected, scene.servers().len()), "members that {} knows", host.name());
        etcdctl(&host, "endpoint health");
    }
}

/// Asserts that nothing of a run is left that keeps anything from working.
#[track_caller]
pub fn nothing_is_held(scene: &Scene) {
    for host in scene.hosts() {
        let name = host.name();
        let left = host
            .must(
                "ls -d /var/lib/rke2flow/hold /etc/systemd/system/*/*rke2flow* /etc/systemd/system/*rke2flow* \
                 /run/systemd/transient/*rke2flow* /etc/rancher/*/config.yaml.d/* 2>/dev/null || true; \
                 systemctl list-units --all --plain --no-legend 'rke2flow-*'",
            )
            .unwrap();
        assert_eq!(left, "", "left on {name}");
        let claim = host.must("cat /var/lib/rke2flow/claim").unwrap();
        assert_eq!(claim.lines().nth(3), Some("true"), "the claim on {name} is not released:\n{claim}");
    }
    let nodes: Value = serde_json::from_str(&api(scene, "GET", "/api/v1/nodes", "")).unwrap();
    for node in nodes["items"].as_array().unwrap() {
        assert_eq!(node["spec"].get("unschedulable"), None, "{} is cordoned", node["metadata"]["name"]);
    }
}

/// How many restores of a snapshot were begun on the servers that are on: RKE2 keeps what it replaced.
pub fn resets(scene: &Scene) -> usize {
    let count = "ls -d /var/lib/rancher/*/server/db/etcd-old-* 2>/dev/null | wc -l";
    scene.servers().iter().map(|server| server.must(count).unwrap().trim().parse::<usize>().unwrap()).sum()
}

/// What of a control plane lives on a server: the unit, its processes, ports that are listened on.
pub fn alive(host: &Host<'_>) -> String {
    assert_eq!(host.role(), Role::Server);
    host.must(
        "systemctl is-active rke2-server | grep -vx inactive | grep -vx failed; \
         ps -eo pid=,comm= | grep -E ' (etcd|kube-apiserver|kubelet|containerd.*)$'; \
         ss -Hltn | awk '$4 ~ /:(2379|2380|6443|9345)$/ { print $4 }'; true",
    )
    .unwrap()
}

fn name_and_version(node: &Value) -> (String, String) {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    (text(&node["metadata"]["name"]), text(&node["status"]["nodeInfo"]["kubeletVersion"]))
}

/// Processes in containers of the control plane that were started from an image of another version.
fn containers_of_other_versions(host: &Host<'_>, version: &str) -> String {
    let tag = version.replace('+', "-");
    host.must(&format!(
        "for pid in $(pgrep kube-apiserver); do tr '\\0' '\\n' </proc/$pid/environ; done 2>/dev/null \
         | grep '^LAB_IMAGE=' | grep -v ':{tag}' || true"
    ))
    .unwrap()
}
