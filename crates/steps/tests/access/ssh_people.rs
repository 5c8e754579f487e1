//! Hosts as people keep them: shells that talk, banners, users with sudo, few sessions, no forwarding.

use rke2flow_steps::access::ssh::{SshSettings, SshShell};
use rke2flow_steps::ports::AccessError;

use crate::sshd::{Sshd, cluster, host, run, settings, shell};

fn refusal(error: AccessError) -> String {
    match error {
        AccessError::Refused { why, .. } => why,
        other => panic!("not a refusal: {other}"),
    }
}

/// Logged in as the only other user of the sshd's own little world.
fn as_deploy(sshd: &Sshd) -> SshShell {
    let mut ssh = sshd.ssh();
    ssh["user"] = "deploy".into();
    sshd.shell(&ssh)
}

#[tokio::test(flavor = "multi_thread")]
async fn banners_and_shells_that_talk_before_us_are_passed_over() {
    let sshd =
        Sshd::with_users("Banner BASE/banner\nPrintMotd yes\nPrintLastLog yes", "deploy ALL=(root) NOPASSWD: ALL\n");
    std::fs::write(sshd.file("banner"), "Authorised use only. {\"boot\":\"not me\"}\n".repeat(40)).unwrap();
    let noise = "echo 'Welcome! {\"boot\":\"not me\"}'; printf 'no newline at the end'; echo warning >&2\n";
    std::fs::write(sshd.file("home/.bashrc"), noise).unwrap();
    let output = run(&as_deploy(&sshd), "id -un; echo said").await.unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "root\nsaid\n");
    // More than is kept of any output: what the script says is still there, and all of it.
    std::fs::write(sshd.file("home/.bashrc"), "head -c 60000 /dev/zero | tr '\\0' n\n").unwrap();
    let output = run(&as_deploy(&sshd), "head -c 262144 /dev/zero").await.unwrap();
    assert_eq!(output.stdout.len(), 262_144);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_does_not_run_our_command_is_refused_with_its_own_words() {
    let forced = Sshd::with_config("ForceCommand echo this account is closed");
    let why = refusal(run(&forced.shell(&forced.ssh()), "true").await.unwrap_err());
    assert!(why.contains("`ForceCommand`") && why.ends_with("exit 0, it said: this account is closed"), "{why}");
    let sshd = Sshd::with_users("", "");
    std::fs::write(sshd.file("home/.bashrc"), "exit 4\n").unwrap();
    let why = refusal(run(&as_deploy(&sshd), "true").await.unwrap_err());
    assert!(why.contains("a ~/.bashrc that exits") && why.contains("exit 4"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sudoers_line_that_is_proposed_is_the_one_that_helps() {
    // A real sudo: first without a rule, then with exactly the line of the refusal.
    let sshd = Sshd::with_users("", "");
    let why = refusal(run(&as_deploy(&sshd), "true").await.unwrap_err());
    let rule = why.split('`').nth(1).unwrap().to_owned();
    assert!(why.contains("/etc/sudoers.d/rke2flow"), "{why}");
    let helped = Sshd::with_users("", &format!("{rule}\n"));
    assert_eq!(run(&as_deploy(&helped), "id -u").await.unwrap().stdout, b"0\n", "{rule}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sudo_that_wants_a_terminal_is_refused_with_the_line_that_helps() {
    let rules = "Defaults requiretty\ndeploy ALL=(root) NOPASSWD: ALL\n";
    let sshd = Sshd::with_users("", rules);
    let why = refusal(run(&as_deploy(&sshd), "true").await.unwrap_err());
    assert!(why.contains("tty") && why.contains("`Defaults:deploy !requiretty`"), "{why}");
    let helped = Sshd::with_users("", &format!("{rules}Defaults:deploy !requiretty\n"));
    assert_eq!(run(&as_deploy(&helped), "id -u").await.unwrap().stdout, b"0\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_sshd_with_one_session_per_connection_gets_more_connections_within_a_bound() {
    let sshd = Sshd::with_config("MaxSessions 1");
    let shell = sshd.shell(&sshd.ssh());
    let script = "ps -o ppid= $$ | tr -d ' '; sleep 0.3";
    for _ in 0..2 {
        let outputs = futures::future::join_all((0..12).map(|_| run(&shell, script))).await;
        let parents: std::collections::BTreeSet<Vec<u8>> =
            outputs.into_iter().map(|output| output.unwrap().stdout).collect();
        assert!((2..=SshSettings::default().connections).contains(&parents.len()), "{parents:?}");
    }
    // One after the other, too: sshd lets a session go a moment after its end.
    for _ in 0..20 {
        assert_eq!(run(&shell, "echo well").await.unwrap().stdout, b"well\n");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_sshd_without_sessions_is_refused_with_its_option() {
    let sshd = Sshd::with_config("MaxSessions 0");
    let why = refusal(run(&sshd.shell(&sshd.ssh()), "true").await.unwrap_err());
    assert!(why.contains("`MaxSessions`"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn forwarding_that_is_not_allowed_is_refused_with_host_option_and_the_other_way() {
    let sshd = Sshd::with_config("AllowTcpForwarding no");
    let error = sshd.shell(&sshd.ssh()).open_tunnel(&host("s0"), "127.0.0.1", 6443).await.err().unwrap();
    let said = error.to_string();
    assert!(matches!(error, AccessError::Refused { .. }), "{said}");
    for part in ["s0 refuses", "127.0.0.1:6443", "`AllowTcpForwarding no`", "`kube: Kubeconfig(\"kubeconfig.yaml\")`"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    // Commands need no forwarding.
    assert_eq!(run(&sshd.shell(&sshd.ssh()), "true").await.unwrap().exit, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_jump_host_that_does_not_forward_is_named() {
    let (target, jump) = (Sshd::start(), Sshd::with_config("AllowTcpForwarding no"));
    std::fs::copy(target.file("key.pub"), jump.file("authorized")).unwrap();
    let line = format!("[127.0.0.1]:{} {}\n", jump.port, jump.host_key());
    std::fs::write(target.file("known_hosts"), line).unwrap();
    let mut ssh = target.ssh();
    ssh["jump"] = format!("root@127.0.0.1:{}", jump.port).into();
    ssh["known_hosts"] = target.file("known_hosts").to_str().unwrap().into();
    let said = run(&shell(cluster(&ssh), settings()), "true").await.unwrap_err().to_string();
    assert!(
        said.starts_with("jump host 127.0.0.1 of s0 refuses: ") && said.contains("`AllowTcpForwarding no`"),
        "{said}"
    );
}
