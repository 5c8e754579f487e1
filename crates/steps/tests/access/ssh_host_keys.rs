//! Whether a host may be believed, against what sshd really presents.

use rke2flow_steps::access::ssh::{fingerprint, write_known_hosts};
use rke2flow_steps::ports::AccessError;

use crate::sshd::{Sshd, cluster, cluster_of, host, keygen, public, run, settings, shell};

fn refusal(error: AccessError) -> String {
    match error {
        AccessError::Refused { why, .. } => why,
        other => panic!("not a refusal: {other}"),
    }
}

fn without_pin(sshd: &Sshd) -> serde_json::Value {
    serde_json::json!({ "port": sshd.port, "key": sshd.key(), "known_hosts": sshd.file("known_hosts") })
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_host_is_refused_with_its_fingerprint_until_its_key_is_written_down() {
    let sshd = Sshd::start();
    let ssh = without_pin(&sshd);
    let shown = fingerprint(&sshd.host_key().parse().unwrap());
    let why = refusal(run(&sshd.shell(&ssh), "true").await.unwrap_err());
    assert!(why.contains(&format!("not known: {shown};")) && why.contains("`rke2flow trust`"), "{why}");

    let scanned = sshd.shell(&ssh).scan_host_key(&host("s0")).await.unwrap();
    assert_eq!(scanned.fingerprint, shown);
    write_known_hosts(&sshd.file("known_hosts"), &[scanned.key]).unwrap();
    assert_eq!(run(&sshd.shell(&ssh), "true").await.unwrap().exit, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_key_is_refused_with_both_fingerprints_whether_pinned_or_recorded() {
    let sshd = Sshd::start();
    let presented = fingerprint(&sshd.host_key().parse().unwrap());
    let other = public(&sshd.file("stranger"));
    let recorded = fingerprint(&other.parse().unwrap());
    let mut pinned = sshd.ssh();
    pinned["host_key"] = other.clone().into();
    std::fs::write(sshd.file("known_hosts"), format!("[127.0.0.1]:{} {other}\n", sshd.port)).unwrap();
    for ssh in [pinned, without_pin(&sshd)] {
        let why = refusal(run(&sshd.shell(&ssh), "true").await.unwrap_err());
        assert!(why.contains("has changed") && why.contains(&recorded) && why.contains(&presented), "{why}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_is_recorded_with_another_key_type_is_changed_and_not_unknown() {
    let sshd = Sshd::start();
    keygen(sshd.dir.path(), "ecdsa", &["-t", "ecdsa"]);
    let line = format!("[127.0.0.1]:{} {}\n", sshd.port, public(&sshd.file("ecdsa")));
    std::fs::write(sshd.file("known_hosts"), line).unwrap();
    let why = refusal(run(&sshd.shell(&without_pin(&sshd)), "true").await.unwrap_err());
    assert!(why.contains("has changed") && why.contains("presented only ssh-ed25519"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_key_is_refused_although_it_is_also_recorded() {
    let sshd = Sshd::start();
    let key = sshd.host_key();
    let text = format!("[127.0.0.1]:{} {key}\n@revoked * {key}\n", sshd.port);
    std::fs::write(sshd.file("known_hosts"), text).unwrap();
    let why = refusal(run(&sshd.shell(&without_pin(&sshd)), "true").await.unwrap_err());
    assert!(why.contains("is marked @revoked in") && why.ends_with("known_hosts:2"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_authority_does_not_make_a_key_known_and_is_named() {
    let sshd = Sshd::start();
    std::fs::write(sshd.file("known_hosts"), format!("@cert-authority * {}\n", sshd.host_key())).unwrap();
    let why = refusal(run(&sshd.shell(&without_pin(&sshd)), "true").await.unwrap_err());
    assert!(why.contains("not known") && why.contains("@cert-authority of"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_rsa_host_key_is_accepted_with_sha2() {
    let sshd = Sshd::start();
    keygen(sshd.dir.path(), "rsa", &["-t", "rsa", "-b", "2048"]);
    let rsa = Sshd::with_config(&format!("HostKey {}", sshd.file("rsa").display()));
    let mut ssh = rsa.ssh();
    ssh["host_key"] = public(&sshd.file("rsa")).into();
    assert_eq!(run(&rsa.shell(&ssh), "true").await.unwrap().exit, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_host_is_tried_and_every_refusal_comes_back_at_once() {
    let sshd = Sshd::start();
    let (mut wrong, mut nobody) = (sshd.ssh(), sshd.ssh());
    wrong["host_key"] = public(&sshd.file("stranger")).into();
    nobody["key"] = sshd.file("stranger").to_str().unwrap().into();
    let unknown = without_pin(&sshd);
    let right = sshd.ssh();
    let hosts = [("s0", &right), ("s1", &wrong), ("s2", &nobody), ("s3", &unknown)];
    let shell = shell(cluster_of(&hosts), settings());
    let names = hosts.map(|(name, _)| host(name));
    let reports = shell.check_all(&names).await;
    assert_eq!(reports.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>(), names);
    let found: Vec<_> = reports.into_iter().map(|(_, report)| report).collect();
    assert_eq!(found[0].as_ref().unwrap().survey.boot, "b1");
    assert_eq!(found[0].as_ref().unwrap().host_key, fingerprint(&sshd.host_key().parse().unwrap()));
    for (report, expected) in found.into_iter().skip(1).zip(["has changed", "was refused", "not known"]) {
        let why = refusal(report.unwrap_err());
        assert!(why.contains(expected), "{why}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pin_that_is_no_key_is_refused_before_anything_is_sent() {
    let sshd = Sshd::start();
    let mut ssh = sshd.ssh();
    ssh["host_key"] = "SHA256:abc".into();
    let why = refusal(run(&shell(cluster(&ssh), settings()), "true").await.unwrap_err());
    assert!(why.contains("`host_key` of the cluster file is not a key"), "{why}");
}
