//! The stand-in on real hosts, driven by hand: what RKE2's own documents say works, and what they warn of fails.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::time::Duration;

use rke2flow_engine::action::Claim;
use rke2flow_engine::cluster::Role;
use rke2flow_engine::id::{HostName, InstanceId, RunId, StepId, Target, UnitName};
use rke2flow_lab::hosts::{self, Host, Lab};
use rke2flow_steps::answer::ReceiptAnswer;
use rke2flow_steps::command::{Change, ClaimCommand, ENVELOPE_VERSION, Envelope, HostCommand, Order};
use rke2flow_steps::paths::HostPaths;
use rke2flow_steps::ports::Output;
use rke2flow_steps::render;

const DATA: &str = "/var/lib/rancher/rke2";
const OLD: &str = "v1.33.4+rke2r1";
const NEW: &str = "v1.34.1+rke2r1";
/// What the earlier etcd says of data that a later one has written.
const REFUSED: &str = "journalctl -u rke2-server | grep -q 'invalid downgrade'";
/// Long enough for two servers to join one after the other.
const START: Duration = Duration::from_secs(180);

fn lab(servers: u8, agents: u8) -> Option<Lab> {
    hosts::required_or_left_out(module_path!())
        .then(|| hosts::turn().unwrap().up(|spec| spec.hosts(servers, agents)).unwrap())
}

/// A request to a host's own API, as its admin.
fn api(host: &Host<'_>, method: &str, path: &str, body: &str) -> String {
    host.must(&format!(
        "curl -s --cacert {DATA}/server/tls/server-ca.crt --cert {DATA}/server/tls/client-admin.crt \
         --key {DATA}/server/tls/client-admin.key -X {method} -H content-type:application/json -d '{body}' \
         https://127.0.0.1:6443{path}"
    ))
    .unwrap()
}

fn note(host: &Host<'_>, name: &str) {
    let body =
        format!(r#"{{"apiVersion":"v1","kind":"ConfigMap","metadata":{{"name":"{name}","namespace":"default"}}}}"#);
    let made = api(host, "POST", "/api/v1/namespaces/default/configmaps", &body);
    assert!(made.contains("resourceVersion"), "{made}");
}

fn has(host: &Host<'_>, name: &str) -> bool {
    !api(host, "GET", &format!("/api/v1/namespaces/default/configmaps/{name}"), "").contains("NotFound")
}

/// Saves, and returns the path of the local file.
fn snapshot(host: &Host<'_>) -> String {
    let saved = host.exec("rke2 etcd-snapshot save --name pre").unwrap();
    assert_eq!(saved.stderr.matches(" saved.").count(), 2, "one line per destination: {}", saved.stderr);
    host.must(&format!("ls {DATA}/server/db/snapshots/pre-*")).unwrap().trim().to_owned()
}

fn reset(host: &Host<'_>, snapshot: &str, flags: &str) -> (Option<i32>, String) {
    // The old database is moved to a name with the second in it, which may not be taken (K3S `pkg/etcd/etcd.go` Restore).
    let command =
        format!("sleep 1; timeout 60 rke2 server --cluster-reset --cluster-reset-restore-path={snapshot} {flags}");
    let output = host.exec(&command).unwrap();
    (output.status, output.stderr)
}

fn killall(host: &Host<'_>) {
    host.must("rke2-killall.sh >/dev/null 2>&1").unwrap();
}

/// The node's ports that somebody listens on, in hexadecimal.
fn listening(host: &Host<'_>) -> String {
    host.must("cat /proc/net/tcp /proc/net/tcp6 | grep -ioE ':(192B|094B|094C|2481) [0-9A-F:]+ 0A' || true").unwrap()
}

/// Sends rke2flow's own order to a host and waits for its end: its exit.
fn kill_node(lab: &Lab, host: &Host<'_>) -> i32 {
    let cluster = rke2flow_engine::cluster::read(&lab.cluster_file()).unwrap().cluster;
    let run = RunId::new("261122-0312-k7q2").unwrap();
    let claim = Claim { number: 1, holder: "a test".to_owned(), run: run.clone(), cluster: "lab".to_owned() };
    let target = Target::Host(HostName::new(host.name()).unwrap());
    let instance = InstanceId::new(&StepId::new("kill").unwrap(), "KillNode", 1, &target);
    let unit = UnitName::new(&run, &instance, 1);
    let change = Change::KillNode { grace_seconds: 1 };
    let order = Order { run, instance, attempt: 1, unit, claim: claim.clone(), change };
    let send = |command: HostCommand| {
        let paths = HostPaths::of(&cluster);
        let envelope = Envelope { v: ENVELOPE_VERSION, cluster: "lab".to_owned(), role: Role::Server, paths, command };
        let stdout = host.must_within("sh -s", render::script(&envelope).as_bytes(), START).unwrap().into_bytes();
        Output { exit: 0, stdout, stderr: Vec::new() }
    };
    send(HostCommand::Claim(ClaimCommand::Take(claim)));
    for _ in 0..240 {
        match render::answer(&send(HostCommand::Change(order.clone()))).unwrap() {
            ReceiptAnswer::Finished { exit, .. } => return exit,
            ReceiptAnswer::Running => std::thread::sleep(Duration::from_millis(500)),
            other => panic!("{other:?}"),
        }
    }
    panic!("the order does not end");
}

#[test]
fn an_earlier_etcd_refuses_later_data_and_a_rollback_by_the_book_brings_back_what_was_and_three_voters() {
    let Some(lab) = lab(3, 1) else { return };
    let hosts = lab.hosts();
    let [first, joiners @ ..] = &hosts[..3] else { panic!("three servers") };
    note(first, "before");
    let file = snapshot(first);
    note(first, "after");
    lab.add_release(NEW).unwrap();
    for host in &hosts {
        host.install(NEW).unwrap();
        host.must(&format!("systemctl restart {}", host.unit())).unwrap();
    }
    for host in &hosts {
        killall(host);
        host.install(OLD).unwrap();
    }
    first.start_unit().unwrap();
    first.must(&format!("for i in $(seq 60); do {REFUSED} && exit; sleep 0.5; done; exit 1")).unwrap();
    killall(first);
    for joiner in joiners {
        joiner.must(&format!("cd {DATA}/server && rm -rf db/etcd tls cred")).unwrap();
    }
    let (_, log) = reset(first, &file, "--etcd-s3=false");
    assert!(log.contains("Managed etcd cluster membership has been reset"), "{log}");
    first.start_unit().unwrap();
    first.await_active(START).unwrap();
    assert!(first.exec(&format!("test -e {DATA}/server/db/reset-flag")).unwrap().status != Some(0));
    for host in &hosts[1..] {
        host.start_unit().unwrap();
    }
    for host in &hosts {
        host.await_active(START).unwrap();
    }
    let members = first.must("curl -sk https://127.0.0.1:9345/db/info").unwrap();
    assert_eq!((members.matches("peerURLs").count(), members.contains("isLearner")), (3, false), "{members}");
    for server in &hosts[..3] {
        assert!(has(server, "before") && !has(server, "after"), "{}", server.name());
    }
}

#[test]
fn a_reset_is_refused_as_rke2_refuses_it() {
    let Some(lab) = lab(1, 0) else { return };
    let host = lab.host("server-0").unwrap();
    let file = snapshot(&host);
    killall(&host);
    let (status, log) = reset(&host, &file, "");
    assert!(
        status == Some(1) && log.contains("failed to download snapshot from S3"),
        "a local path while S3 is on: {log}"
    );
    let (status, log) = reset(&host, &file, "--etcd-s3=false --server=https://10.0.0.1:9345");
    assert!(status == Some(1) && log.contains("cannot perform cluster-reset while server URL is set"), "{log}");
    host.must(&format!("head -c 4096 {file} >{file}.cut")).unwrap();
    let (status, log) = reset(&host, &format!("{file}.cut"), "--etcd-s3=false");
    assert_eq!(status, Some(1), "{log}");
    let token = || host.must(&format!("cat {DATA}/server/token")).unwrap();
    let right = token();
    let (status, log) = reset(&host, &file, "--etcd-s3=false --token=another");
    assert!(status == Some(1) && log.contains("encrypted with different token"), "{log}");
    assert_eq!(token(), right);
    killall(&host);
    let (status, log) = reset(&host, &file, "--etcd-s3=false");
    assert!(status == Some(0) && log.contains("membership has been reset"), "{log}");
    let again = host.exec("rke2 server --cluster-reset").unwrap();
    assert!(again.status == Some(1) && again.stderr.contains("was previously reset"), "{}", again.stderr);
}

#[test]
fn a_control_plane_outlives_its_unit_until_killall_and_without_its_shims_even_that_but_not_our_own_kill() {
    let Some(lab) = lab(1, 0) else { return };
    let host = lab.host("server-0").unwrap();
    let refused = host.exec("rke2 etcd-snapshot save --name pre --s3-bucket=nowhere").unwrap();
    assert!(
        refused.status == Some(1) && refused.stderr.contains("failed to initialize S3 client"),
        "a bucket that does not exist: {}",
        refused.stderr
    );
    assert_eq!(host.must(&format!("ls {DATA}/server/db/snapshots 2>/dev/null | wc -l")).unwrap().trim(), "0");

    host.must("systemctl stop rke2-server").unwrap();
    let ended = host.must("pgrep -x rke2; pgrep -x kubelet; pgrep -x containerd; true").unwrap();
    assert!(!ended.contains(char::is_numeric), "{ended}");
    note(&host, "second-plane");
    killall(&host);
    assert_eq!(listening(&host), "");
    host.start_unit().unwrap();
    host.await_active(START).unwrap();
    assert!(has(&host, "second-plane"));

    host.must("systemctl kill --signal=KILL rke2-server; systemctl stop rke2-server").unwrap();
    killall(&host);
    assert_eq!(host.must("pgrep -cx containerd-shim; true").unwrap().trim(), "0");
    assert!(host.must("curl -s http://127.0.0.1:2381/health").unwrap().contains("true"), "etcd went with its shim");
    let exit = kill_node(&lab, &host);
    assert_eq!((exit, listening(&host).as_str()), (0, ""));
    host.start_unit().unwrap();
    host.await_active(START).unwrap();
    assert!(has(&host, "second-plane"));
}
