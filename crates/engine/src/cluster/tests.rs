//! What a person reads who wrote a wrong cluster file, and what becomes of a right one.

use std::path::{Path, PathBuf};

use super::{ClusterFile, Kube, Secret, parse, read};
use crate::source::SourceText;

fn file(rest: &str, hosts: &str) -> String {
    format!("(format: 1, name: \"prod\",\n{rest}\nhosts: [\n{hosts}\n])")
}

fn try_parse(text: &str) -> Result<ClusterFile, String> {
    parse(SourceText::new("cluster.ron", text), Path::new("/clusters")).map_err(|found| found.to_string())
}

fn said(rest: &str, hosts: &str) -> String {
    match try_parse(&file(rest, hosts)) {
        Ok(read) => read.warnings.to_string(),
        Err(said) => said,
    }
}

const ONE: &str = r#"(name: "a", address: "10.0.0.1", role: Server)"#;

#[test]
fn hosts_that_are_taken_for_one_another_are_refused() {
    let text = said(
        "",
        r#"(name: "a", address: "10.0.0.1", role: Server),
(name: "a", address: "10.0.0.2", role: Server),
(name: "b", address: "10.0.0.1", role: Agent),
(name: "c", address: "10.0.0.1", role: Agent, ssh: (port: 2222))"#,
    );
    insta::assert_snapshot!(text, @r#"
    error: there are two hosts named `a`
     --> cluster.ron:5:8
      |
    5 | (name: "a", address: "10.0.0.2", role: Server),
      |        ^^^
      = help: a host's name is its Kubernetes node name

    error: hosts `a` and `b` have the same address 10.0.0.1:22
     --> cluster.ron:6:22
      |
    6 | (name: "b", address: "10.0.0.1", role: Agent),
      |                      ^^^^^^^^^^

    warning: 2 servers stand no more losses than 1
     --> cluster.ron
      = help: etcd needs a majority of its members: an odd number is usual
    "#);
}

#[test]
fn misspelt_fields_and_roles_are_shown_with_what_was_meant() {
    insta::assert_snapshot!(said("sssh: (),", ONE), @r#"
    error: unknown field `sssh` of `Cluster`
     --> cluster.ron:2:1
      |
    2 | sssh: (),
      | ^^^^
      = help: did you mean `ssh`?
    "#);
    insta::assert_snapshot!(said("", r#"(name: "a", adress: "10.0.0.1", role: Server)"#), @r#"
    error: unknown field `adress` of `Host`
     --> cluster.ron:4:13
      |
    4 | (name: "a", adress: "10.0.0.1", role: Server)
      |             ^^^^^^
      = help: did you mean `address`?
    "#);
    insta::assert_snapshot!(said("", r#"(name: "a", address: "10.0.0.1", role: server)"#), @r#"
    error: unknown role `server`
     --> cluster.ron:4:40
      |
    4 | (name: "a", address: "10.0.0.1", role: server)
      |                                        ^^^^^^
      = help: did you mean `Server`?
    "#);
    insta::assert_snapshot!(said("ssh: (user: 5),", ONE), @r#"
    error: expected a text in quotes, found `5`
     --> cluster.ron:2:13
      |
    2 | ssh: (user: 5),
      |             ^
    "#);
}

#[test]
fn names_and_addresses_that_a_command_line_would_misread_are_refused() {
    insta::assert_snapshot!(said("", r#"(name: "Server_0", address: "10.0.0.1", role: Server)"#), @r#"
    error: host name `Server_0` is not a name: a DNS name in lower case, and not `operator`
     --> cluster.ron:4:9
      |
    4 | (name: "Server_0", address: "10.0.0.1", role: Server)
      |         ^^^^^^^^
    "#);
    let text = said(
        "",
        r#"(name: "a", address: "-oProxyCommand=x", role: Server, arch: "amd46", ssh: (port: 0)),
(name: "b", address: "root@10.0.0.1", role: Agent)"#,
    );
    insta::assert_snapshot!(text, @r#"
    error: host `a` has the SSH port 0
     --> cluster.ron:4:76
      |
    4 | (name: "a", address: "-oProxyCommand=x", role: Server, arch: "amd46", ssh: (port: 0)),
      |                                                                            ^

    error: `-oProxyCommand=x` is not an address
     --> cluster.ron:4:22
      |
    4 | (name: "a", address: "-oProxyCommand=x", role: Server, arch: "amd46", ssh: (port: 0)),
      |                      ^^^^^^^^^^^^^^^^^^
      = help: write an IP address or a DNS name; user and port go into `ssh: (user: …, port: …)`

    error: unknown architecture `amd46`
     --> cluster.ron:4:62
      |
    4 | (name: "a", address: "-oProxyCommand=x", role: Server, arch: "amd46", ssh: (port: 0)),
      |                                                              ^^^^^^^
      = help: did you mean `amd64`?

    error: `root@10.0.0.1` is not an address
     --> cluster.ron:5:22
      |
    5 | (name: "b", address: "root@10.0.0.1", role: Agent)
      |                      ^^^^^^^^^^^^^^^
      = help: write an IP address or a DNS name; user and port go into `ssh: (user: …, port: …)`
    "#);
}

#[test]
fn the_init_server_must_be_a_server_of_the_file_and_can_be_one_only() {
    let hosts = r#"(name: "a", address: "10.0.0.1", role: Server), (name: "b", address: "10.0.0.2", role: Agent)"#;
    insta::assert_snapshot!(said(r#"init: "b","#, hosts), @r#"
    error: `init` names `b`, which is no server
     --> cluster.ron:2:7
      |
    2 | init: "b",
      |       ^^^
      = help: the servers are `a`
    "#);
    insta::assert_snapshot!(said(r#"init: "aa","#, hosts), @r#"
    error: `init` names `aa`, but there is no such host
     --> cluster.ron:2:7
      |
    2 | init: "aa",
      |       ^^^^
      = help: did you mean `a`?
    "#);
    insta::assert_snapshot!(said(r#"init: ["a", "b"],"#, hosts), @r#"
    error: expected a text in quotes, found `[`
     --> cluster.ron:2:7
      |
    2 | init: ["a", "b"],
      |       ^
    "#);
    insta::assert_snapshot!(said(r#"init: "a", init: "b","#, hosts), @r#"
    error: the field `init` is given twice
     --> cluster.ron:2:12
      |
    2 | init: "a", init: "b",
      |            ^^^^
    "#);
}

#[test]
fn a_cluster_without_servers_is_refused_and_an_even_number_is_said_aloud() {
    insta::assert_snapshot!(said("", r#"(name: "a", address: "10.0.0.1", role: Agent)"#), @r#"
    error: the cluster has no server
     --> cluster.ron
      = help: at least one host needs `role: Server`
    "#);
    let two = r#"(name: "a", address: "10.0.0.1", role: Server), (name: "b", address: "10.0.0.2", role: Server)"#;
    insta::assert_snapshot!(said("", two), @r#"
    warning: 2 servers stand no more losses than 1
     --> cluster.ron
      = help: etcd needs a majority of its members: an odd number is usual
    "#);
}

#[test]
fn versions_speed_and_places_are_checked() {
    insta::assert_snapshot!(said(r#"version: "1.33.4","#, ONE), @r#"
    error: `1.33.4` is not a version: expected one such as v1.33.4+rke2r1 or v1.33.4+k3s1
     --> cluster.ron:2:10
      |
    2 | version: "1.33.4",
      |          ^^^^^^^^
    "#);
    insta::assert_snapshot!(said(r#"version: "v1.33.4+k3s1","#, ONE), @r#"
    error: `v1.33.4+k3s1` is not a version of Rke2
     --> cluster.ron:2:10
      |
    2 | version: "v1.33.4+k3s1",
      |          ^^^^^^^^^^^^^^
    "#);
    assert_eq!(said(r#"distribution: K3s, version: "v1.33.4+k3s1","#, ONE), "");
    assert_eq!(said(r#"version: "v1.34.1-rc2+rke2r3","#, ONE), "");
    let text = said(
        r#"rehearsal: (speed: 0),
health_urls: ["https://ok", "ok"],
releases: Url("https://example.com/{version}"),
paths: (data: "data"),
s3: (endpoint: "fsn1", bucket: "b", access_key: Env("A"), secret_key: Env("B")),"#,
        ONE,
    );
    insta::assert_snapshot!(text, @r#"
    error: a rehearsal at speed 0 never ends
     --> cluster.ron:2:12
      |
    2 | rehearsal: (speed: 0),
      |            ^
      = help: write 1 for the speed of life, 50 for fifty times faster

    error: `ok` is not a URL
     --> cluster.ron:3:29
      |
    3 | health_urls: ["https://ok", "ok"],
      |                             ^^^^
      = help: it begins with https:// or http://

    error: the S3 endpoint `fsn1` is not a URL
     --> cluster.ron:6:5
      |
    6 | s3: (endpoint: "fsn1", bucket: "b", access_key: Env("A"), secret_key: Env("B")),
      |     ^
      = help: it begins with https:// or http://

    error: `https://example.com/{version}` is not a place for releases
     --> cluster.ron:4:11
      |
    4 | releases: Url("https://example.com/{version}"),
      |           ^^^
      = help: write a URL with {version} and {file} in it

    error: `data` is a path on the hosts, so it has to begin with `/`
     --> cluster.ron:5:8
      |
    5 | paths: (data: "data"),
      |        ^
    "#);
}

#[test]
fn paths_are_resolved_against_the_directory_of_the_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("cluster.ron");
    let rest = r#"ssh: (key: "keys/id", known_hosts: "known"), token: File("/etc/token"), health_ca: "ca.pem",
kube: Kubeconfig("../kubeconfig"),
s3: (endpoint: "https://s3", bucket: "b", ca: "s3.pem", access_key: File("~/access"), secret_key: Command(["pass", "s3"])),"#;
    let hosts = r#"(name: "a", address: "10.0.0.1", role: Server, ssh: (key: "keys/a"))"#;
    std::fs::write(&path, file(rest, hosts)).unwrap();
    let cluster = read(&path).unwrap().cluster;
    let inside = |name: &str| Some(directory.path().join(name));
    assert_eq!(cluster.ssh.key, inside("keys/id"));
    assert_eq!(cluster.ssh.known_hosts, inside("known"));
    assert_eq!(cluster.hosts[0].ssh.key, inside("keys/a"));
    assert_eq!(cluster.token, Some(Secret::File(PathBuf::from("/etc/token"))));
    assert_eq!(cluster.health_ca, inside("ca.pem"));
    assert_eq!(Some(cluster.kube.clone()), inside("../kubeconfig").map(Kube::Kubeconfig));
    let s3 = cluster.s3.as_ref().unwrap();
    assert_eq!(s3.ca, inside("s3.pem"));
    let home = PathBuf::from(std::env::var_os("HOME").unwrap());
    assert_eq!(s3.access_key, Secret::File(home.join("access")));

    let again = parse(SourceText::new("journal", cluster.to_ron()), Path::new("/elsewhere")).unwrap();
    assert_eq!(again.cluster, cluster, "what a run remembers is the same cluster");
}
