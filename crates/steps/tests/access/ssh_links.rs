//! Links that die: what is known then, how soon, and that the next command has a new connection.

use std::time::{Duration, Instant};

use rke2flow_steps::access::ssh::SshSettings;
use rke2flow_steps::ports::AccessError;

use crate::proxy::{Cable, Proxy};
use crate::sshd::{Sshd, cluster, host, run, settings, shell};

fn impatient() -> SshSettings {
    SshSettings {
        keepalive: Duration::from_millis(300),
        keepalive_max: 2,
        connect: Duration::from_secs(2),
        login: Duration::from_secs(2),
        channel: Duration::from_secs(2),
        closed_poll: Duration::from_millis(20),
        ..settings()
    }
}

fn through(sshd: &Sshd, proxy: &Proxy) -> serde_json::Value {
    let mut ssh = sshd.ssh();
    ssh["port"] = proxy.port.into();
    ssh
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cable_that_is_cut_during_a_command_leaves_its_outcome_unknown_and_the_next_one_reconnects() {
    let sshd = Sshd::start();
    let proxy = Proxy::to(sshd.port).await;
    let shell = shell(cluster(&through(&sshd, &proxy)), impatient());
    let marker = sshd.file("began");
    let script = format!("touch {}; sleep 20", marker.display());
    let cut = async {
        while !marker.exists() {
            tokio::task::yield_now().await;
        }
        proxy.set(Cable::Cut);
    };
    let (result, ()) = tokio::join!(run(&shell, &script), cut);
    assert!(matches!(result, Err(AccessError::Unknown { .. })), "{result:?}");
    proxy.set(Cable::Whole);
    assert_eq!(run(&shell, "echo again").await.unwrap().stdout, b"again\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_sshd_leaves_the_outcome_unknown() {
    let sshd = Sshd::start();
    let shell = sshd.shell(&sshd.ssh());
    let marker = sshd.file("began");
    let script = format!("touch {}; sleep 20", marker.display());
    let kill = async {
        while !marker.exists() {
            tokio::task::yield_now().await;
        }
        sshd.kill_connections();
    };
    let (result, ()) = tokio::join!(run(&shell, &script), kill);
    assert!(matches!(result, Err(AccessError::Unknown { .. })), "{result:?}");
    assert_eq!(run(&shell, "echo again").await.unwrap().stdout, b"again\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_peer_is_given_up_within_the_limits_of_opening_and_found_again_later() {
    let sshd = Sshd::start();
    let proxy = Proxy::to(sshd.port).await;
    let shell = shell(cluster(&through(&sshd, &proxy)), impatient());
    assert_eq!(run(&shell, "echo well").await.unwrap().exit, 0);
    proxy.set(Cable::Frozen);
    let began = Instant::now();
    let error = run(&shell, "echo well").await.unwrap_err();
    // Far below the 60 s of a command.
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
    assert!(matches!(error, AccessError::Unknown { .. } | AccessError::Unreachable { .. }), "{error}");
    let frozen = run(&shell, "echo well").await.unwrap_err();
    assert!(matches!(frozen, AccessError::Unreachable { .. }), "{frozen}");
    proxy.set(Cable::Whole);
    assert_eq!(run(&shell, "echo again").await.unwrap().stdout, b"again\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_falls_silent_during_a_command_leaves_its_outcome_unknown_long_before_the_commands_own_limit() {
    let sshd = Sshd::start();
    let proxy = Proxy::to(sshd.port).await;
    let shell = shell(cluster(&through(&sshd, &proxy)), impatient());
    let marker = sshd.file("began");
    let script = format!("touch {}; sleep 60", marker.display());
    let freeze = async {
        while !marker.exists() {
            tokio::task::yield_now().await;
        }
        proxy.set(Cable::Frozen);
    };
    let began = Instant::now();
    let (result, ()) = tokio::join!(run(&shell, &script), freeze);
    assert!(matches!(result, Err(AccessError::Unknown { .. })), "{result:?}");
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_at_the_port_is_unreachable_with_address_and_reason() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let sshd = Sshd::start();
    let mut ssh = sshd.ssh();
    ssh["port"] = free.into();
    let error = run(&sshd.shell(&ssh), "true").await.unwrap_err().to_string();
    assert!(error.starts_with(&format!("cannot reach s0: 127.0.0.1:{free}: Connection refused")), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tunnel_carries_bytes_to_the_hosts_own_loopback() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let sshd = Sshd::start();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        let (mut read, mut write) = socket.split();
        tokio::io::copy(&mut read, &mut write).await.unwrap();
    });
    let shell = sshd.shell(&sshd.ssh());
    let mut tunnel = shell.open_tunnel(&host("s0"), "127.0.0.1", port).await.unwrap();
    tunnel.write_all(b"there and back").await.unwrap();
    let mut back = [0; 14];
    tunnel.read_exact(&mut back).await.unwrap();
    assert_eq!(&back, b"there and back");
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let error = shell.open_tunnel(&host("s0"), "127.0.0.1", closed).await.err().unwrap();
    assert!(error.to_string().starts_with(&format!("cannot reach 127.0.0.1:{closed} of s0: ")), "{error}");
}
