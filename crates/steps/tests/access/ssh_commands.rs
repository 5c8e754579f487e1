//! Scripts over a real connection: status, output, environment, limits, many at once.

use rke2flow_steps::ports::AccessError;

use crate::sshd::{Sshd, cluster, run, settings, shell};

#[tokio::test(flavor = "multi_thread")]
async fn a_script_comes_back_with_its_status_and_both_outputs() {
    let sshd = Sshd::start();
    let shell = sshd.shell(&sshd.ssh());
    let output = run(&shell, "echo out; echo err >&2; exit 7").await.unwrap();
    assert_eq!((output.exit, output.stdout.as_slice(), output.stderr.as_slice()), (7, &b"out\n"[..], &b"err\n"[..]));
    let second = run(&shell, "cat /dev/null").await.unwrap();
    assert_eq!((second.exit, second.stdout.len()), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_the_login_reaches_the_script_but_a_path_and_a_locale() {
    let sshd = Sshd::with_config("SetEnv SECRET_OF_THE_LOGIN=1");
    let output = run(&sshd.shell(&sshd.ssh()), "env; id -u").await.unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("LC_ALL=C\n") && text.contains("PATH=/usr/local/sbin:"), "{text}");
    assert!(!text.contains("SECRET_OF_THE_LOGIN") && !text.contains("SSH_CONNECTION"), "{text}");
    assert!(text.ends_with("\n0\n"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn output_beyond_the_limits_is_drained_and_dropped() {
    let sshd = Sshd::start();
    let shell = sshd.shell(&sshd.ssh());
    let script =
        "head -c 300000 /dev/zero | tr '\\0' x; head -c 300000 /dev/zero | tr '\\0' y >&2; echo end >&2; exit 3";
    let output = run(&shell, script).await.unwrap();
    assert_eq!((output.exit, output.stdout.len(), output.stderr.len()), (3, 256 * 1024, 4 * 1024));
    assert!(output.stderr.ends_with(b"yyy" as &[u8]) || output.stderr.ends_with(b"yend\n"));
    assert!(output.stderr.ends_with(b"end\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_script_arrives_whole() {
    let sshd = Sshd::start();
    let script = format!("{}echo reached the end\n", ": 0123456789012345678901234567890123456789\n".repeat(10_000));
    let output = run(&sshd.shell(&sshd.ssh()), &script).await.unwrap();
    assert_eq!(output.stdout, b"reached the end\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_scripts_at_once_share_one_connection_below_its_limit_of_sessions() {
    let sshd = Sshd::start();
    let shell = sshd.shell(&sshd.ssh());
    // Each holds its session until nine others could have been refused, and prints the connection's process.
    let script = "ps -o ppid= $$ | tr -d ' '; sleep 0.2";
    let outputs = futures::future::join_all((0..20).map(|_| run(&shell, script))).await;
    let parents: std::collections::BTreeSet<Vec<u8>> =
        outputs.into_iter().map(|output| output.unwrap().stdout).collect();
    assert_eq!(parents.len(), 1, "one connection has one sshd process");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_script_that_does_not_end_is_given_up_with_an_unknown_outcome() {
    let sshd = Sshd::start();
    let settings =
        rke2flow_steps::access::ssh::SshSettings { command: std::time::Duration::from_secs(3), ..settings() };
    let shell = shell(cluster(&sshd.ssh()), settings);
    let error = run(&shell, "sleep 30").await.unwrap_err();
    assert!(matches!(&error, AccessError::Unknown { why, .. } if why.contains("did not end within 3s")), "{error}");
    assert_eq!(run(&shell, "echo well").await.unwrap().stdout, b"well\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_script_that_is_killed_has_an_unknown_outcome() {
    let sshd = Sshd::start();
    let error = run(&sshd.shell(&sshd.ssh()), "kill -9 $$").await.unwrap_err();
    assert!(matches!(&error, AccessError::Unknown { why, .. } if why.contains("killed by KILL")), "{error}");
}
