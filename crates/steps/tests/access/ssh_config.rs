//! OpenSSH's own configuration: what it says counts where the cluster file is silent, and errors name its lines.

use rke2flow_steps::access::ssh::{ClientConfig, SshSettings, write_known_hosts};
use rke2flow_steps::ports::AccessError;
use serde_json::json;

use crate::sshd::{Sshd, cluster, cluster_at, host, public, run, settings, shell};

fn refusal(error: AccessError) -> String {
    match error {
        AccessError::Refused { why, .. } => why,
        other => panic!("not a refusal: {other}"),
    }
}

/// Somebody whose `~/.ssh/config` says this.
fn person(sshd: &Sshd, config: &str) -> SshSettings {
    let file = sshd.file("config");
    std::fs::write(&file, config).unwrap();
    SshSettings { config: ClientConfig::Person(file), home: sshd.dir.path().to_owned(), ..settings() }
}

fn known(sshd: &Sshd, name: &str) {
    std::fs::write(sshd.file("known_hosts"), format!("{name} {}\n", sshd.host_key())).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_of_the_configuration_is_led_to_its_host_port_key_and_known_hosts() {
    let sshd = Sshd::start();
    known(&sshd, &format!("[127.0.0.1]:{}", sshd.port));
    let config = format!(
        "Host prod-* !prod-old\n  HostName 127.0.0.1\n  Port {}\n  IdentityFile ~/nowhere\n  IdentityFile %d/key\n  \
         IdentitiesOnly yes\n  UserKnownHostsFile ~/known_hosts\n",
        sshd.port
    );
    let settings = person(&sshd, &config.replace("~/known_hosts", &sshd.file("known_hosts").display().to_string()));
    let at = |name: &str| shell(cluster_at(name, &json!({})), settings.clone());
    assert_eq!(run(&at("prod-s0"), "echo in").await.unwrap().stdout, b"in\n");
    let report = at("prod-s0").check_all(&[host("s0")]).await.remove(0).1.unwrap();
    let place = format!("{}:1", sshd.file("config").display());
    assert!(report.origin.contains("address 127.0.0.1") && report.origin.contains(&place), "{}", report.origin);
    assert!(report.origin.contains(&format!("port {}", sshd.port)), "{}", report.origin);
    // Excluded by `!`, it is a name like any other.
    let error = run(&at("prod-old"), "true").await.unwrap_err().to_string();
    assert!(error.contains("prod-old:22") || error.contains("no key to log in with"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cluster_files_own_words_win() {
    let sshd = Sshd::start();
    let settings = person(&sshd, "Host *\n  Port 1\n  User nobody\n  IdentityFile ~/stranger\n  ProxyJump nowhere\n");
    let mut ssh = sshd.ssh();
    (ssh["user"], ssh["jump"]) = ("root".into(), "none".into());
    assert_eq!(run(&shell(cluster(&ssh), settings.clone()), "true").await.unwrap().exit, 0);
    // And `none` leaves the configuration unread.
    let mut unread = sshd.ssh();
    unread["config"] = "none".into();
    assert_eq!(run(&shell(cluster(&unread), settings), "true").await.unwrap().exit, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn include_and_match_mean_what_they_mean_for_ssh_and_a_refusal_names_the_line() {
    let sshd = Sshd::start();
    std::fs::write(sshd.file("more"), "Host other\n  Port 1\n").unwrap();
    let config = format!(
        "Include {}\nMatch originalhost s0-alias exec \"true\"\n  HostName 127.0.0.1\n  User mallory\n",
        sshd.file("more").display()
    );
    let settings = person(&sshd, &config);
    let why = refusal(run(&shell(cluster_at("s0-alias", &sshd.ssh()), settings), "true").await.unwrap_err());
    assert!(why.contains("login as `mallory` was refused"), "{why}");
    assert!(why.contains("[user mallory, address 127.0.0.1: ") && why.contains("/config:2"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_configuration_that_ssh_refuses_or_that_is_not_there_is_refused_by_name() {
    let sshd = Sshd::start();
    let settings = person(&sshd, "Host *\n  Prot 22\n");
    let why = refusal(run(&shell(cluster(&sshd.ssh()), settings), "true").await.unwrap_err());
    assert!(why.contains("/config") && why.contains("line 2: Bad configuration option: prot"), "{why}");
    let mut ssh = sshd.ssh();
    ssh["config"] = "/nowhere/config".into();
    let why = refusal(run(&sshd.shell(&ssh), "true").await.unwrap_err());
    assert!(why.contains("names /nowhere/config, which is not there"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chain_of_jump_hosts_is_gone_through_each_with_its_own_settings() {
    let (target, near, far) = (Sshd::start(), Sshd::start(), Sshd::start());
    for jump in [&near, &far] {
        std::fs::copy(target.file("key.pub"), jump.file("authorized")).unwrap();
    }
    let line = |sshd: &Sshd| format!("[127.0.0.1]:{} {}\n", sshd.port, sshd.host_key());
    std::fs::write(target.file("known_hosts"), [line(&near), line(&far), line(&target)].concat()).unwrap();
    let config = format!(
        "Host s0-alias\n  HostName 127.0.0.1\n  Port {}\n  ProxyJump near,root@127.0.0.1:{}\nHost near\n  HostName \
         127.0.0.1\n  Port {}\n  User root\nHost *\n  IdentityFile {}\n  UserKnownHostsFile {}\n",
        target.port,
        far.port,
        near.port,
        target.key().display(),
        target.file("known_hosts").display()
    );
    let settings = person(&target, &config);
    let through = shell(cluster_at("s0-alias", &json!({})), settings.clone());
    // The process that asks the target is a child of the far host's sshd, and that one's client of the near one's.
    assert_eq!(run(&through, "echo through").await.unwrap().stdout, b"through\n");
    drop(far);
    let error = run(&shell(cluster_at("s0-alias", &json!({})), settings), "true").await.unwrap_err().to_string();
    assert!(error.contains("of jump host near of jump host 127.0.0.1 of s0"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_configuration_that_sends_in_circles_is_refused() {
    let sshd = Sshd::start();
    let settings = person(&sshd, "Host a\n  ProxyJump b\nHost b\n  ProxyJump a\n");
    let why = refusal(run(&shell(cluster_at("a", &sshd.ssh()), settings), "true").await.unwrap_err());
    assert!(why.contains("more than 8 hosts are to be gone through"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_command_carries_the_connection() {
    let sshd = Sshd::start();
    let config = "Host s0-alias\n  ProxyCommand exec 3<>/dev/tcp/127.0.0.1/%p; cat <&3 & cat >&3\n";
    let config = config.replace("exec 3", "bash -c 'exec 3").replace("cat >&3", "cat >&3'");
    let settings = person(&sshd, &config);
    let shell = shell(cluster_at("s0-alias", &sshd.ssh()), settings);
    assert_eq!(run(&shell, "echo through").await.unwrap().stdout, b"through\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_key_is_looked_up_and_scanned_under_the_name_that_the_configuration_gives_it() {
    let sshd = Sshd::start();
    let files = sshd.file("known_hosts");
    let with = |more: &str| {
        let config = format!(
            "Host s0-alias\n  HostName 127.0.0.1\n  Port {}\n  IdentityFile {}\n  UserKnownHostsFile {}\n{more}",
            sshd.port,
            sshd.key().display(),
            files.display()
        );
        shell(cluster_at("s0-alias", &json!({})), person(&sshd, &config))
    };
    for (more, name, port) in [("", "127.0.0.1", sshd.port), ("  HostKeyAlias the-server\n", "the-server", 22)] {
        std::fs::write(&files, "").unwrap();
        let why = refusal(run(&with(more), "true").await.unwrap_err());
        assert!(why.contains("its host key is not known"), "{why}");
        let scanned = with(more).scan_host_key(&host("s0")).await.unwrap();
        assert_eq!((scanned.key.address.as_str(), scanned.key.port), (name, port));
        write_known_hosts(&files, &[scanned.key]).unwrap();
        assert_eq!(run(&with(more), "true").await.unwrap().exit, 0, "{more}");
        // Under another name it is another host.
        let other = std::fs::read_to_string(&files).unwrap().replace(&sshd.host_key(), &public(&sshd.file("stranger")));
        std::fs::write(&files, other).unwrap();
        assert!(refusal(run(&with(more), "true").await.unwrap_err()).contains("has changed"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_keys_of_hosts_on_the_way_are_scanned_one_after_the_other() {
    let (target, near, far) = (Sshd::start(), Sshd::start(), Sshd::start());
    for jump in [&near, &far] {
        std::fs::copy(target.file("key.pub"), jump.file("authorized")).unwrap();
    }
    let mut ssh = target.ssh();
    ssh["jump"] = format!("root@127.0.0.1:{},root@127.0.0.1:{}", near.port, far.port).into();
    ssh["known_hosts"] = target.file("known_hosts").to_str().unwrap().into();
    let hosts = [host("s0")];
    let mut trusted = Vec::new();
    for sshd in [&near, &far] {
        let mut scanned = target.shell(&ssh).scan_unknown_jumps(&hosts).await;
        let (place, answer) = scanned.pop_first().unwrap();
        assert_eq!((place, scanned.len()), (("127.0.0.1".to_owned(), sshd.port), 0));
        trusted.push(answer.unwrap().key);
        write_known_hosts(&target.file("known_hosts"), &trusted).unwrap();
    }
    assert!(target.shell(&ssh).scan_unknown_jumps(&hosts).await.is_empty());
    assert_eq!(run(&target.shell(&ssh), "echo through").await.unwrap().stdout, b"through\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rehearsal_never_asks_the_persons_configuration() {
    let sshd = Sshd::start();
    let settings = person(&sshd, "Host *\n  ProxyJump nowhere\n  Port 1\n");
    let rehearsal = serde_json::from_value(json!({ "speed": 60 })).unwrap();
    let twin = rke2flow_engine::cluster::Cluster { rehearsal: Some(rehearsal), ..cluster(&sshd.ssh()) };
    assert_eq!(run(&shell(twin, settings), "true").await.unwrap().exit, 0);
}
