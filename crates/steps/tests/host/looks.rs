//! Looks: what a host tells about itself, and that looking changes nothing.

use std::net::TcpListener;

use rke2flow_engine::cluster::Releases;
use rke2flow_steps::answer::{Files, Identity, Part, Points, Staged, Tail};
use rke2flow_steps::command::{Change, HostCommand, Look};
use rke2flow_steps::point::RecoveryPoint;
use rke2flow_steps::render::{decode_text, script};
use rke2flow_steps::token::token_hash;

use super::bench::{Bench, VERSION, arch, claim, etcd_snapshot, sha256};

#[test]
fn a_survey_of_an_empty_host_is_an_answer() {
    let host = Bench::new();
    let survey = host.survey();
    assert_eq!((survey.installed.as_str(), survey.arch.as_str()), (VERSION, arch()));
    assert_eq!((survey.unit.as_str(), survey.unit_restarts, survey.unit_enabled), ("inactive", 2, true));
    assert_eq!(survey.boot, host.read("/proc/sys/kernel/random/boot_id").trim());
    assert!(survey.disk_free > 0 && survey.epoch > 1_600_000_000);
    assert_eq!((survey.shims, survey.etcd_bytes, survey.shipped_charts, survey.unit_active_since), (0, 0, 0, 0));
    assert!(survey.claim.is_none() && survey.reset.is_none() && survey.aside.is_empty());
}

#[test]
fn a_survey_of_a_host_without_rke2_and_without_systemd_is_an_answer() {
    let host = Bench::new();
    std::fs::remove_dir_all(&host.paths.bin).unwrap();
    std::fs::remove_dir_all(&host.paths.data).unwrap();
    host.tool("systemctl", "#!/bin/sh\nexit 127\n");
    let survey = host.survey();
    assert_eq!((survey.installed.as_str(), survey.unit.as_str()), ("", ""));
    assert!(survey.disk_free > 0);
}

#[test]
fn a_survey_tells_what_a_running_server_is() {
    let mut host = Bench::new();
    let supervisor = TcpListener::bind("127.0.0.1:0").unwrap();
    host.paths.supervisor_port = supervisor.local_addr().unwrap().port();
    host.write(&host.world("units/rke2-server"), "active");
    host.write(&host.world("answers/health"), r#"{"health":"true","reason":""}"#);
    host.write(&host.world("answers/readyz"), "ok");
    host.write(&host.world("answers/db_info"), r#"{"members":[{"ID":1,"name":"server-0-1a2b3c4d","isLearner":true}]}"#);
    for (file, text) in [
        ("agent/pod-manifests/etcd.yaml", ""),
        ("server/db/etcd/name", "server-0"),
        ("server/db/etcd/member/db", "data"),
        ("server/db/reset-flag", ""),
        ("server/token", "K10abc::server:x\n"),
        ("server/tls/server-ca.crt", "certificate\n"),
        ("server/manifests/rke2-canal.yaml", ""),
    ] {
        host.write(&format!("{}/{file}", host.paths.data), text);
    }
    let _shim = host.shim(false);
    let noise = host.sh(&script(&host.envelope(HostCommand::Look(Look::Survey)))).stderr;
    assert_eq!(String::from_utf8_lossy(&noise), "");
    let survey = host.survey();
    assert_eq!((survey.unit.as_str(), survey.unit_active_since), ("active", 1_795_317_120));
    assert!(survey.open_ports.contains(&host.paths.supervisor_port));
    assert_eq!((survey.etcd_health.as_str(), survey.readyz.as_str(), survey.shims), ("true", "ok", 1));
    assert!(survey.members.len() == 1 && survey.members[0].learner, "{:?}", survey.members);
    assert_eq!(survey.static_pods, ["etcd.yaml"]);
    assert!(survey.etcd_name && survey.etcd_member && survey.reset_flag && survey.tls && !survey.cred);
    assert_eq!((survey.token_sha256, survey.ca_sha256), (sha256(b"K10abc::server:x"), sha256(b"certificate\n")));
    assert!(survey.shipped_charts == 1 && survey.etcd_bytes > 0);
}

#[test]
fn a_host_tells_its_etcds_version_and_whether_it_leads_by_etcds_own_metrics() {
    let host = Bench::new();
    let told = || {
        let identity: Identity = host.look(Look::Identity);
        (identity.etcd_version, identity.etcd_leads)
    };
    assert_eq!(told(), (String::new(), false), "nothing answers");
    let metrics = |leads: &str| {
        let help = "# HELP etcd_server_is_leader Whether or not this member is a leader. 1 if is, 0 otherwise.";
        let version = "etcd_server_version{server_version=\"3.5.21\"} 1\netcd_server_is_leader_changes 1";
        format!("{help}\n# TYPE etcd_server_is_leader gauge\netcd_server_is_leader {leads}\n{version}\n")
    };
    for (leads, expected) in [("1", true), ("0", false)] {
        host.write(&host.world("answers/metrics"), metrics(leads));
        assert_eq!(told(), ("3.5.21".to_owned(), expected));
    }
}

#[test]
fn garbage_on_a_port_or_in_a_file_name_does_not_break_the_answer() {
    let mut host = Bench::new();
    let supervisor = TcpListener::bind("127.0.0.1:0").unwrap();
    host.paths.supervisor_port = supervisor.local_addr().unwrap().port();
    let garbage = b"\"\\}],\xff\n\0<html>";
    for answer in ["health", "readyz", "db_info"] {
        host.write(&host.world(&format!("answers/{answer}")), garbage);
    }
    host.write(&format!("{}/agent/pod-manifests/a\"b\\c\nd.yaml", host.paths.data), "");
    host.write(&format!("{}/config.yaml", host.paths.config), "server: \"https://a\\\"b\n\u{7}ü\" # x\n");
    host.write(&host.world("version"), "v1\"\\");
    let survey = host.survey();
    assert!(survey.members.is_empty() && survey.etcd_health.is_empty() && survey.readyz != "ok");
}

#[test]
fn the_configured_server_is_the_last_one_without_our_own_drop_in() {
    let host = Bench::new();
    let config = |name: &str| format!("{}/{name}", host.paths.config);
    host.write(
        &config("config.yaml"),
        "token: x\n\"server\": 'https://one:9345' # first\n  server: nested\netcd-s3: \"true\"\n",
    );
    assert_eq!(host.survey().configured_server, "https://one:9345");
    host.write(&config("config.yaml.d/10-more.yaml"), "server: https://two:9345   # second");
    host.apply(&Change::PointAt { server: Some("https://three:9345".to_owned()) }, 1);
    let survey = host.survey();
    assert_eq!((survey.configured_server.as_str(), survey.etcd_s3), ("https://two:9345", true));
}

#[test]
fn files_are_described_and_missing_ones_left_out() {
    let host = Bench::new();
    let (whole, cut_off) = (host.world("it's \"whole\""), host.world("cut"));
    host.write(&whole, etcd_snapshot(3));
    host.write(&cut_off, &etcd_snapshot(3)[..4000]);
    let files: Files = host.look(Look::Files { paths: vec![host.world("none"), whole.clone(), cut_off] });
    assert_eq!(files.files.len(), 2);
    assert_eq!((files.files[0].path.clone(), files.files[0].size, files.files[0].trailer), (whole, 4128, true));
    assert_eq!(files.files[0].sha256, sha256(&etcd_snapshot(3)));
    assert!(!files.files[1].trailer && files.files[1].modified > 1_600_000_000);
}

#[test]
fn a_host_hashes_its_token_as_rke2_does_and_never_tells_it() {
    let host = Bench::new();
    let (token, config) = (format!("{}/server/token", host.paths.data), format!("{}/config.yaml", host.paths.config));
    assert_eq!(host.look::<Identity>(Look::Identity), Identity::default());
    for text in [format!("K10{}::server:s3cr:et's \"x\"\n", "0f".repeat(32)), "s3cr:et's \"x\"".to_owned()] {
        host.write(&token, &text);
        host.write(&config, format!("token: {text}"));
        let output = host.sh(&script(&host.envelope(HostCommand::Look(Look::Identity))));
        assert!(!String::from_utf8_lossy(&output.stdout).contains("s3cr"));
        let identity: Identity = host.look(Look::Identity);
        assert_eq!(Some(identity.token_hash), token_hash(&text));
        assert_eq!(identity.config_sha256, sha256(format!("config.yaml\ntoken: {text}").as_bytes()));
    }
    host.write(&token, "K10abc");
    assert_eq!(host.look::<Identity>(Look::Identity).token_hash, "");
    // Our own drop-in is no configuration of the node's.
    let before: Identity = host.look(Look::Identity);
    host.apply(&Change::PointAt { server: None }, 1);
    assert_eq!(host.look::<Identity>(Look::Identity), before);
}

#[test]
fn copies_count_as_snapshots_and_one_that_is_being_written_is_told() {
    let host = Bench::new();
    host.write(&format!("{}/pre-a-1", host.paths.snapshots()), etcd_snapshot(1));
    host.write(&format!("{}/pre-b-1", host.paths.kept_snapshots()), etcd_snapshot(2));
    let (writing, left) = (host.paths.snapshots() + "/pre-c-1.part", host.paths.snapshots() + "/pre-d-1.part");
    host.write(&writing, "");
    host.write(&left, "");
    let long_ago = std::time::SystemTime::now() - std::time::Duration::from_secs(61);
    std::fs::File::options().append(true).open(&left).unwrap().set_modified(long_ago).unwrap();
    let found: Files = host.look(Look::Snapshots { prefix: "pre-".to_owned() });
    let names: Vec<&str> = found.files.iter().map(|file| file.path.rsplit('/').next().unwrap()).collect();
    assert_eq!(names, ["pre-a-1", "pre-b-1"]);
    assert!(found.files.iter().all(|file| file.trailer));
    assert_eq!(found.in_progress, ["pre-c-1"]);
}

#[test]
fn points_that_do_not_fit_into_an_answer_are_named_and_read_part_by_part() {
    let host = Bench::new();
    let point = |name: &str, size: usize| {
        host.write(&format!("{}/{name}.json", host.paths.points()), "x".repeat(size));
    };
    point("large", 300_000);
    point("small", 1000);
    let points: Points = host.look(Look::Points);
    assert_eq!((points.points.len(), points.left_out), (1, vec!["large.json".to_owned()]));
    let (mut whole, mut parts) = (Vec::new(), 0);
    while whole.len() < 300_000 {
        let part: Part = host.look(Look::Point { file: "large.json".to_owned(), offset: whole.len() as u64 });
        assert_eq!(part.total, 300_000);
        whole.extend(decode_text(&part.text).unwrap());
        parts += 1;
    }
    assert!(whole.iter().all(|byte| *byte == b'x') && whole.len() == 300_000 && parts == 3, "{parts}");
    let outside =
        host.sh(&script(&host.envelope(HostCommand::Look(Look::Point { file: "../claim".into(), offset: 0 }))));
    assert_ne!(outside.exit, 0);
}

#[test]
fn snapshots_are_found_by_prefix_without_those_being_written() {
    let host = Bench::new();
    assert!(host.look::<Files>(Look::Snapshots { prefix: String::new() }).files.is_empty());
    for name in ["pre-a-1", "pre-a-2.part", "other-1", "pre-b\"-1"] {
        host.write(&format!("{}/{name}", host.paths.snapshots()), etcd_snapshot(1));
    }
    let files: Files = host.look(Look::Snapshots { prefix: "pre-".to_owned() });
    let paths: Vec<&str> = files.files.iter().map(|file| file.path.as_str()).collect();
    assert_eq!(paths, [format!("{}/pre-a-1", host.paths.snapshots())]);
}

#[test]
fn a_recovery_point_comes_back_as_it_was_written() {
    let host = Bench::new();
    assert!(host.look::<Points>(Look::Points).points.is_empty());
    let point = RecoveryPoint {
        schema: "rke2flow.dev/recovery-point/v1".to_owned(),
        id: "261122-0312-k7q2".to_owned(),
        cluster: "it's $(prod)".to_owned(),
        taken_at: jiff::Timestamp::UNIX_EPOCH,
        version: VERSION.to_owned(),
        before_version: String::new(),
        snapshots: vec![],
        token_sha256: String::new(),
        ca_sha256: String::new(),
        sentinel_before: String::new(),
        sentinel_after: String::new(),
        velero_backup: String::new(),
        ..RecoveryPoint::default()
    };
    for attempt in [1, 2] {
        host.apply(&Change::WritePoint { point: Box::new(point.clone()) }, attempt);
    }
    let points: Points = host.look(Look::Points);
    assert_eq!(points.points.len(), 1);
    let read: RecoveryPoint = serde_json::from_slice(&decode_text(&points.points[0]).unwrap()).unwrap();
    assert_eq!(read, point);
}

#[test]
fn a_release_is_complete_only_while_its_checksums_fit() {
    let host = Bench::new();
    host.release_source(VERSION);
    let look = || host.look::<Staged>(Look::Release { version: VERSION.to_owned() });
    assert!(!look().complete && look().missing.contains(&"install.sh".to_owned()));
    let from = Releases::Directory(host.world("source").into());
    host.apply(&Change::FetchRelease { version: VERSION.to_owned(), from, arch: String::new() }, 1);
    assert_eq!(look(), Staged { complete: true, missing: vec![] });
    let tarball = format!("rke2.linux-{}.tar.gz", arch());
    host.write(&format!("{}/{tarball}", host.paths.release(VERSION)), "rotten");
    assert_eq!(look(), Staged { complete: false, missing: vec![tarball] });
}

#[test]
fn a_persons_probe_gives_its_status_and_its_text() {
    let host = Bench::new();
    let tail: Tail = host.look(Look::Script { script: "echo out; echo err >&2; printf 'no end'; exit 3".to_owned() });
    assert_eq!(tail.exit, 3);
    assert_eq!(decode_text(&tail.text).unwrap(), b"out\nerr\nno end");
    let flood: Tail = host.look(Look::Script { script: "yes flood | head -c 300000".to_owned() });
    assert!(flood.exit == 0 && flood.text.len() <= 48 * 1024);
}

#[test]
fn the_kubeconfig_is_handed_out_when_there_is_one() {
    let host = Bench::new();
    assert_eq!(host.look::<Tail>(Look::Kubeconfig).exit, 1);
    host.write(&format!("{}/rke2.yaml", host.paths.config), "clusters: []\n");
    let tail: Tail = host.look(Look::Kubeconfig);
    assert_eq!((tail.exit, decode_text(&tail.text).unwrap().as_slice()), (0, b"clusters: []\n".as_slice()));
}

#[test]
fn looking_changes_nothing() {
    let host = Bench::new();
    host.write(&host.world("units/rke2-server"), "active");
    let before = host.state_of_the_world();
    for look in [Look::Survey, Look::Points, Look::Kubeconfig, Look::Release { version: VERSION.to_owned() }] {
        assert_eq!(host.sh(&script(&host.envelope(HostCommand::Look(look)))).exit, 0);
    }
    assert_eq!(host.state_of_the_world(), before);
    assert!(host.log().is_empty() && !host.exists(&host.paths.state));
}

#[test]
fn a_damaged_claim_is_said_and_never_taken_for_none() {
    let host = Bench::new();
    host.write(&host.paths.claim(), "rke2flow-claim 1\n7\n");
    for command in
        [HostCommand::Look(Look::Survey), HostCommand::Claim(rke2flow_steps::command::ClaimCommand::Take(claim(9)))]
    {
        let output = host.sh(&script(&host.envelope(command)));
        assert!(output.exit != 0 && output.stdout.is_empty());
        assert!(String::from_utf8_lossy(&output.stderr).contains("is damaged"));
    }
}

#[test]
fn a_nodes_internal_address_is_the_first_of_its_configuration() {
    let told = |config: &str| {
        let host = Bench::new();
        host.write(&format!("{}/config.yaml", host.paths.config), config);
        host.survey().node_ip
    };
    assert_eq!(told("node-ip: 10.1.2.3\n"), "10.1.2.3");
    assert_eq!(told("node-ip: \"10.1.2.3,fd00::3\" # both\n"), "10.1.2.3");
    assert_eq!(told("server: x\nnode-ip: [10.1.2.3, fd00::3]\n"), "10.1.2.3");
    assert_eq!(told("node-ip:\n  - fd00::3\n  - 10.1.2.3\nserver: x\n"), "fd00::3");
}
