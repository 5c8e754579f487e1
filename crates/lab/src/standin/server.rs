//! `rke2 server`: the start of a server, in RKE2's order.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixDatagram;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::cleanup::{self, Reset};
use super::container::Task;
use super::embedded::Embedded;
use super::etcd::Etcd;
use super::http::Client;
use super::layout::{API_PORT, ETCD_CLIENT_PORT, Layout};
use super::node::{Ending, Server};
use super::settings::Settings;
use super::token::Token;
use super::{
    bootstrap, children, flavor, join, log, manifest, member, membership, password, reset, runtime, storage, supervisor,
};
use crate::api::authority::Authority;
use crate::process::ControlPlane;

/// How often a start looks whether what it waits for is there.
const POLL: Duration = Duration::from_millis(500);
/// How often a running server repeats what must stay true.
const UPKEEP: Duration = Duration::from_secs(5);
const REQUEST: Duration = Duration::from_secs(5);

/// Runs a server until its process is told to end.
pub async fn run(version: &str, settings: Settings) -> Result<(), Ending> {
    let layout = Layout::new(settings.data());
    let reset = match (settings.is_on("cluster-reset"), settings.text("cluster-reset-restore-path")) {
        (false, None) => Reset::None,
        (_, Some(_)) => Reset::Restore,
        (true, None) => Reset::Membership,
    };
    if settings.distribution().static_pods {
        cleanup::static_pods(&layout, reset).await?;
    }
    if settings.is_on("cluster-reset") && settings.text("server").is_some() {
        return Err(Ending::Error(
            "cannot perform cluster-reset while server URL is set - remove server from configuration before resetting"
                .to_owned(),
        ));
    }
    if reset == Reset::Restore && !settings.is_on("cluster-reset") {
        return Err(Ending::Error(
            "invalid flag use; --cluster-reset required with --cluster-reset-restore-path".to_owned(),
        ));
    }
    log::info(format!("Starting {} {version}", settings.distribution().name));
    fs::create_dir_all(layout.server())?;
    std::env::set_current_dir(layout.server())?;
    let token = token(&layout, &settings, reset)?;
    let server = Arc::new(Server {
        name: settings.node(),
        address: settings.address().map_err(Ending::Error)?,
        etcd: Etcd::new(format!("http://127.0.0.1:{ETCD_CLIENT_PORT}")),
        version: version.to_owned(),
        snapshot: tokio::sync::Mutex::new(()),
        member: Mutex::new(String::new()),
        has_api: AtomicBool::new(false),
        embedded: Embedded::default(),
        layout,
        settings,
        token,
    });
    member::register(&server)?;
    let joining = join::prepare(&server, reset).await?;
    identify(&server)?;
    supervisor::start(server.clone()).await?;
    runtime::stage(&server.layout, version)?;
    if reset != Reset::None {
        return reset::run(&server).await;
    }
    serve(server, joining).await
}

async fn serve(server: Arc<Server>, joining: Option<(Client, String)>) -> Result<(), Ending> {
    runtime::write_charts(&server.layout, &server.version)?;
    // Both come back when their time has come (R2 `pkg/executor/staticpod/staticpod.go` APIServer, Bootstrap).
    for component in ["kube-apiserver", "kube-proxy"] {
        manifest::remove(&server.layout.pod_manifests(), component)?;
    }
    let was_reset = server.layout.reset_flag().exists();
    if member::is_initialized(&server) {
        member::start_existing(&server)?;
    } else if joining.is_none() {
        member::start_new(&server, member::Start::Normal)?;
    }
    let containerd = children::containerd(&server.layout)?;
    let kubelet = children::kubelet(&server.layout)?;
    let started = async {
        if let Some((client, base)) = joining.filter(|_| !member::is_initialized(&server)) {
            member::join(&server, &client, &base).await?;
        }
        tokio::spawn(member::manage_learners(server.clone()));
        member::ready(&server).await;
        start_control_plane(&server, was_reset).await?;
        let tied = server.clone();
        tokio::spawn(async move { membership::keep(&tied).await });
        upkeep(&server).await
    };
    tokio::select! {
        ended = started => ended,
        error = children::watch(&server.layout, containerd, kubelet) => Err(Ending::Shutdown(error.to_string())),
        why = server.embedded.watch() => Err(Ending::Fatal(why)),
    }
}

async fn start_control_plane(server: &Server, was_reset: bool) -> Result<(), Ending> {
    bootstrap::save(&server.etcd, &server.token, &server.layout)
        .await
        .map_err(|error| Ending::error("failed to save bootstrap data", error))?;
    keep_token(server)?;
    note_storage(server).await;
    write_component(server, "kube-apiserver")?;
    let mut waited = 0_u32;
    while !is_api_ready(server).await {
        tokio::time::sleep(POLL).await;
        waited += 1;
        if waited.is_multiple_of(20) {
            log::info("Waiting for API server to become available");
        }
    }
    server.has_api.store(true, Ordering::Relaxed);
    let others: &[&str] = match server.distribution().static_pods {
        true => &["kube-controller-manager", "kube-scheduler", "cloud-controller-manager", "kube-proxy"],
        // The others of the process do nothing here.
        false => &["kube-controller-manager"],
    };
    for component in others {
        write_component(server, component)?;
    }
    if was_reset {
        // Its password may be another one than the one in the snapshot.
        if let Err(error) = password::forget(server, &server.name).await {
            log::warn(format!("failed to delete old node password secret: {error}"));
        }
    }
    if server.layout.reset_flag().exists() {
        fs::remove_file(server.layout.reset_flag())?;
    }
    announce(server).await;
    log::info(format!("{} is up and running", server.distribution().name));
    notify_ready()?;
    Ok(())
}

/// Keeps up what others may have changed. A server never leaves this by itself.
async fn upkeep(server: &Server) -> Result<(), Ending> {
    let mut has_password = false;
    loop {
        if !has_password {
            has_password = ensure_password(server).await;
        }
        announce(server).await;
        note_storage(server).await;
        tokio::time::sleep(UPKEEP).await;
    }
}

/// A server's own password is checked late, and a mismatch is only told (K3S `pkg/server/auth` ensureSecret).
async fn ensure_password(server: &Server) -> bool {
    let Ok(password) = password::of_host() else { return false };
    match password::ensure(server, &server.name, &password).await {
        Ok(()) => true,
        Err(error) => {
            log::warn(format!("Deferred node password secret validation failed: {error}"));
            error.is_mismatch()
        }
    }
}

async fn note_storage(server: &Server) {
    if let Err(error) = storage::note(&server.etcd, &server.member_name(), &server.version).await {
        log::warn(format!("cannot note the version of etcd: {error}"));
    }
}

/// Adds this server to the addresses that agents are told, and takes out those of servers that are no members.
async fn announce(server: &Server) {
    let addresses = supervisor::addresses_key(server);
    let update = async {
        let kept = server.etcd.get(&addresses).await?;
        let old = kept
            .as_ref()
            .and_then(|entry| serde_json::from_slice::<Vec<String>>(&entry.value).ok())
            .unwrap_or_default();
        let members = server.etcd.members().await?;
        let is_member = |address: &String| {
            let host = address.rsplit_once(':').map_or("", |(host, _)| host);
            members.iter().any(|member| member.peer_urls.iter().any(|url| url.contains(&format!("//{host}:"))))
        };
        let mut new: Vec<String> = old.iter().filter(|address| is_member(address)).cloned().collect();
        let own = format!("{}:{API_PORT}", server.address);
        if !new.contains(&own) {
            new.push(own);
            new.sort();
        }
        if new != old {
            let value = serde_json::to_vec(&new).unwrap_or_default();
            server.etcd.replace(&addresses, &value, kept.map_or(0, |entry| entry.revision)).await?;
        }
        Ok::<(), super::etcd::EtcdError>(())
    };
    if let Err(error) = update.await {
        log::warn(format!("Failed to update {addresses}: {error}"));
    }
}

/// The API server of an earlier start still answers for a while: only the one of the manifest counts.
async fn is_api_ready(server: &Server) -> bool {
    if server.distribution().static_pods && !is_current_pod(server) {
        return false;
    }
    let Ok((client, base)) = server.api() else { return false };
    client.get(&format!("{base}/readyz"), REQUEST).await.is_ok_and(|answer| answer.status.is_success())
}

fn is_current_pod(server: &Server) -> bool {
    let wanted = manifest::wanted(&server.layout.pod_manifests(), &server.name);
    let Some(wanted) = wanted.into_iter().find(|spec| spec.name == "kube-apiserver") else { return false };
    Task::all().iter().any(|task| task.spec.uid == wanted.uid && task.is_running())
}

fn write_component(server: &Server, component: &str) -> io::Result<()> {
    let config = ControlPlane {
        node: server.name.clone(),
        address: server.address.to_string(),
        version: server.version.clone(),
        etcd: format!("http://127.0.0.1:{ETCD_CLIENT_PORT}"),
        tls: server.layout.tls(),
        port: API_PORT,
        supervisor: flavor::forwarded_port(server.distribution()),
    };
    let file = server.layout.control_plane();
    fs::create_dir_all(server.layout.server().join("etc"))?;
    fs::write(&file, serde_json::to_vec_pretty(&config)?)?;
    let image = match component {
        "cloud-controller-manager" => {
            format!("rancher/rke2-cloud-provider:{}-build20250814", runtime::tag(&server.version))
        }
        _ => format!("rancher/hardened-kubernetes:{}-build20250814", runtime::tag(&server.version)),
    };
    let command = vec![component.to_owned(), file.display().to_string()];
    server.run(component, &image, command, BTreeMap::new())
}

/// The token of the configuration, or the one on the disk; a new cluster's first server makes one.
fn token(layout: &Layout, settings: &Settings, reset: Reset) -> Result<Token, Ending> {
    let on_disk = fs::read_to_string(layout.token()).ok();
    let text = match (settings.text("token"), on_disk) {
        (Some(configured), _) => configured,
        (None, Some(on_disk)) => on_disk,
        (None, None) if reset == Reset::Restore => {
            return Err(Ending::Error(format!(
                "{} does not exist, please pass --token to complete the restoration",
                layout.token().display()
            )));
        }
        (None, None) if settings.text("server").is_some() => {
            return Err(Ending::Error("token is required to join a cluster".to_owned()));
        }
        (None, None) => fs::read_to_string("/proc/sys/kernel/random/uuid")?.trim().replace('-', ""),
    };
    Token::parse(&text).map_err(Ending::Error)
}

/// Everything that says who this server is: certificates, the kubelet's identity, the admin's kubeconfig.
fn identify(server: &Server) -> Result<(), Ending> {
    let layout = &server.layout;
    fs::create_dir_all(layout.cred())?;
    bootstrap::install(layout, &server.name, server.address.into())?;
    let authority =
        Authority::read(&layout.tls())?.ok_or_else(|| Ending::Error("the authority was not written".to_owned()))?;
    let name = server.distribution().name;
    let directory = std::path::PathBuf::from(format!("/etc/rancher/{name}"));
    fs::create_dir_all(&directory)?;
    write_secret(
        &directory.join(format!("{name}.yaml")),
        &authority.kubeconfig(&format!("https://127.0.0.1:{API_PORT}"))?,
    )?;
    password::of_host()?;
    let identity = children::Identity {
        authority: authority.server_certificate().to_owned(),
        node: authority.kubelet(&server.name)?,
    };
    children::configure(layout, &server.version, &server.name, server.address, true, &identity)?;
    fs::write(layout.api_servers(), format!("127.0.0.1:{API_PORT}\n"))?;
    Ok(())
}

/// The token is on the disk once the datastore has shown that it is the right one.
pub fn keep_token(server: &Server) -> Result<(), Ending> {
    let layout = &server.layout;
    let authority =
        Authority::read(&layout.tls())?.ok_or_else(|| Ending::Error("the authority was not written".to_owned()))?;
    let token = server.token.full(authority.server_certificate());
    for path in [layout.token(), layout.server().join("node-token"), layout.server().join("agent-token")] {
        write_secret(&path, &format!("{token}\n"))?;
    }
    Ok(())
}

fn write_secret(path: &std::path::Path, text: &str) -> io::Result<()> {
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    io::Write::write_all(&mut file, text.as_bytes())
}

/// Tells systemd; without systemd nobody waits.
pub fn notify_ready() -> io::Result<()> {
    let Some(socket) = std::env::var_os("NOTIFY_SOCKET") else { return Ok(()) };
    UnixDatagram::unbound()?.send_to(b"READY=1\n", socket).map(drop)
}
