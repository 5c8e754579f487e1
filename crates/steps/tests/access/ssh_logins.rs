//! Logging in: key files, the agent, jump hosts, and what is said when none of them works.

use std::process::{Child, Command, Stdio};

use rke2flow_steps::access::ssh::SshSettings;
use rke2flow_steps::ports::AccessError;

use crate::sshd::{Sshd, cluster, keygen, public, run, settings, shell};

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
        while !socket.exists() {
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
