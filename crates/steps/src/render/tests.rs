//! What must hold for every script, whatever the command.

use rke2flow_engine::action::Claim;
use rke2flow_engine::cluster::{Distribution, PathOverrides, Releases, Role};
use rke2flow_engine::id::{HostName, InstanceId, RunId, StepId, Target, UnitName};

use super::{parse_envelope, script};
use crate::command::{
    Change, ClaimCommand, ENVELOPE_VERSION, Envelope, HandedToken, HostCommand, Look, NodePart, Order,
};
use crate::distribution::Traits;
use crate::paths::HostPaths;
use crate::transfer::Presigned;

fn envelope(command: HostCommand) -> Envelope {
    let paths = HostPaths::with(Distribution::Rke2, PathOverrides::default());
    Envelope { v: ENVELOPE_VERSION, cluster: "prod".to_owned(), role: Role::Server, paths, command }
}

fn run() -> RunId {
    RunId::new("261122-0312-k7q2").unwrap()
}

fn claim() -> Claim {
    Claim { number: 7, holder: "alice@laptop".to_owned(), run: run(), cluster: "prod".to_owned() }
}

fn order(change: Change) -> Order {
    let target = Target::Host(HostName::new("server-0").unwrap());
    let instance = InstanceId::new(&StepId::new("step").unwrap(), "Action", 1, &target);
    let unit = UnitName::new(&run(), &instance, 1);
    Order { run: run(), instance, attempt: 1, unit, claim: claim(), change }
}

fn request() -> Presigned {
    let url = "https://s3.test/b/k?X-Amz-Signature=5ec4e7".to_owned();
    Presigned { url, headers: vec![("x-amz-meta-a".to_owned(), "5ec4e7".to_owned())], ca: String::new() }
}

fn every_change() -> Vec<Change> {
    let text = || "x".to_owned();
    let point = serde_json::json!({"schema": "s", "id": "i", "cluster": "c", "taken_at": "2026-11-22T03:12:00Z",
        "version": "v", "snapshots": [], "token_sha256": "", "ca_sha256": "", "sentinel_before": "", "sentinel_after": ""});
    vec![
        Change::FetchRelease { version: text(), from: Releases::default(), arch: String::new() },
        Change::StageSnapshot { file: text(), sha256: text(), to: text() },
        Change::SaveSnapshot { name: text() },
        Change::UploadSnapshot { file: text(), sha256: text(), request: request() },
        Change::FetchSnapshot { to: text(), size: 1, sha256: text(), request: request() },
        Change::InstallVersion { version: text(), keep_replaced: true },
        Change::Hold,
        Change::ReleaseHold,
        Change::KillNode { grace_seconds: 10 },
        Change::JoinAnew { grace_seconds: 5 },
        Change::MoveAside { parts: vec![NodePart::Etcd, NodePart::Tls] },
        Change::MoveBack { parts: vec![NodePart::Cred, NodePart::ShippedCharts] },
        Change::PointAt { server: None },
        Change::ClusterReset { snapshot: text(), sha256: text() },
        Change::StartUnit,
        Change::RestartUnit,
        Change::WritePoint { point: Box::new(serde_json::from_value(point).unwrap()) },
        // What it hands over is in no envelope.
        Change::WriteToken { token: HandedToken::default() },
        Change::EnableUnit,
        Change::MarkLost { hosts: vec![HostName::new("server-2").unwrap()] },
        Change::ForgetLost { hosts: Vec::new() },
        Change::CleanUp,
        Change::Script { script: text() },
    ]
}

fn every_command() -> Vec<HostCommand> {
    let text = || "x".to_owned();
    let order = order(Change::Hold);
    let receipt = Look::Receipt { run: order.run, instance: order.instance, attempt: 1, unit: order.unit };
    let looks = [
        Look::Survey,
        receipt,
        Look::Files { paths: vec![text()] },
        Look::Files { paths: vec![] },
        Look::Snapshots { prefix: text() },
        Look::SnapshotList,
        Look::Points,
        Look::Point { file: text(), offset: 1 },
        Look::Identity,
        Look::Inspection,
        Look::Release { version: text() },
        Look::Log { unit: text(), lines: 10 },
        Look::Kubeconfig,
        Look::Script { script: text() },
    ];
    let claims = [ClaimCommand::Take(claim()), ClaimCommand::Release(claim())];
    let changes = every_change().into_iter().map(|change| HostCommand::Change(self::order(change)));
    looks.map(HostCommand::Look).into_iter().chain(claims.map(HostCommand::Claim)).chain(changes).collect()
}

fn is_syntax(text: &str) -> bool {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    std::process::Command::new("sh").arg("-n").arg(file.path()).status().unwrap().success()
}

#[test]
fn every_script_is_shell_and_carries_its_envelope() {
    for command in every_command() {
        let envelope = envelope(command);
        let text = script(&envelope);
        assert!(is_syntax(&text), "{:?}", envelope.command);
        assert_eq!(parse_envelope(&text).unwrap(), envelope);
        assert!(text.ends_with("}\nmain \"$@\"\n"));
    }
}

#[test]
fn the_staged_script_has_exactly_the_stages_that_the_change_names() {
    for change in every_change() {
        let staged = super::change::inner(&envelope(HostCommand::Look(Look::Survey)), &order(change.clone()));
        assert!(is_syntax(&staged), "{change:?}");
        let marked: Vec<&str> = staged.lines().filter_map(|line| line.strip_prefix("#: ")).collect();
        assert_eq!(marked, change.stages(), "{change:?}");
    }
}

#[test]
fn what_is_kept_on_the_hosts_disk_has_no_presigned_request_in_it() {
    for change in every_change() {
        let staged = super::change::inner(&envelope(HostCommand::Look(Look::Survey)), &order(change.clone()));
        assert!(!staged.contains("5ec4e7"), "{change:?}");
    }
}

#[test]
fn an_envelope_of_another_version_is_refused_with_the_version_it_has() {
    let text = script(&envelope(HostCommand::Look(Look::Survey))).replacen("{\"v\":1,", "{\"v\":2,", 1);
    assert_eq!(
        parse_envelope(&text).unwrap_err().to_string(),
        "envelope version 2, expected 1: written by another version of rke2flow"
    );
    assert!(parse_envelope("echo hello").is_err() && parse_envelope("").is_err());
}

#[test]
fn no_script_names_a_place_of_the_host_that_is_not_of_its_paths() {
    let mut moved = envelope(HostCommand::Look(Look::Survey));
    for place in [&mut moved.paths.data, &mut moved.paths.config, &mut moved.paths.bin, &mut moved.paths.systemd] {
        *place = "PLACE".to_owned();
    }
    moved.paths.state = "PLACE".to_owned();
    moved.paths.runtime = "PLACE".to_owned();
    for command in every_command() {
        moved.command = command;
        let text = script(&moved);
        for place in ["/var/", "/etc/", "/usr/", "/run/", "/tmp/", "/bin/sh "] {
            assert!(!text.contains(place), "{place} in {:?}", moved.command);
        }
    }
}

#[test]
fn scripts_read_as_they_did() {
    let take = envelope(HostCommand::Claim(ClaimCommand::Take(claim())));
    insta::assert_snapshot!("claim", script(&take));
    let hold = envelope(HostCommand::Change(order(Change::Hold)));
    insta::assert_snapshot!("hold", script(&hold));
    let parts = vec![NodePart::Etcd, NodePart::Tls, NodePart::Cred, NodePart::ShippedCharts];
    let aside = order(Change::MoveAside { parts });
    insta::assert_snapshot!("move_aside_staged", super::change::inner(&hold, &aside));
}

#[test]
fn a_release_comes_from_the_distributions_own_place() {
    let from = Traits::of(Distribution::K3s).releases_of(&Releases::default());
    let change = Change::FetchRelease { version: "v1.33.4+k3s1".to_owned(), from, arch: "arm64".to_owned() };
    let paths = HostPaths::with(Distribution::K3s, PathOverrides::default());
    let text = script(&Envelope { paths, ..envelope(HostCommand::Change(order(change))) });
    assert!(text.contains("https://github.com/k3s-io/k3s/releases/download/v1.33.4%2Bk3s1/{file}"), "{text}");
    assert!(text.contains("https://raw.githubusercontent.com/k3s-io/k3s/v1.33.4%2Bk3s1/install.sh"), "{text}");
    assert!(text.contains("artifact_arm64=k3s-arm64") && !text.contains("github.com/rancher/rke2"), "{text}");
}
