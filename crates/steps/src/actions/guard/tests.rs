use rke2flow_engine::clock::Clock;

use super::*;
use crate::actions::testing::{NEW, Scene};
use crate::answer::{Disk, DiskUse};

fn guard(version: &str, waived: &[&str]) -> Guard {
    let waived = waived.iter().map(|name| (*name).to_owned()).collect();
    Guard {
        checks: all(),
        version: Param::Known(version.to_owned()),
        later: Param::default(),
        drains: Param::Known(false),
        token_hash: Param::default(),
        waived: Param::Known(waived),
        lost: Param::default(),
    }
}

async fn seen(scene: &Scene, check: Check, version: &str) -> Judgement {
    let question = Question { version: version.to_owned(), ..Question::default() };
    judge(&scene.world(), &[check], &question, &Clock::real()).await.remove(0)
}

fn ill() -> Scene {
    let scene = Scene::with("velero: (csi: false),");
    scene.change(|state| state.hosts.get_mut("agent-1").unwrap().silent = true);
    scene.survey("server-1", |survey| (survey.members[1].learner, survey.token_sha256) = (true, "b".to_owned()));
    scene.survey("server-2", |survey| survey.disk_free = 150 << 20);
    scene
}

#[tokio::test(start_paused = true)]
async fn everything_that_passes_is_told() {
    let facts = Scene::new().on("operator", guard(NEW, &[])).satisfied().await;
    let checks: Vec<&str> = facts["checks"].as_array().unwrap().iter().filter_map(|check| check.as_str()).collect();
    insta::assert_snapshot!(checks.join("\n"));
}

#[tokio::test(start_paused = true)]
async fn everything_that_refuses_is_told_at_once() {
    let failure = ill().on("operator", guard("v1.35.0+rke2r1", &[])).failure().await;
    assert_eq!(failure.class, FailureClass::Refused);
    insta::assert_snapshot!(format!("{}\n\n{}\n\n{}", failure.what, failure.observed, failure.next));
}

#[tokio::test(start_paused = true)]
async fn a_waived_check_is_passed_over_and_still_told() {
    let scene = Scene::new();
    scene.survey("server-2", |survey| survey.disk_free = 150 << 20);
    let by_the_runbook = scene.on("operator", guard(NEW, &["disk_free"])).satisfied().await;
    assert!(by_the_runbook["warnings"].to_string().contains("WAIVED disk_free"));
    let mut bench = scene.on("operator", guard(NEW, &[]));
    bench.context.waived = vec!["disk_free".to_owned(), "a-step".to_owned()];
    assert!(bench.satisfied().await["checks"].to_string().contains("WAIVED disk_free"));
    bench.context.waived = vec!["server_token".to_owned()];
    assert!(bench.failure().await.observed.contains("FAIL disk_free"));
}

#[tokio::test(start_paused = true)]
async fn what_does_not_exist_or_must_not_be_passed_over_is_not_waived() {
    let why = Scene::new().on("operator", guard(NEW, &["disk_fre"])).failure().await.what;
    assert!(why.contains("there is no check `disk_fre`") && why.contains("disk_free"), "{why}");
    assert!(!why.contains("etcd_quorum"), "{why}");
    let why = ill().on("operator", guard(NEW, &["etcd_quorum"])).failure().await.what;
    assert!(why.contains("etcd_quorum cannot be waived: without every voter"), "{why}");
    // Of `--waive` a name that may not be waived is no check that is passed over either.
    let mut bench = ill().on("operator", guard(NEW, &[]));
    bench.context.waived = vec!["etcd_quorum".to_owned()];
    assert!(bench.failure().await.observed.contains("FAIL etcd_quorum"));
}

#[tokio::test(start_paused = true)]
async fn a_downgrade_is_refused_and_the_same_version_is_not() {
    let refused = Scene::new().on("operator", guard("v1.33.3+rke2r1", &[])).failure().await;
    assert!(refused.observed.contains("would be a downgrade"), "{refused}");
    Scene::new().on("operator", guard("v1.33.4+rke2r1", &[])).satisfied().await;
}

#[tokio::test(start_paused = true)]
async fn a_host_that_is_a_hop_further_is_no_downgrade() {
    let scene = Scene::new();
    scene.edit("/api/v1/nodes/server-0", |node| node["status"]["nodeInfo"]["kubeletVersion"] = NEW.into());
    let goal = |later: &str| Guard { later: Param::Known(vec![later.to_owned()]), ..guard("v1.33.5+rke2r1", &[]) };
    scene.on("operator", goal(NEW)).satisfied().await;
    let refused = scene.on("operator", goal("v1.34.9+rke2r1")).failure().await;
    assert!(refused.observed.contains("v1.33.5+rke2r1 would be a downgrade"), "{refused}");
}

#[tokio::test(start_paused = true)]
async fn a_check_that_needs_no_api_is_told_without_one() {
    let scene = Scene::new();
    scene.change(|state| state.api_down = true);
    let checks = vec![Check::HostsReachable, Check::DiskFree, Check::ServerToken, Check::Certificates];
    scene.on("operator", Guard { checks, ..guard("", &[]) }).satisfied().await;
    let one = seen(&scene, Check::VersionSkew, NEW).await;
    assert!(one.outcome == Outcome::Fail && one.observed.contains("nobody can tell: cannot reach"), "{one:?}");
    assert_eq!(seen(&scene, Check::OtherControllers, "").await.outcome, Outcome::Warn);
}

#[tokio::test(start_paused = true)]
async fn places_on_one_file_system_share_its_room_and_others_do_not() {
    // Twice 100 MiB of etcd, and three times 500 MiB of a release.
    let free = |mounts: [&'static str; 2], bytes: [u64; 2]| {
        let scene = Scene::new();
        scene.inspection("server-1", |inspection| {
            let disk = |(i, holds): (usize, DiskUse)| Disk { holds, mount: mounts[i].to_owned(), free: bytes[i] };
            inspection.disks = [DiskUse::Data, DiskUse::State].into_iter().enumerate().map(disk).collect();
        });
        async move { seen(&scene, Check::DiskFree, NEW).await }
    };
    assert_eq!(free(["/", "/"], [1701 << 20; 2]).await.outcome, Outcome::Pass);
    let tight = free(["/", "/"], [1699 << 20; 2]).await;
    assert_eq!(tight.observed, "server-1 has 1699 MiB free on /, 1700 MiB are needed");
    assert_eq!(free(["/", "/var"], [701 << 20, 1001 << 20]).await.outcome, Outcome::Pass);
    assert!(free(["/", "/var"], [701 << 20, 999 << 20]).await.observed.contains("999 MiB free on /var"));
}

#[tokio::test(start_paused = true)]
async fn clocks_are_judged_by_what_is_certain() {
    let by = |seconds: i64| async move {
        let scene = Scene::new();
        scene.survey("agent-0", |survey| survey.epoch += seconds);
        seen(&scene, Check::ClockOffset, "").await
    };
    assert_eq!(by(2).await.outcome, Outcome::Pass, "a host tells whole seconds");
    assert_eq!(by(4).await.outcome, Outcome::Warn);
    let (ahead, behind) = (by(40).await, by(-40).await);
    assert!(ahead.outcome == Outcome::Fail && ahead.observed.contains("agent-0's clock is 39 s ahead of"), "{ahead:?}");
    assert!(behind.outcome == Outcome::Fail && behind.observed.contains("39 s behind"), "{behind:?}");
}

#[tokio::test(start_paused = true)]
async fn certificates_warn_and_refuse_by_their_days() {
    let with = |file: &'static str, days: i64| async move {
        let scene = Scene::new();
        let now = crate::actions::testing::NOW;
        scene.inspection("server-0", |inspection| {
            inspection.certificates[0].file = file.to_owned();
            inspection.certificates[0].not_after = now + days * 24 * 3600 + 60;
        });
        seen(&scene, Check::Certificates, "").await.outcome
    };
    let (leaf, authority) = ("agent/client-kubelet.crt", "server/tls/server-ca.crt");
    for (file, days, expected) in [
        (leaf, 30, Outcome::Pass),
        (leaf, 29, Outcome::Warn),
        (leaf, 0, Outcome::Fail),
        (leaf, -3, Outcome::Fail),
        (authority, 365, Outcome::Pass),
        (authority, 364, Outcome::Warn),
        (authority, 29, Outcome::Fail),
    ] {
        assert_eq!(with(file, days).await, expected, "{file} ends in {days} days");
    }
}

#[tokio::test(start_paused = true)]
async fn etcd_may_become_3_6_from_the_releases_that_have_the_fixes() {
    let from = |etcd: &'static str, to: &'static str| async move {
        let scene = Scene::new();
        scene.inspection("server-1", |inspection| inspection.etcd_version = etcd.to_owned());
        seen(&scene, Check::EtcdPath, to).await.outcome
    };
    assert_eq!(from("3.5.26", NEW).await, Outcome::Pass);
    assert_eq!(from("3.5.25", NEW).await, Outcome::Warn);
    assert_eq!(from("3.5.20", NEW).await, Outcome::Warn);
    assert_eq!(from("3.5.19", NEW).await, Outcome::Fail);
    assert_eq!(from("", NEW).await, Outcome::Warn);
    assert_eq!(from("3.5.19", "v1.33.9+rke2r1").await, Outcome::Pass);
    assert_eq!(from("3.6.4", "v1.35.0+rke2r1").await, Outcome::Pass);
}

#[tokio::test(start_paused = true)]
async fn every_server_must_have_the_token_of_the_point() {
    let goal = |hash: &str| Guard {
        checks: vec![Check::ServerToken],
        token_hash: Param::Known(hash.to_owned()),
        ..guard("", &[])
    };
    Scene::new().on("operator", goal("0123456789ab")).satisfied().await;
    let refused = Scene::new().on("operator", goal("ba9876543210")).failure().await;
    assert!(refused.observed.contains("server-1 has the token of hash 0123456789ab"), "{refused}");
}

#[test]
fn names_of_checks_are_the_ones_that_are_written() {
    for check in Check::ALL {
        assert_eq!(serde_json::to_value(check).unwrap(), check.to_string());
        assert_eq!(Check::named(check.name()), Some(*check));
    }
}

#[test]
fn every_check_says_why_it_matters_and_who_says_so() {
    for check in Check::ALL {
        assert!(check.reason().len() > 20 && check.source().len() > 5 && check.what().len() > 10, "{check}");
    }
}

/// The page of the checks, between its own words and the decisions.
fn page() -> String {
    let mut text = String::from(
        "# Guards\n\nWhat must hold before a run begins. All checks look at once, change nothing, and everything that they find is told\n\
         together: what was seen, with the names of hosts and objects, why it matters, and what to do next. A check that refuses\n\
         ends the run with exit code 4 before anything was changed; a warning is told and stops nothing. What a check cannot look\n\
         at counts as wrong for it.\n\n\
         `rke2flow doctor` looks with all of them, takes no claim, and ends with 4 when one would refuse. `upgrade` asks all of\n\
         them; `backup` and `rollback` ask what they need themselves, because a cluster that is ill needs them most.\n\n\
         `run --waive CHECK=REASON` passes over one check; who did so and why is in the journal and in the report. A check with\n\
         a dash under *waive* cannot be passed over: the run could not end well.\n\n\
         | Check | Holds when | At worst | Waive | Why | Source |\n|---|---|---|---|---|---|\n",
    );
    for check in Check::ALL {
        let level = if check.level() == Level::Refuse { "refuses" } else { "warns" };
        let waive = check.unwaivable().map_or("yes".to_owned(), |why| format!("– {why}"));
        let (what, why, source) = (check.what(), check.reason(), check.source());
        text.push_str(&format!("| `{check}` | {what} | {level} | {waive} | {why} | {source} |\n"));
    }
    text.push_str(
        "\nA runbook names checks as `Guard(checks: [etcd_quorum, disk_free])`. With `drains: true` a PodDisruptionBudget that allows\n\
         no eviction refuses; `doctor`, which does not know whether nodes will be drained, warns of it.\n\n\
         Sources: `R2` is rancher/rke2, `K3S` k3s-io/k3s, `RR` rancher/rancher, `etcd` etcd-io/etcd; `X#N` is an issue or a pull\n\
         request there.\n",
    );
    text
}

#[test]
fn the_page_of_the_guards_is_what_they_are() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/src/guards.md");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(path, page()).unwrap();
    }
    let written = std::fs::read_to_string(path).unwrap_or_default();
    assert!(written == page(), "docs/src/guards.md is old: run this test with UPDATE_DOCS=1");
}
