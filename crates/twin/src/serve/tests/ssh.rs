//! SSH before the OpenSSH client.

use std::process::{Output, Stdio};
use std::sync::atomic::Ordering;

use rke2flow_engine::cluster::Host;
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, Command};

use super::stand_in::{POWER, Stage, until};

fn ssh(stage: &Stage, host: usize, user: &str, words: &[&str]) -> Child {
    let Host { address, ssh, .. } = &stage.running.cluster.hosts[host];
    let known_hosts = format!("UserKnownHostsFile={}", stage.dir().join("known_hosts").display());
    let options =
        ["StrictHostKeyChecking=yes", "GlobalKnownHostsFile=/dev/null", "BatchMode=yes", "IdentitiesOnly=yes"];
    Command::new("ssh")
        .args(["-F", "none", "-o", &known_hosts])
        .args(options.map(|option| format!("-o{option}")))
        .args(["-p", &ssh.port.unwrap().to_string(), "-l", user, "-i"])
        .arg(stage.dir().join("id_ed25519"))
        .args(if words[0] == "-W" { &words[..2] } else { &[] })
        .arg(address)
        .args(if words[0] == "-W" { &[] } else { words })
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

async fn answer(mut child: Child, input: &str) -> Output {
    let mut stdin = child.stdin.take().unwrap();
    // A client that was refused does not read its input.
    let _ = stdin.write_all(input.as_bytes()).await;
    drop(stdin);
    child.wait_with_output().await.unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[tokio::test]
async fn openssh_runs_a_script_and_gets_both_streams_and_the_status() {
    let stage = Stage::of(1, 0).await;
    let output = answer(ssh(&stage, 0, "debian", &["sh -s"]), "uptime\n").await;
    assert_eq!(text(&output.stdout), "server-0 debian 7 bytes: uptime\n", "{}", text(&output.stderr));
    assert_eq!(text(&output.stderr), "and this aside\n");
    assert_eq!(output.status.code(), Some(3));

    let output = answer(ssh(&stage, 0, "debian", &["exec env -i PATH=/usr/bin sudo -n sh -s"]), "uptime\n").await;
    assert_eq!(text(&output.stdout), "server-0 root 7 bytes: uptime\n");
    let seen = stage.stand_in.arguments.lock().unwrap().clone();
    assert_eq!(seen, ["sh -s", "exec env -i PATH=/usr/bin sudo -n sh -s"]);
    stage.stop().await;
}

#[tokio::test]
async fn another_command_is_not_found() {
    let stage = Stage::of(1, 0).await;
    let output = answer(ssh(&stage, 0, "root", &["systemctl", "reboot"]), "").await;
    assert_eq!(output.status.code(), Some(127));
    assert!(text(&output.stderr).contains("systemctl reboot: not found"), "{}", text(&output.stderr));
    assert_eq!(stage.stand_in.begun.load(Ordering::SeqCst), 0);
    stage.stop().await;
}

#[tokio::test]
async fn a_large_script_and_a_large_output_pass_whole_and_a_larger_script_is_refused() {
    let stage = Stage::of(1, 0).await;
    let script = format!(": {}\n", "s".repeat(900_000));
    let output = answer(ssh(&stage, 0, "root", &["sh -s"]), &script).await;
    assert!(text(&output.stdout).starts_with("server-0 root 900003 bytes: "), "{}", text(&output.stderr));
    assert_eq!(output.stdout.len(), "server-0 root 900003 bytes: ".len() + script.len());

    let output = answer(ssh(&stage, 0, "root", &["sh -s"]), "print 3000000").await;
    assert_eq!(output.stdout.len(), 3_000_000);
    let output = answer(ssh(&stage, 0, "root", &["sh -s"]), "print 9000000").await;
    assert_eq!(output.stdout.len(), crate::serve::ssh::OUTPUT_BYTES);

    let output = answer(ssh(&stage, 0, "root", &["sh -s"]), &"s".repeat(1_100_000)).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("more than 1048576 bytes"), "{}", text(&output.stderr));
    stage.stop().await;
}

#[tokio::test]
async fn another_key_is_refused() {
    let stage = Stage::of(1, 0).await;
    let other = crate::serve::identity::ssh_key("other").unwrap();
    let path = stage.dir().join("id_ed25519");
    std::fs::write(&path, other.to_openssh(russh::keys::ssh_key::LineEnding::LF).unwrap().as_bytes()).unwrap();
    let output = answer(ssh(&stage, 0, "root", &["sh -s"]), "uptime\n").await;
    assert_eq!(output.status.code(), Some(255));
    assert!(text(&output.stderr).contains("Permission denied (publickey)"), "{}", text(&output.stderr));
    assert_eq!(stage.stand_in.begun.load(Ordering::SeqCst), 0);
    stage.stop().await;
}

#[tokio::test]
async fn every_host_presents_a_key_of_its_own() {
    let stage = Stage::of(1, 1).await;
    let known = std::fs::read_to_string(stage.dir().join("known_hosts")).unwrap();
    let (first, second) = known.trim_end().split_once('\n').unwrap();
    let key = |line: &str| line.split_once(' ').unwrap().1.to_owned();
    assert_ne!(key(first), key(second));
    // Each host under the other's key.
    let place = |line: &str| line.split_once(' ').unwrap().0.to_owned();
    let swapped = format!("{} {}\n{} {}\n", place(first), key(second), place(second), key(first));
    std::fs::write(stage.dir().join("known_hosts"), swapped).unwrap();
    let output = answer(ssh(&stage, 0, "root", &["sh -s"]), "uptime\n").await;
    assert!(text(&output.stderr).contains("Host key verification failed"), "{}", text(&output.stderr));
    stage.stop().await;
}

#[tokio::test]
async fn a_command_goes_on_when_its_client_is_killed() {
    let stage = Stage::of(1, 0).await;
    let mut child = ssh(&stage, 0, "root", &["sh -s"]);
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(b"slow\n").await.unwrap();
    drop(stdin);
    until("the script has begun", || stage.stand_in.begun.load(Ordering::SeqCst) == 1).await;
    child.kill().await.unwrap();
    assert_eq!(stage.stand_in.ended.load(Ordering::SeqCst), 0);
    stage.stand_in.go.add_permits(1);
    until("the script has ended", || stage.stand_in.ended.load(Ordering::SeqCst) == 1).await;
    stage.stop().await;
}

#[tokio::test]
async fn half_a_script_is_not_run() {
    let stage = Stage::of(1, 0).await;
    let mut child = ssh(&stage, 0, "root", &["sh -s"]);
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(b"rm -rf /var/lib/rancher/rke2/server/db/etcd-").await.unwrap();
    until("the command has arrived", || stage.stand_in.arguments.lock().unwrap().len() == 1).await;
    child.kill().await.unwrap();
    drop(stdin);
    // A second connection that is answered is behind the first one's end.
    answer(ssh(&stage, 0, "root", &["sh -s"]), "uptime\n").await;
    assert_eq!(stage.stand_in.begun.load(Ordering::SeqCst), 1);
    stage.stop().await;
}

#[tokio::test]
async fn a_host_that_goes_down_drops_its_clients_and_takes_no_new_ones() {
    let stage = Stage::of(2, 0).await;
    let child = ssh(&stage, 0, "root", &["sh -s"]);
    let waiting = tokio::spawn(answer(child, "slow\n"));
    until("the script has begun", || stage.stand_in.begun.load(Ordering::SeqCst) == 1).await;
    stage.stand_in.switch("server-0", POWER, false);
    let dropped = waiting.await.unwrap();
    assert_eq!(dropped.status.code(), Some(255), "{}", text(&dropped.stderr));

    let refused = answer(ssh(&stage, 0, "root", &["sh -s"]), "uptime\n").await;
    assert_eq!(refused.status.code(), Some(255));
    let other = answer(ssh(&stage, 1, "root", &["sh -s"]), "uptime\n").await;
    assert_eq!(text(&other.stdout), "server-1 root 7 bytes: uptime\n");
    stage.stand_in.switch("server-0", POWER, true);
    let back = answer(ssh(&stage, 0, "root", &["sh -s"]), "uptime\n").await;
    assert_eq!(text(&back.stdout), "server-0 root 7 bytes: uptime\n");
    stage.stop().await;
}

#[tokio::test]
async fn a_tunnel_reaches_what_listens_on_the_hosts_loopback_and_nothing_else() {
    let stage = Stage::of(1, 0).await;
    let get = "GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let output = answer(ssh(&stage, 0, "root", &["-W", "127.0.0.1:2381"]), get).await;
    assert!(text(&output.stdout).ends_with("server-0 2381 /health"), "{output:?}");

    for place in ["127.0.0.1:22", "10.0.0.10:2381", "127.0.0.1:10250"] {
        let output = answer(ssh(&stage, 0, "root", &["-W", place]), get).await;
        assert!(text(&output.stderr).contains("open failed: connect failed"), "{place} {output:?}");
    }
    stage.stand_in.switch("server-0", 2381, false);
    let output = answer(ssh(&stage, 0, "root", &["-W", "127.0.0.1:2381"]), get).await;
    assert!(text(&output.stderr).contains("open failed: connect failed"), "{output:?}");
    stage.stop().await;
}
