//! Logging in: key files, the agent, jump hosts, and what is said when none of them works.

use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use rke2flow_steps::access::ssh::{Passphrases, SshSettings};
use rke2flow_steps::ports::AccessError;

use crate::sshd::{Sshd, cluster, cluster_of, host, keygen, public, run, settings, shell};
use secrecy::SecretString;

/// A real ssh-agent, gone with the value.
struct Agent {
    socket: std::path::PathBuf,
    child: Child,
}

impl Agent {
    fn start(dir: &std::path::Path) -> Self {
        let socket = dir.join("agent");
        let child = Command::new("ssh-agent").arg("-D").arg("-a").arg(&socket).stdout(Stdio::null()).spawn();
        let child = child.expect("ssh-agent is missing: apt-get install openssh-client");
        while std::os::unix::net::UnixStream::connect(&socket).is_err() {
            std::thread::yield_now();
        }
        Self { socket, child }
    }

    fn add(&self, key: &std::path::Path) {
        let mut command = Command::new("ssh-add");
        assert!(command.arg("-q").arg(key).env("SSH_AUTH_SOCK", &self.socket).status().unwrap().success());
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn refusal(error: AccessError) -> String {
    match error {
        AccessError::Refused { why, .. } => why,
        other => panic!("not a refusal: {other}"),
    }
}

fn with_agent(sshd: &Sshd, agent: &Agent) -> rke2flow_steps::access::ssh::SshShell {
    let ssh = serde_json::json!({ "port": sshd.port, "host_key": sshd.host_key() });
    shell(cluster(&ssh), SshSettings { agent: Some(agent.socket.clone()), ..settings() })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_the_host_does_not_know_is_refused_by_name() {
    let sshd = Sshd::start();
    let mut ssh = sshd.ssh();
    ssh["key"] = sshd.file("stranger").to_str().unwrap().into();
    let why = refusal(run(&sshd.shell(&ssh), "true").await.unwrap_err());
    assert!(why.contains("login as `root` was refused with") && why.contains("stranger (ssh-ed25519 SHA256:"), "{why}");
    assert!(why.contains("it offers publickey"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_a_damaged_and_a_locked_key_file_say_what_to_do() {
    let sshd = Sshd::start();
    std::fs::write(sshd.file("damaged"), "no key").unwrap();
    keygen(sshd.dir.path(), "locked", &["-t", "ed25519"]);
    let locked = Command::new("ssh-keygen").args(["-q", "-p", "-N", "secret", "-f"]).arg(sshd.file("locked")).status();
    assert!(locked.unwrap().success());
    // Nobody is asked for the passphrase of a key that the host does not want.
    std::fs::copy(sshd.file("locked.pub"), sshd.file("authorized")).unwrap();
    let expected = [
        ("none", "cannot be read"),
        ("damaged", "is not a private key"),
        ("locked", "has a passphrase, and there is no terminal to ask at: run `ssh-add "),
    ];
    for (name, expected) in expected {
        let mut ssh = sshd.ssh();
        ssh["key"] = sshd.file(name).to_str().unwrap().into();
        let why = refusal(run(&sshd.shell(&ssh), "true").await.unwrap_err());
        assert!(why.contains(expected), "{name}: {why}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_rsa_key_logs_in() {
    let sshd = Sshd::start();
    keygen(sshd.dir.path(), "rsa", &["-t", "rsa", "-b", "2048"]);
    std::fs::copy(sshd.file("rsa.pub"), sshd.file("authorized")).unwrap();
    let mut ssh = sshd.ssh();
    ssh["key"] = sshd.file("rsa").to_str().unwrap().into();
    assert_eq!(run(&sshd.shell(&ssh), "true").await.unwrap().exit, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_key_file_the_agents_keys_are_tried_one_after_the_other() {
    let sshd = Sshd::start();
    let agent = Agent::start(sshd.dir.path());
    let why = refusal(run(&with_agent(&sshd, &agent), "true").await.unwrap_err());
    assert!(why.contains("has no key that may be used") && why.contains("`ssh-add FILE`"), "{why}");
    keygen(sshd.dir.path(), "rsa", &["-t", "rsa", "-b", "2048"]);
    agent.add(&sshd.file("rsa"));
    agent.add(&sshd.file("stranger"));
    let why = refusal(run(&with_agent(&sshd, &agent), "true").await.unwrap_err());
    assert!(why.contains("ssh-ed25519 SHA256:") && why.contains("ssh-rsa SHA256:"), "{why}");
    agent.add(&sshd.key());
    assert_eq!(run(&with_agent(&sshd, &agent), "true").await.unwrap().exit, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn neither_a_key_file_nor_an_agent_is_a_refusal_that_names_both() {
    let sshd = Sshd::start();
    let ssh = serde_json::json!({ "port": sshd.port, "host_key": sshd.host_key() });
    let why = refusal(run(&sshd.shell(&ssh), "true").await.unwrap_err());
    assert!(why.contains("`ssh.key`") && why.contains("SSH_AUTH_SOCK"), "{why}");
    let gone = SshSettings { agent: Some(sshd.file("gone")), ..settings() };
    let why = refusal(run(&shell(cluster(&ssh), gone), "true").await.unwrap_err());
    assert!(why.contains("gone does not answer"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_jump_host_is_gone_through_and_its_own_key_is_checked_too() {
    let (target, jump) = (Sshd::start(), Sshd::start());
    std::fs::copy(target.file("key.pub"), jump.file("authorized")).unwrap();
    let mut ssh = target.ssh();
    ssh["jump"] = format!("root@127.0.0.1:{}", jump.port).into();
    ssh["known_hosts"] = target.file("known_hosts").to_str().unwrap().into();
    let error = run(&target.shell(&ssh), "true").await.unwrap_err();
    assert!(error.to_string().starts_with("jump host 127.0.0.1 of s0 refuses: its host key is not known"), "{error}");
    let line = format!("[127.0.0.1]:{} {}\n", jump.port, public(&jump.file("host")));
    std::fs::write(target.file("known_hosts"), line).unwrap();
    let output = run(&target.shell(&ssh), "echo through").await.unwrap();
    assert_eq!(output.stdout, b"through\n");
}

/// A person who says these passphrases, one after the other.
struct Person {
    says: Mutex<Vec<&'static str>>,
    asked: Mutex<Vec<String>>,
}

impl Person {
    fn who_says(says: &[&'static str]) -> Arc<Self> {
        Arc::new(Self { says: Mutex::new(says.iter().rev().copied().collect()), asked: Mutex::default() })
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

impl Passphrases for Person {
    fn ask(&self, question: &str) -> Option<SecretString> {
        self.asked.lock().unwrap().push(question.to_owned());
        self.says.lock().unwrap().pop().map(SecretString::from)
    }
}

fn lock(key: &std::path::Path) {
    let locked = Command::new("ssh-keygen").args(["-q", "-p", "-N", "secret", "-f"]).arg(key).status();
    assert!(locked.unwrap().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_passphrase_is_asked_for_once_per_key_although_several_hosts_are_entered_at_once() {
    let sshd = Sshd::start();
    lock(&sshd.key());
    let person = Person::who_says(&["wrong", "secret"]);
    let ssh = sshd.ssh();
    let hosts = ["s0", "s1", "s2"];
    let cluster = cluster_of(&hosts.map(|name| (name, &ssh)));
    let shell = shell(cluster, settings()).asking(person.clone());
    for (name, report) in shell.check_all(&hosts.map(host)).await {
        assert!(report.is_ok(), "{name}: {}", report.unwrap_err());
    }
    let key = sshd.key().display().to_string();
    assert_eq!(person.asked(), [format!("Passphrase of {key}: "), format!("That was not it. Passphrase of {key}: ")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_passphrase_is_not_asked_for_when_the_agent_has_the_key_or_the_host_does_not_want_it() {
    let sshd = Sshd::start();
    let agent = Agent::start(sshd.dir.path());
    agent.add(&sshd.key());
    lock(&sshd.key());
    lock(&sshd.file("stranger"));
    let person = Person::who_says(&["secret"]);
    let held = SshSettings { agent: Some(agent.socket.clone()), ..settings() };
    assert_eq!(run(&shell(cluster(&sshd.ssh()), held).asking(person.clone()), "true").await.unwrap().exit, 0);
    let mut ssh = sshd.ssh();
    ssh["key"] = sshd.file("stranger").to_str().unwrap().into();
    let why = refusal(run(&sshd.shell(&ssh).asking(person.clone()), "true").await.unwrap_err());
    assert!(why.contains("was refused with") && why.contains("locked"), "{why}");
    assert_eq!(person.asked(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn three_wrong_passphrases_are_a_refusal_with_the_command_that_does_without() {
    let sshd = Sshd::start();
    lock(&sshd.key());
    let person = Person::who_says(&["a", "b", "c", "secret"]);
    let shell = sshd.shell(&sshd.ssh()).asking(person.clone());
    for _ in 0..2 {
        let why = refusal(run(&shell, "true").await.unwrap_err());
        assert!(why.contains("could not be unlocked with 3 passphrases: run `ssh-add "), "{why}");
    }
    assert_eq!(person.asked().len(), 3, "nobody is asked again for every host and every attempt");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_with_more_keys_than_the_host_lets_us_try_still_logs_in() {
    for (tries, before) in [(6, 11), (2, 4)] {
        let sshd = Sshd::with_config(&format!("MaxAuthTries {tries}"));
        let agent = Agent::start(sshd.dir.path());
        for number in 0..before {
            let name = format!("other{number}");
            keygen(sshd.dir.path(), &name, &["-t", "ed25519"]);
            agent.add(&sshd.file(&name));
        }
        agent.add(&sshd.key());
        let output = run(&with_agent(&sshd, &agent), "echo in").await;
        assert_eq!(output.unwrap().stdout, b"in\n", "MaxAuthTries {tries}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_with_far_too_many_keys_is_given_up_with_a_way_out() {
    let sshd = Sshd::with_config("MaxAuthTries 1");
    let agent = Agent::start(sshd.dir.path());
    for number in 0..8 {
        let name = format!("other{number}");
        keygen(sshd.dir.path(), &name, &["-t", "ed25519"]);
        agent.add(&sshd.file(&name));
    }
    agent.add(&sshd.key());
    let why = refusal(run(&with_agent(&sshd, &agent), "true").await.unwrap_err());
    assert!(why.contains("more keys were not tried after 6 connections") && why.contains("IdentitiesOnly"), "{why}");
}
