//! K3s: the scripts that differ. Each change is cut off everywhere, like the others.

use std::net::TcpListener;

use rke2flow_engine::cluster::{Distribution, Releases, Role};
use rke2flow_steps::answer::Staged;
use rke2flow_steps::command::{Change, HostCommand, Look, NodePart};
use rke2flow_steps::render::script;

use super::bench::{Bench, NEWER, VERSION, arch, etcd_snapshot, k3s, run, sha256};
use super::changes::{Case, check_of};

const OLD: &str = "v1.33.4+k3s1";
const NEW: &str = "v1.34.1+k3s1";

fn server() -> Bench {
    let host = Bench::of(Distribution::K3s);
    host.executable(&format!("{}/k3s", host.paths.bin), &k3s(OLD));
    host
}

/// A server whose unit somebody has installed with flags.
fn installed(host: &Bench) {
    host.executable(&format!("{}/k3s", host.paths.bin), &k3s(OLD));
    host.write(&format!("{}/k3s.service", host.paths.systemd), "ExecStart=k3s server --cluster-init");
    host.write(&format!("{}/k3s.service.env", host.paths.systemd), "K3S_TOKEN='x'");
}

#[test]
fn a_release_of_k3s_is_fetched_and_its_binary_and_images_are_proved() {
    check_of(
        Distribution::K3s,
        &Case {
            prepare: |host| host.release_of_k3s(NEW),
            change: |host| Change::FetchRelease {
                version: NEW.to_owned(),
                from: Releases::Directory(host.world("source").into()),
                arch: String::new(),
            },
            goal: |host| {
                assert!(host.look::<Staged>(Look::Release { version: NEW.to_owned() }).complete);
                let images = host.paths.distribution().images(arch());
                host.write(&format!("{}/{images}", host.paths.release(NEW)), "damaged");
                assert_eq!(host.look::<Staged>(Look::Release { version: NEW.to_owned() }).missing, [images.as_str()]);
                host.write(&format!("{}/{images}", host.paths.release(NEW)), format!("images of {NEW}"));
            },
        },
    );
}

#[test]
fn an_installed_k3s_is_replaced_and_keeps_the_flags_of_its_unit() {
    check_of(
        Distribution::K3s,
        &Case {
            prepare: |host| {
                installed(host);
                host.release_of_k3s(NEW);
                let from = Releases::Directory(host.world("source").into());
                host.apply(&Change::FetchRelease { version: NEW.to_owned(), from, arch: String::new() }, 90);
            },
            change: |_| Change::InstallVersion { version: NEW.to_owned(), keep_replaced: true },
            goal: |host| {
                assert_eq!(host.survey().installed, NEW);
                assert!(host.read(&host.paths.replaced(OLD)).contains(OLD));
                let images = format!("{}/agent/images/{}", host.paths.data, host.paths.distribution().images(arch()));
                assert_eq!(host.read(&images), format!("images of {NEW}"));
                assert!(host.read(&format!("{}/k3s.service", host.paths.systemd)).contains("--cluster-init"));
                assert!(host.exists(&format!("{}/k3s.service.env", host.paths.systemd)));
                assert!(!host.log().iter().any(|line| line.starts_with("install ")), "{:?}", host.log());
            },
        },
    );
}

#[test]
fn a_node_without_a_unit_gets_one_from_the_installer_and_nothing_is_started() {
    check_of(
        Distribution::K3s,
        &Case {
            prepare: |host| {
                for name in ["k3s", "k3s-killall.sh"] {
                    std::fs::remove_file(format!("{}/{name}", host.paths.bin)).unwrap();
                }
                host.release_of_k3s(NEW);
                let from = Releases::Directory(host.world("source").into());
                host.apply(&Change::FetchRelease { version: NEW.to_owned(), from, arch: String::new() }, 90);
            },
            change: |_| Change::InstallVersion { version: NEW.to_owned(), keep_replaced: true },
            goal: |host| {
                assert_eq!(host.survey().installed, NEW);
                assert!(host.exists(&format!("{}/k3s.service", host.paths.systemd)));
                assert!(host.log().contains(&"install server download=true enable=true start=true".to_owned()));
                assert!(!host.log().iter().any(|line| line.contains("start k3s")), "{:?}", host.log());
            },
        },
    );
}

#[test]
fn charts_of_k3s_move_aside_and_back_and_those_of_people_stay() {
    fn there(host: &Bench) -> Vec<bool> {
        let names = ["coredns.yaml", "metrics-server/deployment.yaml", "traefik.yaml", "own.yaml", "rke2-own.yaml"];
        names.map(|name| host.exists(&format!("{}/server/manifests/{name}", host.paths.data))).to_vec()
    }
    fn filled(host: &Bench) {
        for name in ["coredns.yaml", "metrics-server/deployment.yaml", "traefik.yaml", "own.yaml", "rke2-own.yaml"] {
            host.write(&format!("{}/server/manifests/{name}", host.paths.data), name);
        }
    }
    check_of(
        Distribution::K3s,
        &Case {
            prepare: filled,
            change: |_| Change::MoveAside { parts: vec![NodePart::ShippedCharts] },
            goal: |host| {
                assert_eq!(there(host), [false, false, false, true, true]);
                assert_eq!(host.survey().shipped_charts, 0);
            },
        },
    );
    check_of(
        Distribution::K3s,
        &Case {
            prepare: |host| {
                filled(host);
                host.apply(&Change::MoveAside { parts: vec![NodePart::ShippedCharts] }, 90);
                // What a start in between has written.
                host.write(&format!("{}/server/manifests/metrics-server/deployment.yaml", host.paths.data), "newer");
            },
            change: |_| Change::MoveBack { parts: vec![NodePart::ShippedCharts] },
            goal: |host| {
                assert_eq!(there(host), [true; 5]);
                let chart = format!("{}/server/manifests/metrics-server/deployment.yaml", host.paths.data);
                assert_eq!(host.read(&chart), "metrics-server/deployment.yaml");
            },
        },
    );
}

#[test]
fn a_server_tells_what_its_unit_says_and_what_it_keeps_its_cluster_in() {
    let host = server();
    assert_eq!((host.survey().datastore.as_str(), host.survey().unit_server.as_str()), ("", ""));
    host.write(&format!("{}/server/db/state.db", host.paths.data), "");
    assert_eq!(host.survey().datastore, "sqlite");
    host.write(&format!("{}/server/db/etcd/name", host.paths.data), "server-0");
    host.write(&format!("{}/k3s.service.env", host.paths.systemd), "K3S_TOKEN='x'\nK3S_URL='https://one:6443'\n");
    let survey = host.survey();
    assert_eq!((survey.datastore.as_str(), survey.configured_server.as_str()), ("etcd", "https://one:6443"));
    for flags in ["--server https://two:6443 --tls-san=x", "-s=https://two:6443", "--tls-san x -s https://two:6443"] {
        host.write(&host.world("exec_start"), format!("/usr/local/bin/k3s server {flags}"));
        assert_eq!(host.survey().unit_server, "https://two:6443", "{flags}");
    }
    host.write(&host.world("exec_start"), "/usr/local/bin/k3s server --datastore-endpoint=mysql://user:5ec4e7@db");
    let answer = host.sh(&script(&host.envelope(HostCommand::Look(Look::Survey))));
    assert!(!String::from_utf8_lossy(&answer.stdout).contains("5ec4e7"));
    assert_eq!(host.survey().datastore, "external");
    std::fs::remove_file(host.world("exec_start")).unwrap();
    host.write(&format!("{}/config.yaml", host.paths.config), "datastore-endpoint: postgres://db\n");
    assert_eq!(host.survey().datastore, "external");
}

#[test]
fn an_api_server_inside_the_process_tells_its_version() {
    let mut host = server();
    let supervisor = TcpListener::bind("127.0.0.1:0").unwrap();
    host.paths.supervisor_port = supervisor.local_addr().unwrap().port();
    host.write(&host.world("answers/version"), "{\n  \"major\": \"1\",\n  \"gitVersion\": \"v1.33.4+k3s1\"\n}");
    assert_eq!(host.survey().api_version, OLD);
    host.role = Role::Agent;
    assert_eq!(host.survey().api_version, "");
    let mut rke2 = Bench::new();
    rke2.paths.supervisor_port = host.paths.supervisor_port;
    rke2.write(&rke2.world("answers/version"), format!("{{\"gitVersion\": \"{VERSION}\"}}"));
    assert_eq!(rke2.survey().api_version, "", "static pods are asked about {NEWER}");
}

#[test]
fn k3s_restores_with_its_own_configuration() {
    let host = server();
    host.write(&host.world("snapshot"), etcd_snapshot(1));
    let config = format!("{}/config.yaml", host.paths.config);
    host.write(&config, "cluster-init: true\n");
    host.apply(&Change::ClusterReset { snapshot: host.world("snapshot"), sha256: sha256(&etcd_snapshot(1)) }, 1);
    let reset = host.survey().reset.unwrap();
    assert!(reset.proved && reset.run == run().as_str());
    assert!(host.log().contains(&format!("config {config}")), "{:?}", host.log());
    host.apply(&Change::SaveSnapshot { name: "point".to_owned() }, 2);
    assert!(host.exists(&format!("{}/point-server-0-1763780000", host.paths.snapshots())));
}

#[test]
fn k3s_is_killed_by_its_own_script() {
    let host = server();
    host.write(&host.world("units/k3s"), "active");
    let mut shim = host.shim(true);
    host.apply(&Change::KillNode { grace_seconds: 1 }, 1);
    assert!(shim.is_gone() && host.log().contains(&"killall".to_owned()));
    assert_eq!((host.survey().unit.as_str(), host.survey().shims), ("inactive", 0));
}
