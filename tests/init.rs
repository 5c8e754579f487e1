//! `init`: cluster files that were written from a simulated cluster, and that lead back to it.

use std::fs;

use rke2flow_engine::cluster::{Cluster, Host};

use crate::scenario::Scenario;

fn twin(scenario: &Scenario) -> Cluster {
    rke2flow_engine::cluster::read(&scenario.path("twin/cluster.ron")).unwrap().cluster
}

/// Each of the twin's hosts has a port of its own, as an OpenSSH configuration says it.
fn ssh_config(scenario: &Scenario) -> String {
    let cluster = twin(scenario);
    let line = |host: &Host| {
        let ssh = cluster.ssh_of(host);
        // The API names a node by the address that it has inside; both must lead to the same host.
        format!("Host {} {}\n  HostName {}\n  Port {}\n", host.name, host.address, host.address, ssh.port.unwrap())
    };
    let key = cluster.ssh.key.as_ref().unwrap().display();
    let hosts: String = cluster.hosts.iter().map(line).collect();
    format!("{hosts}Host *\n  User root\n  IdentityFile {key}\n  UserKnownHostsFile /dev/null\n")
}

#[test]
fn a_server_of_k3s_is_known_over_ssh() {
    let scenario =
        Scenario::with_twin_of(&["--servers", "1", "--agents", "1", "--distribution", "k3s", "--speed", "100"]);
    let config = scenario.path("ssh_config");
    fs::write(&config, ssh_config(&scenario)).unwrap();
    let (first, file) = (twin(&scenario).hosts[0].address.clone(), scenario.path("k3s.ron"));
    let (file, config) = (file.to_str().unwrap(), config.to_str().unwrap());
    let from = ["init", "--cluster", file, "--from", "ssh", &first, "--ssh-config", config, "--yes"];
    let wrote = scenario.rke2flow(&from);
    assert_eq!(wrote.code, Some(0), "{}", wrote.stderr);
    let text = fs::read_to_string(file).unwrap();
    assert!(text.contains("distribution: K3s") && text.contains("+k3s1"), "{text}");
    assert_eq!(scenario.rke2flow(&["validate", file]).code, Some(0));
}

#[test]
fn a_file_that_was_written_over_ssh_is_valid_and_leads_to_every_host() {
    let scenario = Scenario::with_twin_of(&["--servers", "3", "--agents", "1", "--speed", "100"]);
    let config = scenario.path("ssh_config");
    fs::write(&config, ssh_config(&scenario)).unwrap();
    let first = twin(&scenario).hosts[0].address.clone();
    let file = scenario.path("new/cluster.ron");
    fs::create_dir(scenario.path("new")).unwrap();
    let (file, config) = (file.to_str().unwrap(), config.to_str().unwrap());
    let from = ["init", "--cluster", file, "--from", "ssh", &first, "--ssh-config", config];

    // An unknown host key without a terminal: nothing is written.
    let asked = scenario.rke2flow(&from);
    assert_eq!(asked.code, Some(3), "{}", asked.stderr);
    assert!(asked.stderr.contains("SHA256:") && !fs::exists(file).unwrap(), "{}", asked.stderr);

    let wrote = scenario.rke2flow(&[&from[..], &["--yes"]].concat());
    assert_eq!(wrote.code, Some(0), "{}", wrote.stderr);
    assert!(wrote.stderr.contains("3 servers, 1 agents"), "{}", wrote.stderr);
    let text = fs::read_to_string(file).unwrap();
    assert!(text.contains("role: Agent") && text.contains("version: \"v1."), "{text}");
    assert!(!text.contains("BEGIN") && !text.contains("K10"), "a secret is in it: {text}");

    let valid = scenario.rke2flow(&["validate", file]);
    assert_eq!(valid.code, Some(0), "{}", valid.stderr);
    let trusted = scenario.rke2flow(&["trust", "--yes", "--cluster", file]);
    assert_eq!(trusted.code, Some(0), "{}{}", trusted.stdout, trusted.stderr);
    let well = scenario.rke2flow(&["doctor", "--cluster", file]);
    assert!(well.stdout.matches("free of holds").count() == 4, "{}{}", well.stdout, well.stderr);
    assert!(well.stdout.contains("ssh_config:"), "doctor says from where: {}", well.stdout);

    let again = scenario.rke2flow(&from);
    assert_eq!(again.code, Some(2), "{}", again.stderr);
    assert!(again.stderr.contains("is there already") && fs::read_to_string(file).unwrap() == text, "{}", again.stderr);
    let forced = scenario.rke2flow(&[&from[..], &["--yes", "--force", "--name", "Other One"]].concat());
    assert_eq!(forced.code, Some(0), "{}", forced.stderr);
    assert!(fs::read_to_string(file).unwrap().contains("name: \"other-one\""));
}

#[test]
fn a_file_that_was_written_from_a_kubeconfig_is_valid_and_names_every_node() {
    let scenario = Scenario::with_twin_of(&["--servers", "3", "--agents", "2", "--speed", "100"]);
    let kubeconfig = scenario.path("twin/kubeconfig");
    let file = scenario.path("from-api.ron");
    let file = file.to_str().unwrap();
    let wrote = scenario.rke2flow(&["init", "--cluster", file, "--from", "kubeconfig", kubeconfig.to_str().unwrap()]);
    assert_eq!(wrote.code, Some(0), "{}", wrote.stderr);
    let valid = scenario.rke2flow(&["validate", file]);
    assert_eq!(valid.code, Some(0), "{}", valid.stderr);
    let written = rke2flow_engine::cluster::read(std::path::Path::new(file)).unwrap().cluster;
    let names = |cluster: &Cluster| {
        let mut names: Vec<String> = cluster.hosts.iter().map(|host| host.name.to_string()).collect();
        names.sort();
        names
    };
    assert_eq!(names(&written), names(&twin(&scenario)));
    assert_eq!((written.servers().count(), written.agents().count()), (3, 2));
}

#[test]
fn tofu_outputs_become_a_valid_file_or_a_list_of_what_is_there() {
    let scenario = Scenario::new();
    let outputs = scenario.path("outputs.json");
    let (outputs, file) = (outputs.to_str().unwrap(), scenario.path("cluster.ron"));
    let from = ["init", "--cluster", file.to_str().unwrap(), "--from", "tofu-output", outputs];
    fs::write(
        outputs,
        r#"{"node_ips": {"value": ["1.1.1.1"]}, "kube_config": {"sensitive": true, "value": "hidden"}}"#,
    )
    .unwrap();
    let lost = scenario.rke2flow(&from);
    assert_eq!(lost.code, Some(2), "{}", lost.stderr);
    assert!(
        lost.stderr.contains("node_ips: 1 addresses") && lost.stderr.contains("--servers OUTPUT"),
        "{}",
        lost.stderr
    );
    assert!(!lost.stderr.contains("hidden") && !file.exists(), "{}", lost.stderr);
    let named = scenario.rke2flow(&[&from[..], &["--servers", "node_ips"]].concat());
    assert_eq!(named.code, Some(0), "{}", named.stderr);
    fs::write(
        outputs,
        r#"{"cluster_master_nodes_ipv4": {"value": ["1.1.1.1", "1.1.1.2"]}, "cluster_worker_nodes_ipv4": {"value": ["1.1.1.3"]},
            "control_plane_lb_ipv4": {"value": "9.9.9.9"}, "etcd_backup_enabled": {"value": true}}"#,
    )
    .unwrap();
    let wrote = scenario.rke2flow(&[&from[..], &["--force", "--user", "deploy"]].concat());
    assert_eq!(wrote.code, Some(0), "{}", wrote.stderr);
    assert!(
        wrote.stderr.contains("2 servers, 1 agents") && wrote.stderr.contains("etcd_backup_enabled"),
        "{}",
        wrote.stderr
    );
    let valid = scenario.rke2flow(&["validate", file.to_str().unwrap()]);
    assert_eq!(valid.code, Some(0), "{}", valid.stderr);
}
