//! What a server has to know of its cluster before it starts: the bootstrap data, from another server or from its own etcd.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::bootstrap::{self, Bootstrap};
use super::cleanup::Reset;
use super::etcd::Etcd;
use super::http::Client;
use super::layout::ETCD_TEMPORARY_PORT;
use super::node::{Ending, Server};
use super::token::Token;
use super::{log, member, storage};

const REQUEST: Duration = Duration::from_secs(15);
/// How long the temporary etcd may take to answer.
const TEMPORARY: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(200);
/// The database is copied while it lives, so a copy may be torn: another one is another chance. RKE2 ends instead, and
/// systemd starts it again.
const COPIES: u32 = 3;

/// Reconciles the disk with the cluster. What is returned is the server to join, and a client for it.
///
/// A server with etcd data never joins: it asks the server that it was told of only for the bootstrap data, and goes on
/// without it (K3S `pkg/cluster/bootstrap.go` Bootstrap).
pub async fn prepare(server: &Server, reset: Reset) -> Result<Option<(Client, String)>, Ending> {
    let url = server.settings.text("server");
    if member::is_initialized(server) {
        log::info("Managed etcd cluster bootstrap already complete and initialized");
        if reset == Reset::None {
            reconcile(server, url.as_deref()).await?;
        }
        return Ok(None);
    }
    let Some(url) = url.filter(|_| reset == Reset::None) else {
        log::info("Managed etcd cluster initializing");
        return Ok(None);
    };
    log::info("Managed etcd cluster not yet initialized");
    let failed = |why: String| Ending::Error(format!("preparing server: failed to bootstrap cluster data: {why}"));
    let client = trusted(&url, &server.token, "server")
        .await
        .map_err(|why| failed(format!("failed to validate token: {why}")))?;
    let files = fetch(&client, &url).await.map_err(failed)?;
    bootstrap::reconcile(&server.layout, &files, false).map_err(Ending::Fatal)?;
    Ok(Some((client, url)))
}

/// A client that trusts the cluster's authority, after the token has said that it is the right one.
pub async fn trusted(url: &str, token: &Token, user: &str) -> Result<Client, String> {
    let answer = Client::insecure().get(&format!("{url}/cacerts"), REQUEST).await;
    let answer = answer.map_err(|error| format!("failed to get CA certs: {error}"))?;
    if !answer.status.is_success() {
        return Err(format!("failed to get CA certs: {}", answer.status));
    }
    let pem = String::from_utf8_lossy(&answer.body).into_owned();
    token.check(&pem)?;
    let client = Client::trusting(&pem).map_err(|error| error.to_string())?;
    Ok(client.with_password(user, &token.password))
}

async fn fetch(client: &Client, url: &str) -> Result<Bootstrap, String> {
    let url = format!("{url}/v1-rke2/server-bootstrap");
    let answer = client.get(&url, REQUEST).await.map_err(|error| error.to_string())?;
    if !answer.status.is_success() {
        return Err(format!("{url}: {}", answer.status));
    }
    serde_json::from_slice(&answer.body).map_err(|error| error.to_string())
}

async fn reconcile(server: &Server, url: Option<&str>) -> Result<(), Ending> {
    if let Some(url) = url {
        let files = match trusted(url, &server.token, "server").await {
            Ok(client) => fetch(&client, url).await,
            Err(error) => Err(error),
        };
        match files {
            Ok(files) => {
                bootstrap::reconcile(&server.layout, &files, false).map_err(Ending::Fatal)?;
                log::info("Successfully reconciled with remote datastore");
                return Ok(());
            }
            Err(error) => log::warn(format!("Unable to reconcile with remote datastore: {error}")),
        }
    }
    let failed = |why: String| Ending::Fatal(format!("Failed to reconcile with temporary etcd: {why}"));
    let mut read = from_copy(server).await;
    for _ in 1..COPIES {
        let Err(why) = &read else { break };
        log::warn(format!("Cannot read the copy of the database, taking another: {why}"));
        read = from_copy(server).await;
    }
    match read.map_err(failed)? {
        Some(files) => bootstrap::reconcile(&server.layout, &files, false).map_err(Ending::Fatal),
        None => Ok(()),
    }
}

/// Reads the bootstrap data with an etcd on a copy of the database, so that no peer is needed
/// (K3S `pkg/etcd/etcd.go` StartEmbeddedTemporary).
async fn from_copy(server: &Server) -> Result<Option<Bootstrap>, String> {
    let copy = server.layout.db().join("etcd-tmp");
    let text = |error: std::io::Error| error.to_string();
    if copy.exists() {
        fs::remove_dir_all(&copy).map_err(text)?;
    }
    bootstrap::copy(&server.layout.etcd(), &copy).map_err(text)?;
    let outcome = async {
        storage::check(&copy, &server.version)?;
        let mut etcd = spawn(&copy, &server.member_name()).map_err(text)?;
        let files = ask(server, &mut etcd).await;
        // It served nobody else, and its copy goes with it.
        let _ = etcd.kill();
        let _ = etcd.wait();
        files
    };
    let outcome = outcome.await;
    fs::remove_dir_all(&copy).map_err(text)?;
    outcome
}

async fn ask(server: &Server, etcd: &mut Child) -> Result<Option<Bootstrap>, String> {
    let client = Etcd::new(format!("http://127.0.0.1:{ETCD_TEMPORARY_PORT}"));
    let until = tokio::time::Instant::now() + TEMPORARY;
    loop {
        if let Some(status) = etcd.try_wait().map_err(|error| error.to_string())? {
            return Err(format!("etcd ended with {status}"));
        }
        match client.status().await {
            Ok(status) if status.leader != 0 => return bootstrap::load(&client, &server.token).await,
            _ if tokio::time::Instant::now() >= until => return Err("etcd does not answer".to_owned()),
            _ => tokio::time::sleep(POLL).await,
        }
    }
}

fn spawn(data: &std::path::Path, name: &str) -> std::io::Result<Child> {
    let client = format!("http://127.0.0.1:{ETCD_TEMPORARY_PORT}");
    let peer = format!("http://127.0.0.1:{}", ETCD_TEMPORARY_PORT + 1);
    Command::new("etcd")
        // An etcd tells systemd that it is ready: this one is not what the unit waits for.
        .env_remove("NOTIFY_SOCKET")
        .arg("--data-dir")
        .arg(data)
        .args([
            "--name",
            name,
            "--force-new-cluster",
            "--listen-client-urls",
            &client,
            "--advertise-client-urls",
            &client,
        ])
        .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
        .arg(format!("--initial-cluster={name}={peer}"))
        .args(["--logger=zap", "--log-outputs=stderr"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
}
