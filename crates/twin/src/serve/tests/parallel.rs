//! Many connections and sessions at a time, and what is left of them.

use std::sync::Arc;
use std::time::Duration;

use russh::client::{Handle, Handler};
use russh::keys::{PrivateKeyWithHashAlg, PublicKeyOrCertificate, load_secret_key};
use russh::{ChannelMsg, ChannelOpenFailure, Error};

use super::stand_in::{Stage, until};

/// A client that takes any host key.
pub struct Trusting;

impl Handler for Trusting {
    type Error = Error;

    async fn check_server_key(&mut self, _key: &PublicKeyOrCertificate) -> Result<bool, Error> {
        Ok(true)
    }
}

/// A session as root on the host of this index.
pub async fn connect(stage: &Stage, host: usize) -> Handle<Trusting> {
    let host = &stage.running.cluster.hosts[host];
    let address = (host.address.as_str(), host.ssh.port.unwrap());
    let mut session = russh::client::connect(Arc::default(), address, Trusting).await.unwrap();
    let key = load_secret_key(stage.dir().join("id_ed25519"), None).unwrap();
    let key = PrivateKeyWithHashAlg::new(Arc::new(key), None);
    assert!(session.authenticate_publickey("root", key).await.unwrap().success());
    session
}

/// Runs a script and returns its standard output and status.
async fn run(session: &Handle<Trusting>, script: &str) -> (String, Option<u32>) {
    let mut channel = session.channel_open_session().await.unwrap();
    channel.exec(true, "sh -s").await.unwrap();
    channel.data(script.as_bytes()).await.unwrap();
    channel.eof().await.unwrap();
    let (mut stdout, mut status) = (Vec::new(), None);
    while let Some(message) = channel.wait().await {
        match message {
            ChannelMsg::Data { data } => stdout.extend_from_slice(&data),
            ChannelMsg::ExitStatus { exit_status } => status = Some(exit_status),
            _ => {}
        }
    }
    (String::from_utf8(stdout).unwrap(), status)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn six_hosts_run_eight_sessions_each_and_nothing_is_mixed_up() {
    let stage = Stage::of(3, 3).await;
    let mut connections = Vec::new();
    for host in 0..6 {
        connections.push(Arc::new(connect(&stage, host).await));
    }
    let mut sessions = tokio::task::JoinSet::new();
    for (host, connection) in connections.iter().enumerate() {
        for number in 0..8 {
            let (connection, name) = (connection.clone(), stage.running.cluster.hosts[host].name.clone());
            sessions.spawn(async move {
                let script = format!("echo {number} {}\n", "x".repeat(number * 10_000));
                let (stdout, status) = run(&connection, &script).await;
                assert_eq!(stdout, format!("{name} root {} bytes: {script}", script.len()));
                assert_eq!(status, Some(3));
            });
        }
    }
    assert_eq!(sessions.join_all().await.len(), 48);
    drop(connections);
    stage.stop().await;
}

#[tokio::test]
async fn the_eleventh_session_of_a_connection_is_refused_until_another_ends() {
    let stage = Stage::of(1, 0).await;
    let session = connect(&stage, 0).await;
    let mut open = Vec::new();
    for _ in 0..10 {
        open.push(session.channel_open_session().await.unwrap());
    }
    let refused = session.channel_open_session().await;
    assert!(matches!(refused, Err(Error::ChannelOpenFailure(ChannelOpenFailure::ConnectFailed))), "{refused:?}");
    open.pop().unwrap().close().await.unwrap();
    assert_eq!(run(&session, "uptime").await.1, Some(3));
    drop(session);
    stage.stop().await;
}

#[tokio::test]
async fn connections_that_ended_leave_no_task_behind() {
    let stage = Stage::of(1, 0).await;
    let tasks = stage.running.tasks();
    let idle = tasks.alive();
    for _ in 0..5 {
        let session = connect(&stage, 0).await;
        run(&session, "uptime").await;
    }
    until("all connections have ended", || tasks.alive() == idle).await;
    stage.stop().await;
}

#[tokio::test]
async fn a_shutdown_is_quick_although_a_command_hangs() {
    let stage = Stage::of(1, 0).await;
    let session = connect(&stage, 0).await;
    let mut channel = session.channel_open_session().await.unwrap();
    channel.exec(true, "sh -s").await.unwrap();
    channel.data(b"slow".as_slice()).await.unwrap();
    channel.eof().await.unwrap();
    until("the script has begun", || stage.stand_in.begun.load(std::sync::atomic::Ordering::SeqCst) == 1).await;
    tokio::time::timeout(Duration::from_secs(5), stage.stop()).await.expect("a shutdown ends");
    let told = async { while channel.wait().await.is_some() {} };
    tokio::time::timeout(Duration::from_secs(5), told).await.expect("the client learns that its connection is gone");
}
