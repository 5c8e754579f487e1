//! Every change: applied, applied again, and cut off after each of its stages and applied again, leaves the same world.

use std::collections::{BTreeMap, BTreeSet};

use rke2flow_engine::cluster::{Distribution, Releases, Role};
use rke2flow_steps::answer::ReceiptAnswer;
use rke2flow_steps::command::Change;

use super::bench::{Bench, NEWER, VERSION, claim, etcd_snapshot, order, run, sha256};

pub struct Case {
    pub prepare: fn(&Bench),
    pub change: fn(&Bench) -> Change,
    pub goal: fn(&Bench),
}

/// Runs a case undisturbed, twice, and once per stage with a cut behind it.
pub fn check(case: &Case) {
    check_of(Distribution::Rke2, case);
}

/// The same on a host of this distribution.
pub fn check_of(distribution: Distribution, case: &Case) {
    let undisturbed = Bench::of(distribution);
    (case.prepare)(&undisturbed);
    let change = (case.change)(&undisturbed);
    undisturbed.apply(&change, 1);
    (case.goal)(&undisturbed);
    let expected = undisturbed.state_of_the_world();
    undisturbed.apply(&change, 2);
    same(&undisturbed, &expected, &format!("{change:?} applied twice"));

    for (index, stage) in change.stages().iter().enumerate() {
        let host = Bench::of(distribution);
        (case.prepare)(&host);
        let change = (case.change)(&host);
        host.write(&host.world("cut"), (index + 1).to_string());
        host.take(claim(7));
        let cut = host.place(&order(change.clone(), 1));
        assert!(matches!(cut, ReceiptAnswer::Interrupted { .. }), "{change:?} cut after {stage}: {cut:?}");
        std::fs::remove_file(host.world("cut")).unwrap();
        host.apply(&change, 2);
        (case.goal)(&host);
        same(&host, &expected, &format!("{change:?} cut after {stage} and applied again"));
    }
}

fn same(host: &Bench, expected: &BTreeMap<String, String>, when: &str) {
    let found = host.state_of_the_world();
    let differs = |name: &&String| found.get(*name) != expected.get(*name);
    let names: BTreeSet<&String> = found.keys().chain(expected.keys()).filter(differs).collect();
    let both: Vec<_> = names.iter().map(|name| (name, expected.get(*name), found.get(*name))).collect();
    assert!(both.is_empty(), "{when}: (name, undisturbed, found): {both:#?}");
}

fn nothing(_: &Bench) {}

#[test]
fn a_release_is_fetched_from_a_directory() {
    check(&Case {
        prepare: |host| host.release_source(VERSION),
        change: |host| Change::FetchRelease {
            version: VERSION.to_owned(),
            from: Releases::Directory(host.world("source").into()),
            arch: String::new(),
        },
        goal: |host| assert!(host.exists(&format!("{}/install.sh", host.paths.release(VERSION)))),
    });
}

#[test]
fn a_release_is_fetched_from_a_url_with_its_plus_escaped() {
    check(&Case {
        prepare: |host| host.release_source(VERSION),
        change: |_| Change::FetchRelease {
            version: VERSION.to_owned(),
            from: Releases::Url("https://releases.test/{version}/{file}".to_owned()),
            arch: String::new(),
        },
        goal: |host| {
            assert!(host.exists(&format!("{}/install.sh", host.paths.release(VERSION))));
            assert!(host.log().iter().any(|line| line.contains("/v1.33.4%2Brke2r1/install.sh")));
        },
    });
}

#[test]
fn a_release_whose_checksum_does_not_fit_is_not_published_and_the_good_one_is_taken_next_time() {
    let host = Bench::new();
    host.release_source(VERSION);
    let tarball = host.world(&format!("source/{VERSION}/rke2.linux-{}.tar.gz", super::bench::arch()));
    host.write(&tarball, "damaged");
    let from = Releases::Directory(host.world("source").into());
    let change = Change::FetchRelease { version: VERSION.to_owned(), from, arch: String::new() };
    let (exit, tail) = host.try_apply(&change, 1);
    assert!(exit != 0 && tail.contains("checksum does not fit"), "{exit} {tail}");
    assert!(!host.exists(&host.paths.release(VERSION)));
    host.write(&tarball, VERSION);
    host.apply(&change, 2);
}

#[test]
fn a_snapshot_is_staged() {
    check(&Case {
        prepare: |host| host.write(&host.world("snapshot"), etcd_snapshot(1)),
        change: |host| Change::StageSnapshot {
            file: host.world("snapshot"),
            sha256: sha256(&etcd_snapshot(1)),
            to: format!("{}/snapshot", host.paths.staged(&run())),
        },
        goal: |host| {
            let staged = std::fs::read(format!("{}/snapshot", host.paths.staged(&run()))).unwrap();
            assert_eq!(staged, etcd_snapshot(1));
        },
    });
}

#[test]
fn a_compressed_snapshot_is_unpacked() {
    fn zipped() -> Vec<u8> {
        stored_zip("snapshot", &etcd_snapshot(2))
    }
    check(&Case {
        prepare: |host| host.write(&host.world("snapshot.zip"), zipped()),
        change: |host| Change::StageSnapshot {
            file: host.world("snapshot.zip"),
            sha256: sha256(&zipped()),
            to: format!("{}/snapshot", host.paths.staged(&run())),
        },
        goal: |host| {
            let staged = std::fs::read(format!("{}/snapshot", host.paths.staged(&run()))).unwrap();
            assert_eq!(staged, etcd_snapshot(2));
        },
    });
}

/// An archive of one file, stored: local header, data, central directory, its end (APPNOTE 4.3).
fn stored_zip(name: &str, data: &[u8]) -> Vec<u8> {
    let crc = !data.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xEDB8_8320 & (crc & 1).wrapping_neg()))
    });
    let size = u32::try_from(data.len()).unwrap();
    let mut fields = vec![20, 0, 0, 0, 0, 0, 0, 0, 0x21, 0x5b];
    for number in [crc, size, size, u32::try_from(name.len()).unwrap()] {
        fields.extend(number.to_le_bytes());
    }
    let mut zip = [b"PK\x03\x04".as_slice(), &fields, name.as_bytes(), data].concat();
    let directory_at = u32::try_from(zip.len()).unwrap();
    zip.extend([b"PK\x01\x02\x14\x00".as_slice(), &fields, &[0; 14], name.as_bytes()].concat());
    let directory_size = u32::try_from(zip.len()).unwrap() - directory_at;
    zip.extend(b"PK\x05\x06\0\0\0\0\x01\0\x01\0");
    zip.extend([directory_size.to_le_bytes(), directory_at.to_le_bytes()].concat());
    zip.extend([0, 0]);
    zip
}

#[test]
fn a_snapshot_without_its_trailer_is_not_staged() {
    let host = Bench::new();
    let cut_off = &etcd_snapshot(1)[..4096];
    host.write(&host.world("snapshot"), cut_off);
    let to = format!("{}/snapshot", host.paths.staged(&run()));
    let change = Change::StageSnapshot { file: host.world("snapshot"), sha256: sha256(cut_off), to: to.clone() };
    let (exit, tail) = host.try_apply(&change, 1);
    assert!(exit != 0 && tail.contains("trailer"), "{exit} {tail}");
    assert!(!host.exists(&to));
}

#[test]
fn a_snapshot_is_saved() {
    check(&Case {
        prepare: |host| host.write(&host.world("snapshot"), etcd_snapshot(1)),
        change: |_| Change::SaveSnapshot { name: "rke2flow-k7q2".to_owned() },
        goal: |host| assert!(host.exists(&format!("{}/rke2flow-k7q2-server-0-1763780000", host.paths.snapshots()))),
    });
}

#[test]
fn an_older_version_is_installed_and_the_replaced_binary_kept() {
    check(&Case {
        prepare: |host| {
            host.write(&host.world("version"), NEWER);
            host.release_source(VERSION);
            let from = Releases::Directory(host.world("source").into());
            host.apply(&Change::FetchRelease { version: VERSION.to_owned(), from, arch: String::new() }, 9);
        },
        change: |_| Change::InstallVersion { version: VERSION.to_owned(), keep_replaced: true },
        goal: |host| {
            assert_eq!(host.survey().installed, VERSION);
            assert!(host.exists(&host.paths.replaced(NEWER)));
            assert!(host.log().contains(&"install server tar".to_owned()));
        },
    });
}

#[test]
fn a_hold_is_put_on_taken_off_and_cleaned_up() {
    fn held(host: &Bench) {
        host.apply(&Change::Hold, 8);
        host.apply(&Change::PointAt { server: None }, 9);
    }
    check(&Case {
        prepare: nothing,
        change: |_| Change::Hold,
        goal: |host| {
            let survey = host.survey();
            assert!(survey.hold && survey.hold_drop_in);
            let text = host.read(&host.paths.hold_drop_in(host.role));
            assert!(text.contains(&format!("\nConditionPathExists=!{}\n", host.paths.hold())), "{text}");
        },
    });
    check(&Case { prepare: held, change: |_| Change::ReleaseHold, goal: |host| assert!(!host.survey().hold) });
    check(&Case {
        prepare: held,
        change: |_| Change::CleanUp,
        goal: |host| {
            let survey = host.survey();
            assert!(!survey.hold && !survey.hold_drop_in && survey.server_override.is_empty());
        },
    });
}

#[test]
fn a_node_is_killed_with_containers_that_are_deaf_to_sigterm() {
    fn change(_: &Bench) -> Change {
        Change::KillNode { grace_seconds: 0 }
    }
    let host = Bench::new();
    host.write(&host.world("units/rke2-server"), "active");
    let (mut polite, mut deaf) = (host.shim(false), host.shim(true));
    assert_eq!(host.survey().shims, 2);
    host.apply(&change(&host), 1);
    assert_eq!(host.survey().shims, 0);
    assert!(deaf.is_gone() && polite.is_gone());
    check(&Case {
        prepare: |host| host.write(&host.world("units/rke2-server"), "active"),
        change,
        goal: |host| assert_eq!(host.survey().unit, "inactive"),
    });
}

#[test]
fn a_killall_that_leaves_a_container_is_not_a_success() {
    let host = Bench::new();
    let _shim = host.shim(true);
    host.executable(&format!("{}/rke2-killall.sh", host.paths.bin), "#!/bin/sh\nexit 0\n");
    let (exit, tail) = host.try_apply(&Change::KillNode { grace_seconds: 0 }, 1);
    assert!(exit != 0 && tail.contains("containers still run"), "{exit} {tail}");
}

#[test]
fn what_has_lost_its_shim_is_killed_and_containers_of_others_are_not() {
    let host = Bench::new();
    let mut orphan = host.container(1, "0::/kubepods.slice/kubepods-burstable.slice/cri-containerd-1.scope");
    let mut below = host.container(orphan.id(), "12:pids:/kubepods/burstable/1,0::/kubepods/burstable/1");
    let mut of_another_shim = host.container(std::process::id(), "0::/kubepods.slice/cri-containerd-2.scope");
    let mut inside_of_a_container = host.container(1, "0::/docker/abc/kubepods/1");
    host.apply(&Change::KillNode { grace_seconds: 0 }, 1);
    assert!(orphan.is_gone() && below.is_gone());
    assert!(!of_another_shim.is_gone() && !inside_of_a_container.is_gone());
}

#[test]
fn a_server_on_whose_ports_somebody_listens_is_not_down_and_the_process_is_named() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut host = Bench::new();
    host.paths.supervisor_port = listener.local_addr().unwrap().port();
    let (exit, tail) = host.try_apply(&Change::KillNode { grace_seconds: 0 }, 1);
    let (port, process) = (host.paths.supervisor_port, std::process::id());
    assert!(exit != 0 && tail.contains(&format!("somebody still listens: {port} by ")), "{exit} {tail}");
    assert!(tail.contains(&format!(" ({process})")), "{tail}");
    host.role = Role::Agent;
    host.apply(&Change::KillNode { grace_seconds: 0 }, 2);
}

#[test]
fn the_server_override_is_written() {
    check(&Case {
        prepare: |host| {
            host.write(&format!("{}/config.yaml", host.paths.config), "server: https://old:9345\netcd-s3: true\n")
        },
        change: |_| Change::PointAt { server: Some("https://10.0.0.10:9345".to_owned()) },
        goal: |host| {
            let survey = host.survey();
            let expected = rke2flow_steps::answer::server_override(&run(), Some("https://10.0.0.10:9345"));
            assert_eq!(survey.server_override, expected);
            assert_eq!((survey.configured_server.as_str(), survey.etcd_s3), ("https://old:9345", true));
        },
    });
    check(&Case {
        prepare: nothing,
        change: |_| Change::PointAt { server: None },
        goal: |host| {
            assert_eq!(host.survey().server_override, rke2flow_steps::answer::server_override(&run(), None));
            assert!(host.read(&host.paths.server_override()).ends_with("\nserver: \"\"\n"));
        },
    });
}

#[test]
fn a_unit_is_started_without_blocking() {
    fn goal(host: &Bench) {
        assert_eq!(host.survey().unit, "active");
        let asked = host.log().into_iter().filter(|line| line.starts_with("systemctl")).collect::<Vec<_>>();
        assert!(asked[0].contains("reset-failed") && asked[1].contains("--no-block"), "{asked:?}");
    }
    check(&Case { prepare: nothing, change: |_| Change::StartUnit, goal });
    check(&Case { prepare: nothing, change: |_| Change::RestartUnit, goal });
}

#[test]
fn a_persons_script_keeps_its_status_and_the_end_of_its_output() {
    check(&Case {
        prepare: nothing,
        change: |host| Change::Script {
            script: format!("echo it's done > '{}'", host.world("done")).replace("it's", "it"),
        },
        goal: |host| assert_eq!(host.read(&host.world("done")), "it done\n"),
    });
    let host = Bench::new();
    let script = "i=0; while [ $i -lt 20000 ]; do echo line $i; i=$((i+1)); done; exit 3".to_owned();
    let (exit, tail) = host.try_apply(&Change::Script { script }, 1);
    assert_eq!(exit, 3);
    assert!(tail.ends_with("line 19999\n") && tail.len() <= 4096);
    let out = format!("{}/out", host.paths.receipt(&run(), &order(Change::Hold, 1).instance, 1));
    assert!(host.read(&out).len() <= 64 * 1024);
}
