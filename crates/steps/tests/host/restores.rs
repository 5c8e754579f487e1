//! What a restore does to a server's data: moving aside and back, the reset, and what is refused.

use rke2flow_steps::answer::{REFUSED_EXIT, ReceiptAnswer};
use rke2flow_steps::command::{Change, NodePart};

use super::bench::{Bench, claim, etcd_snapshot, order, run, sha256};
use super::changes::{Case, check};

fn data(host: &Bench, below: &str) -> String {
    format!("{}/{below}", host.paths.data)
}

/// A server with a database, certificates and charts, stopped.
fn stopped_server(host: &Bench) {
    for (file, text) in [
        ("server/db/etcd/name", "server-0"),
        ("server/db/etcd/member/db", "newer data"),
        ("server/db/snapshots/kept", "a snapshot"),
        ("server/tls/server-ca.crt", "newer certificate"),
        ("server/cred/passwd", "newer"),
        ("server/token", "K10abc::server:x"),
        ("server/manifests/rke2-coredns.yaml", "newer chart"),
        ("server/manifests/own.yaml", "a person's"),
    ] {
        host.write(&data(host, file), text);
    }
    host.write(&host.world("snapshot"), etcd_snapshot(1));
}

fn reset(host: &Bench) -> Change {
    Change::ClusterReset { snapshot: host.world("snapshot"), sha256: sha256(&etcd_snapshot(1)) }
}

const ALL_PARTS: [NodePart; 4] = [NodePart::Etcd, NodePart::Tls, NodePart::Cred, NodePart::ShippedCharts];

fn move_aside(_: &Bench) -> Change {
    Change::MoveAside { parts: ALL_PARTS.to_vec() }
}

fn move_back(_: &Bench) -> Change {
    Change::MoveBack { parts: ALL_PARTS.to_vec() }
}

#[test]
fn parts_move_aside_and_the_token_and_the_snapshots_stay() {
    check(&Case {
        prepare: stopped_server,
        change: move_aside,
        goal: |host| {
            let survey = host.survey();
            assert!(!survey.etcd_name && !survey.etcd_member && !survey.tls && !survey.cred);
            assert_eq!((survey.shipped_charts, survey.aside.len()), (0, 4));
            for kept in ["server/token", "server/db/snapshots/kept", "server/manifests/own.yaml"] {
                assert!(host.exists(&data(host, kept)), "{kept} is gone");
            }
        },
    });
}

#[test]
fn charts_whose_move_was_cut_off_half_way_are_not_called_aside_until_all_are() {
    let host = Bench::new();
    stopped_server(&host);
    let aside = host.paths.aside(NodePart::ShippedCharts, &run());
    host.write(&format!("{aside}.part/rke2-canal.yaml"), "moved before the cut");
    assert!(host.survey().aside.iter().all(|name| !aside.ends_with(name.as_str())));
    host.apply(&move_aside(&host), 1);
    assert!(host.exists(&format!("{aside}/rke2-canal.yaml")) && host.exists(&format!("{aside}/rke2-coredns.yaml")));
    host.apply(&move_back(&host), 2);
    assert_eq!((host.survey().shipped_charts, host.survey().aside.len()), (2, 0));
}

#[test]
fn what_comes_after_the_original_is_kept_beside_it() {
    let host = Bench::new();
    stopped_server(&host);
    host.apply(&move_aside(&host), 1);
    host.write(&data(&host, "server/db/etcd/name"), "half a join");
    host.apply(&move_aside(&host), 2);
    let aside = host.paths.aside(NodePart::Etcd, &run());
    assert_eq!(host.read(&format!("{aside}/member/db")), "newer data");
    assert_eq!(host.read(&format!("{aside}.2/name")), "half a join");
}

#[test]
fn a_reset_is_proved_only_when_it_is_over_and_the_node_does_not_start_before() {
    let host = Bench::new();
    stopped_server(&host);
    host.apply(&reset(&host), 1);
    let unit = host.world(&format!("units/{}", order(Change::Hold, 1).unit));
    host.write(&unit, "active");
    assert!(!host.survey().reset.unwrap().proved);
    assert!(host.try_apply(&Change::StartUnit, 2).1.contains("still runs"));
    std::fs::remove_file(unit).unwrap();
    assert!(host.survey().reset.unwrap().proved);
    host.apply(&Change::StartUnit, 3);
}

/// Begins a reset that does not end by itself; the unit it runs as.
fn hanging_reset(host: &Bench) -> String {
    stopped_server(host);
    host.write(&host.world("background"), "");
    host.write(&host.world("reset_hangs"), "");
    let begun = host.fifo("reset_begun");
    host.take(claim(7));
    let order = order(reset(host), 1);
    assert_eq!(host.place(&order), ReceiptAnswer::Running);
    // The stand-in writes to a fifo when it has begun: reading waits for it.
    assert_eq!(host.read(&begun), "begun\n");
    for leftover in ["background", "reset_hangs"] {
        std::fs::remove_file(host.world(leftover)).unwrap();
    }
    order.unit.as_str().to_owned()
}

/// Processes of a unit that have not ended.
fn living(host: &Bench, unit: &str) -> Vec<String> {
    let output = host.sh(&format!("ps | awk '$3 !~ /^Z/ && index($4, \"{unit}\")'"));
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn of_a_reset_that_is_stopped_everything_ends_at_once_but_the_shims_which_killall_finds() {
    for change in [Change::KillNode { grace_seconds: 0 }, Change::MoveBack { parts: ALL_PARTS.to_vec() }] {
        let host = Bench::new();
        let unit = hanging_reset(&host);
        let shim = host.shim(true);
        host.in_group(&shim, 1, &format!("0::/system.slice/{unit}.service"));
        assert!(living(&host, &unit).len() > 3, "{:?}", living(&host, &unit));
        host.apply(&change, 2);
        assert!(host.log().contains(&format!("killall finds {}", shim.id())), "{change:?}: {:?}", host.log());
        assert_eq!(living(&host, &unit), Vec::<String>::new());
    }
}

#[test]
fn a_reset_does_not_begin_while_another_etcd_may_answer() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut host = Bench::new();
    stopped_server(&host);
    host.paths.supervisor_port = listener.local_addr().unwrap().port();
    let (exit, tail) = host.try_apply(&reset(&host), 1);
    assert!(exit != 0 && tail.contains("somebody still listens"), "{exit} {tail}");
    assert_eq!(host.read(&data(&host, "server/db/etcd/member/db")), "newer data");
    drop(listener);
    let mut orphan = host.container(1, "0::/kubepods.slice/cri-containerd-1.scope");
    host.apply(&reset(&host), 2);
    assert!(orphan.is_gone());
}

#[test]
fn a_reset_that_hangs_is_stopped_with_all_it_started_before_the_next_one_begins() {
    let host = Bench::new();
    hanging_reset(&host);
    host.apply(&reset(&host), 2);
    let killed =
        host.log().into_iter().any(|line| line.starts_with("systemctl kill --kill-who=main --signal=KILL rke2flow-"));
    assert!(killed, "{:?}", host.log());
    assert!(host.survey().reset.unwrap().proved && host.survey().our_units.is_empty());
}

#[test]
fn parts_move_back_and_a_reset_that_nothing_followed_is_undone() {
    fn before(host: &Bench) {
        stopped_server(host);
        host.apply(&move_aside(host), 8);
        host.apply(&reset(host), 9);
    }
    check(&Case {
        prepare: before,
        change: move_back,
        goal: |host| {
            let survey = host.survey();
            assert!(!survey.reset_flag && survey.reset.is_none() && survey.shipped_charts == 1, "{survey:?}");
            assert_eq!(host.read(&data(host, "server/db/etcd/member/db")), "newer data");
            assert_eq!(host.read(&data(host, "server/tls/server-ca.crt")), "newer certificate");
        },
    });
}

#[test]
fn nothing_moves_below_a_node_that_lives() {
    let host = Bench::new();
    stopped_server(&host);
    let before = host.state_of_the_world();
    {
        let _shim = host.shim(false);
        assert_eq!(host.try_apply(&move_aside(&host), 1).0, REFUSED_EXIT);
    }
    host.write(&host.world("units/rke2-server"), "activating");
    assert_eq!(host.try_apply(&move_aside(&host), 2).0, REFUSED_EXIT);
    assert_eq!(host.survey().aside, Vec::<String>::new());
    assert_eq!(host.read(&data(&host, "server/db/etcd/name")), before["/da'ta dir/rke2/server/db/etcd/name"]);
}

#[test]
fn etcd_never_moves_again_once_the_reset_has_begun() {
    let host = Bench::new();
    stopped_server(&host);
    host.apply(&move_aside(&host), 1);
    host.apply(&reset(&host), 2);
    let (exit, tail) = host.try_apply(&move_aside(&host), 3);
    assert!(exit == REFUSED_EXIT && tail.contains("cluster-reset of this run has begun"), "{exit} {tail}");
    std::fs::remove_file(host.paths.reset_record()).unwrap();
    let (exit, tail) = host.try_apply(&move_aside(&host), 4);
    assert!(exit == REFUSED_EXIT && tail.contains("reset-flag exists"), "{exit} {tail}");
    assert!(host.survey().etcd_member);
}

#[test]
fn what_an_older_run_restored_and_never_started_makes_place_for_the_next_run_and_is_kept() {
    let host = Bench::new();
    stopped_server(&host);
    host.apply(&move_aside(&host), 1);
    host.apply(&reset(&host), 2);
    let record = host.read(&host.paths.reset_record());
    let older = record.replacen(run().as_str(), "261101-0000-aaaa", 1);
    host.write(&host.paths.reset_record(), &older);
    let unit = host.world(&format!("units/{}", order(Change::Hold, 2).unit));
    host.write(&unit, "active");
    let (exit, tail) = host.try_apply(&move_aside(&host), 3);
    assert!(exit == REFUSED_EXIT && tail.contains("still runs"), "{exit} {tail}");
    std::fs::remove_file(unit).unwrap();
    host.apply(&move_aside(&host), 4);
    let survey = host.survey();
    assert!(!survey.etcd_member && survey.aside.len() > 1, "{survey:?}");
    host.apply(&reset(&host), 5);
    assert!(host.survey().reset.unwrap().proved);
}

#[test]
fn a_server_that_would_come_back_without_its_data_stays_held() {
    let host = Bench::new();
    stopped_server(&host);
    host.apply(&Change::Hold, 1);
    host.apply(&move_aside(&host), 2);
    let (exit, tail) = host.try_apply(&Change::CleanUp, 3);
    assert!(exit == REFUSED_EXIT && tail.contains("the hold stays"), "{exit} {tail}");
    host.apply(&reset(&host), 4);
    let (exit, tail) = host.try_apply(&Change::CleanUp, 5);
    assert!(exit == REFUSED_EXIT && tail.contains("never started"), "{exit} {tail}");
    assert!(host.survey().hold && host.survey().hold_drop_in);
}

#[test]
fn a_reset_restores_exactly_the_snapshot_and_is_proved_by_its_log() {
    check(&Case {
        prepare: |host| {
            stopped_server(host);
            host.apply(&move_aside(host), 9);
        },
        change: reset,
        goal: |host| {
            let state = host.survey().reset.unwrap();
            assert!(state.proved && !state.started_since && state.run == run().as_str());
            assert_eq!(state.sha256, sha256(&etcd_snapshot(1)));
            assert_eq!(std::fs::read(data(host, "server/db/etcd/member/db")).unwrap(), etcd_snapshot(1));
            let asked = host.log().into_iter().rfind(|line| line.starts_with("server --cluster-reset")).unwrap();
            for flag in [
                "--etcd-s3=false",
                "--etcd-disable-snapshots=false",
                "--etcd-arg=advertise-client-urls=https://127.0.0.1:2379",
            ] {
                assert!(asked.contains(flag), "{asked}");
            }
        },
    });
}

#[test]
fn a_reset_that_exits_0_without_the_proof_fails_and_the_node_is_not_started_after_it() {
    let host = Bench::new();
    stopped_server(&host);
    host.write(&host.world("reset_fails"), "");
    let (exit, tail) = host.try_apply(&reset(&host), 1);
    assert!(exit != 0 && tail.contains("level=fatal") && tail.contains("does not say"), "{exit} {tail}");
    assert!(!host.survey().reset.unwrap().proved);
    let (exit, tail) = host.try_apply(&Change::StartUnit, 2);
    assert!(exit == REFUSED_EXIT && tail.contains("has not succeeded"), "{exit} {tail}");
    assert_eq!(host.survey().unit, "inactive");
}

#[test]
fn a_reset_is_refused_after_the_node_was_started_and_so_is_moving_back() {
    let host = Bench::new();
    stopped_server(&host);
    host.apply(&move_aside(&host), 1);
    host.apply(&reset(&host), 2);
    // What a normal start does once its API is up.
    std::fs::remove_file(host.paths.reset_flag()).unwrap();
    host.write(&data(&host, "server/db/etcd/member/db"), "writes since the restore");
    assert!(host.survey().reset.unwrap().started_since);
    for change in [reset(&host), move_back(&host)] {
        let (exit, tail) = host.try_apply(&change, if change == reset(&host) { 3 } else { 4 });
        assert!(exit == REFUSED_EXIT && tail.contains("lose what was written since"), "{exit} {tail}");
    }
    assert_eq!(host.read(&data(&host, "server/db/etcd/member/db")), "writes since the restore");
}

#[test]
fn a_reset_refuses_a_compressed_or_wrong_snapshot_before_anything_moves() {
    let host = Bench::new();
    stopped_server(&host);
    let zip = Change::ClusterReset { snapshot: host.world("snapshot.zip"), sha256: String::new() };
    assert!(host.try_apply(&zip, 1).1.contains("k3s#14526"));
    let wrong = Change::ClusterReset { snapshot: host.world("snapshot"), sha256: sha256(b"another") };
    assert!(host.try_apply(&wrong, 2).1.contains("does not have the digest"));
    assert_eq!(host.read(&data(&host, "server/db/etcd/member/db")), "newer data");
    assert!(host.survey().reset.is_none());
}

#[test]
fn a_start_that_the_hold_would_skip_or_that_would_found_an_empty_cluster_is_refused() {
    let host = Bench::new();
    stopped_server(&host);
    host.apply(&Change::Hold, 1);
    assert!(host.try_apply(&Change::StartUnit, 2).1.contains("hold is still on"));
    host.apply(&Change::ReleaseHold, 3);
    host.apply(&move_aside(&host), 4);
    assert!(host.try_apply(&Change::StartUnit, 5).1.contains("empty cluster"));
    host.apply(&Change::PointAt { server: None }, 6);
    assert!(host.try_apply(&Change::StartUnit, 7).1.contains("empty cluster"));
    host.apply(&Change::PointAt { server: Some("https://10.0.0.10:9345".to_owned()) }, 8);
    host.apply(&Change::StartUnit, 9);
}

#[test]
fn a_reset_is_proved_at_any_level_and_by_the_words_of_old_releases_and_by_no_others() {
    let proved = |text: &str| {
        let host = Bench::new();
        stopped_server(&host);
        host.write(&host.world("reset_says"), text);
        host.try_apply(&reset(&host), 1);
        host.survey().reset.unwrap().proved
    };
    assert!(proved(
        "level=info msg=\"Managed etcd cluster membership has been reset, restart without --cluster-reset\"\n"
    ));
    assert!(proved("level=info msg=\"Etcd is running, restart without --cluster-reset flag now. Backup and\"\n"));
    assert!(!proved("level=info msg=\"Managed etcd cluster is being reset\"\n"));
}

#[test]
fn a_flag_that_the_release_does_not_know_is_not_given_to_it() {
    let asked = |usage: &str| {
        let host = Bench::new();
        stopped_server(&host);
        host.write(&host.world("usage"), usage);
        host.apply(&reset(&host), 1);
        host.log().into_iter().rfind(|line| line.starts_with("server --cluster-reset ")).unwrap()
    };
    let old = asked("   --etcd-disable-snapshots  (db) Disable\n   --etcd-s3-endpoint value\n   --etcd-args\n");
    assert!(old.contains("--etcd-disable-snapshots=false"), "{old}");
    assert!(!old.contains("--etcd-arg=") && !old.contains("--etcd-s3=false"), "{old}");
    let new = asked("   --etcd-arg value\n   --etcd-s3  (db) Enable backup to S3\n");
    assert!(new.contains("--etcd-arg=advertise-client-urls=https://127.0.0.1:2379") && new.contains("--etcd-s3=false"));
    assert!(!new.contains("disable-snapshots"), "{new}");
}

#[test]
fn manifests_that_a_crashed_reset_has_left_are_cleared_before_the_next_one() {
    let host = Bench::new();
    stopped_server(&host);
    host.write(&data(&host, "agent/pod-manifests/etcd.yaml"), "left behind");
    host.apply(&reset(&host), 1);
    let killed = host.log().iter().position(|line| line == "killall").expect("killall was called");
    let begun = host.log().iter().position(|line| line.starts_with("server --cluster-reset")).unwrap();
    assert!(killed < begun && !host.exists(&data(&host, "agent/pod-manifests/etcd.yaml")));
}

#[test]
fn a_joiner_that_got_stuck_begins_anew_with_its_data_kept() {
    check(&Case {
        prepare: |host| {
            stopped_server(host);
            host.apply(&Change::PointAt { server: Some("https://10.0.0.10:9345".to_owned()) }, 9);
            host.write(&host.world("units/rke2-server"), "activating");
        },
        change: |_| Change::JoinAnew { grace_seconds: 1 },
        goal: |host| {
            let survey = host.survey();
            assert_eq!(
                (survey.unit.as_str(), survey.etcd_name, survey.tls, survey.cred),
                ("active", false, false, false)
            );
            let aside = host.paths.aside(NodePart::Etcd, &run());
            assert_eq!(host.read(&format!("{aside}/member/db")), "newer data");
            assert!(host.exists(&data(host, "server/token")) && host.exists(&data(host, "server/db/snapshots/kept")));
        },
    });
}

#[test]
fn the_restored_server_and_one_that_joins_nobody_do_not_begin_anew() {
    let host = Bench::new();
    stopped_server(&host);
    let anew = Change::JoinAnew { grace_seconds: 1 };
    let (exit, tail) = host.try_apply(&anew, 1);
    assert!(exit == REFUSED_EXIT && tail.contains("no server: is set"), "{exit} {tail}");
    host.apply(&Change::PointAt { server: Some("https://10.0.0.10:9345".to_owned()) }, 2);
    host.apply(&reset(&host), 3);
    let (exit, tail) = host.try_apply(&anew, 4);
    assert!(exit == REFUSED_EXIT && tail.contains("never moved aside again"), "{exit} {tail}");
    assert!(host.survey().etcd_member);
}

#[test]
fn the_binary_of_a_reset_and_of_a_snapshot_is_the_installed_one() {
    let host = Bench::new();
    stopped_server(&host);
    // The data directory has a `bin`, and no `rke2` in it; somebody's own there must not be taken for it.
    host.executable(&data(&host, "bin/rke2"), "#!/bin/sh\necho wrong >>\"$WORLD/log\"\n");
    host.apply(&Change::SaveSnapshot { name: "point".to_owned() }, 1);
    host.apply(&reset(&host), 2);
    let log = host.log();
    assert!(log.iter().all(|line| line != "wrong"), "{log:?}");
    for called in ["etcd-snapshot save", "server --cluster-reset"] {
        assert!(log.iter().any(|line| line.starts_with(called)), "{called}: {log:?}");
    }
}
