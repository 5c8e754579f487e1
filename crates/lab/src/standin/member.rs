//! This server's etcd member: its name and configuration, how it joins, how learners become voters.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::Method;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::etcd::{Etcd, EtcdError, Member};
use super::http::Client;
use super::layout::{ETCD_CLIENT_PORT, ETCD_METRICS_PORT, ETCD_PEER_PORT};
use super::node::{Ending, Server};
use super::{log, manifest, runtime};

/// How often the leader looks at learners: K3s does so every 15 s.
const LEARNER_TICK: Duration = Duration::from_secs(2);
/// How long a learner may make no progress (K3S learnerMaxStallTime).
const LEARNER_STALL: Duration = Duration::from_secs(300);
/// How often a joiner tries (K3S pollJoin).
const JOIN_POLL: Duration = Duration::from_secs(1);
/// How long an etcd may take to answer a joiner.
const JOIN_LIMIT: Duration = Duration::from_secs(20);
/// How often etcd is tested while it starts: RKE2 does so every 5 s.
const TEST_POLL: Duration = Duration::from_millis(500);
/// Copies of an abandoned database that are kept (K3S maxBackupRetention).
const BACKUPS: usize = 5;
const INITIAL: &str = "etcd.k3s.io/initial";

/// What a member is first started with; kept in its manifest.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Initial {
    #[serde(rename = "AdvertisePeerURL")]
    advertise_peer_url: String,
    cluster: String,
    state: String,
}

/// How a member is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// As a member of its cluster.
    Normal,
    /// As the only member that is left, on loopback alone.
    ForceNew,
}

/// Whether etcd has ever run here (K3S IsInitialized).
pub fn is_initialized(server: &Server) -> bool {
    server.layout.etcd().join("member/wal").is_dir()
}

/// Sets aside a database with a tombstone, and gives the member its name (K3S Register, setName).
pub fn register(server: &Server) -> Result<(), Ending> {
    let etcd = server.layout.etcd();
    if etcd.join("tombstone").exists() {
        log::info("tombstone file has been detected, removing data dir to rejoin the cluster");
        fs::rename(&etcd, server.layout.db().join(format!("etcd-backup-{}", jiff::Timestamp::now().as_second())))?;
        keep_newest_backups(server)?;
    }
    name(server, false)
}

/// Reads the member's name, or makes a new one.
pub fn name(server: &Server, make_new: bool) -> Result<(), Ending> {
    let file = server.layout.etcd_name();
    let name = match fs::read_to_string(&file) {
        Ok(name) if !make_new => name,
        _ => {
            let random = fs::read_to_string("/proc/sys/kernel/random/uuid")?;
            let name = format!("{}-{}", server.name, &random[..8]);
            fs::create_dir_all(server.layout.etcd())?;
            fs::set_permissions(server.layout.etcd(), fs::Permissions::from_mode(0o700))?;
            fs::write(&file, &name)?;
            name
        }
    };
    *server.member.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = name;
    Ok(())
}

/// Starts the member of a new cluster.
pub fn start_new(server: &Server, start: Start) -> Result<(), Ending> {
    log::info(format!("Starting etcd for new cluster, cluster-reset={}", start == Start::ForceNew));
    let cluster = format!("{}={}", server.member_name(), server.peer_url());
    write(server, start, &Initial { advertise_peer_url: server.peer_url(), cluster, state: "new".to_owned() })
}

/// Starts a member that has data.
pub fn start_existing(server: &Server) -> Result<(), Ending> {
    log::info("Starting etcd for existing cluster member");
    fs::set_permissions(server.layout.etcd(), fs::Permissions::from_mode(0o700))?;
    let text = manifest::annotation(&server.layout.pod_manifests(), "etcd", INITIAL);
    let initial = text.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
    write(server, Start::Normal, &initial)
}

/// Joins the cluster of another server, however long others take to become voters before.
pub async fn join(server: &Server, client: &Client, base: &str) -> Result<(), Ending> {
    loop {
        match try_join(server, client, base).await {
            Ok(()) => return Ok(()),
            Err(JoinError::Wait(why)) => log::info(why),
            Err(JoinError::Failed(why)) => return Err(Ending::Shutdown(format!("etcd cluster join failed: {why}"))),
        }
        tokio::time::sleep(JOIN_POLL).await;
    }
}

/// Waits until the member is a healthy voter of its cluster.
pub async fn ready(server: &Server) {
    let mut said = Instant::now();
    while let Err(why) = test(server).await {
        if said.elapsed() >= Duration::from_secs(5) {
            log::info(format!("Failed to test etcd connection: {why}"));
            said = Instant::now();
        }
        tokio::time::sleep(TEST_POLL).await;
    }
    log::info("Connection to etcd is ready");
}

/// Whether the member is a healthy voter of its cluster (K3S Test).
pub async fn test(server: &Server) -> Result<(), String> {
    let status = server.etcd.status().await.map_err(|error| format!("failed to get etcd status: {error}"))?;
    if status.is_learner {
        return Err("this server has not yet been promoted from learner to voting member".to_owned());
    }
    if status.leader == 0 {
        return Err("etcdserver: no leader".to_owned());
    }
    server.etcd.defragment().await.map_err(|error| format!("failed to defragment etcd database: {error}"))?;
    let members = server.etcd.members().await.map_err(|error| error.to_string())?;
    let (name, peer) = (server.member_name(), server.peer_url());
    if members.iter().any(|member| member.name == name && member.peer_urls.contains(&peer)) {
        return Ok(());
    }
    let found: Vec<String> =
        members.iter().map(|member| format!("{}={}", member.name, member.peer_urls.join(","))).collect();
    Err(format!(
        "this server is a not a member of the etcd cluster. Found [{}], expect: {name}={peer}",
        found.join(" ")
    ))
}

/// Promotes learners while this member leads, and takes out one that makes no progress.
pub async fn manage_learners(server: Arc<Server>) {
    let mut progress: BTreeMap<u64, (u64, Instant)> = BTreeMap::new();
    loop {
        if let Err(error) = look_after_learners(&server.etcd, &mut progress).await {
            tracing::debug!("learners: {error}");
        }
        tokio::time::sleep(LEARNER_TICK).await;
    }
}

async fn look_after_learners(etcd: &Etcd, progress: &mut BTreeMap<u64, (u64, Instant)>) -> Result<(), EtcdError> {
    let status = etcd.status().await?;
    if status.member != status.leader {
        progress.clear();
        return Ok(());
    }
    for learner in etcd.members().await?.into_iter().filter(|member| member.is_learner) {
        if etcd.promote(learner.id).await.is_ok() {
            log::info(format!("Promoted learner {}", learner.name));
            continue;
        }
        let (applied, since) = progress.entry(learner.id).or_insert((0, Instant::now()));
        if let Some(url) = learner.client_urls.first()
            && let Ok(status) = Etcd::new(url).status().await
            && status.applied > *applied
        {
            (*applied, *since) = (status.applied, Instant::now());
        }
        if since.elapsed() > LEARNER_STALL {
            etcd.remove(learner.id).await?;
            log::warn(format!("Removed learner {} from etcd cluster", learner.name));
        }
    }
    Ok(())
}

enum JoinError {
    Wait(String),
    Failed(String),
}

async fn try_join(server: &Server, client: &Client, base: &str) -> Result<(), JoinError> {
    let answer = client.ask(Method::GET, &format!("{base}/db/info"), Vec::new(), JOIN_LIMIT).await;
    let waiting = |why: String| {
        JoinError::Wait(format!(
            "Waiting to retrieve etcd cluster member list: failed to get MemberList from server: {why}"
        ))
    };
    let answer = answer.map_err(|error| waiting(error.to_string()))?;
    if !answer.status.is_success() {
        return Err(waiting(answer.text()));
    }
    let info: serde_json::Value =
        serde_json::from_slice(&answer.body).map_err(|error| JoinError::Failed(error.to_string()))?;
    let mut members: Vec<Member> =
        serde_json::from_value(info["members"].clone()).map_err(|error| JoinError::Failed(error.to_string()))?;
    let (name, peer) = (server.member_name(), server.peer_url());
    for member in members.iter_mut().filter(|member| member.name.is_empty() && member.peer_urls.contains(&peer)) {
        member.name.clone_from(&name);
    }
    if members.iter().any(|member| member.name != name && node_of(&member.name) == server.name) {
        // The next start takes a new name, which only helps once the old member is gone.
        if let Err(error) = fs::remove_file(server.layout.etcd_name()) {
            log::error(format!("Failed to remove etcd name file {}: {error}", server.layout.etcd_name().display()));
        }
        return Err(JoinError::Failed("duplicate node name found, please use a unique name for this node".to_owned()));
    }
    let is_member = members.iter().any(|member| member.name == name && member.peer_urls.contains(&peer));
    let mut cluster: Vec<String> =
        members.iter().filter_map(|member| Some(format!("{}={}", member.name, member.peer_urls.first()?))).collect();
    if !is_member {
        let voters = members.iter().filter(|member| !member.is_learner).filter_map(|member| member.client_urls.last());
        add(voters, server, &cluster).await?;
        cluster.push(format!("{name}={peer}"));
    }
    let initial = Initial { advertise_peer_url: peer, cluster: cluster.join(","), state: "existing".to_owned() };
    log::info(format!("Starting etcd to join cluster with members [{}]", initial.cluster));
    write(server, Start::Normal, &initial).map_err(|error| JoinError::Failed(format!("{error:?}")))
}

async fn add(voters: impl Iterator<Item = &String>, server: &Server, cluster: &[String]) -> Result<(), JoinError> {
    log::info(format!(
        "Adding member {}={} to etcd cluster [{}]",
        server.member_name(),
        server.peer_url(),
        cluster.join(" ")
    ));
    let mut refusal = "no etcd member can be asked".to_owned();
    for url in voters {
        match Etcd::new(url).add_learner(&server.peer_url()).await {
            Ok(()) => return Ok(()),
            Err(error) if error.is_passing() => {
                return Err(JoinError::Wait(format!(
                    "Waiting for other members to finish joining etcd cluster: {error}"
                )));
            }
            Err(EtcdError::Http(error)) => refusal = error.to_string(),
            Err(error) => return Err(JoinError::Failed(error.to_string())),
        }
    }
    Err(JoinError::Wait(format!("Retrying etcd cluster join: {refusal}")))
}

/// The node of a member's name: what is before its last `-`.
fn node_of(member: &str) -> &str {
    member.rsplit_once('-').map_or(member, |(node, _)| node)
}

fn write(server: &Server, start: Start, initial: &Initial) -> Result<(), Ending> {
    let etcd = server.layout.etcd();
    let loopback = |port: u16| format!("http://127.0.0.1:{port}");
    let mut listen_peers = loopback(ETCD_PEER_PORT);
    let (mut listen_clients, mut advertise) = (loopback(ETCD_CLIENT_PORT), loopback(ETCD_CLIENT_PORT));
    if start == Start::Normal {
        listen_peers = format!("{listen_peers},{}", server.peer_url());
        listen_clients = format!("{listen_clients},{}", server.client_url());
        advertise = server.client_url();
    }
    let mut config = json!({
        "name": server.member_name(), "data-dir": etcd, "logger": "zap", "log-outputs": ["stderr"],
        "listen-client-urls": listen_clients, "listen-peer-urls": listen_peers,
        "listen-metrics-urls": loopback(ETCD_METRICS_PORT), "advertise-client-urls": advertise,
        "force-new-cluster": start == Start::ForceNew, "snapshot-count": 10_000,
        "heartbeat-interval": 100, "election-timeout": 1000,
        // etcd 3.4 leaves its gateway off when it is told everything by a file.
        "enable-grpc-gateway": true,
    });
    if !initial.cluster.is_empty() {
        config["initial-advertise-peer-urls"] = initial.advertise_peer_url.clone().into();
        config["initial-cluster"] = initial.cluster.clone().into();
        config["initial-cluster-state"] = initial.state.clone().into();
    }
    fs::create_dir_all(&etcd)?;
    fs::write(server.layout.etcd_config(), serde_json::to_vec_pretty(&config).map_err(std::io::Error::from)?)?;
    let image = format!("rancher/hardened-etcd:{}", etcd_tag(&server.version));
    let command = vec!["etcd".to_owned(), format!("--config-file={}", server.layout.etcd_config().display())];
    let annotations =
        BTreeMap::from([(INITIAL.to_owned(), serde_json::to_string(initial).map_err(std::io::Error::from)?)]);
    server.run("etcd", &image, command, annotations)?;
    Ok(())
}

/// RKE2 ships etcd 3.6 from 1.34 on.
fn etcd_tag(version: &str) -> &'static str {
    if runtime::minor(version) >= 34 { "v3.6.5-k3s1-build20251017" } else { "v3.5.21-k3s1-build20250612" }
}

fn keep_newest_backups(server: &Server) -> Result<(), Ending> {
    let entries = fs::read_dir(server.layout.db())?.flatten().map(|entry| entry.path());
    let is_backup = |path: &std::path::PathBuf| {
        path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"etcd-backup-"))
    };
    let mut backups: Vec<_> = entries.filter(is_backup).collect();
    backups.sort();
    let surplus = backups.len().saturating_sub(BACKUPS);
    for backup in &backups[..surplus] {
        fs::remove_dir_all(backup)?;
    }
    Ok(())
}
