//! containerd and the kubelet: the processes that end with the `rke2` that started them. What they run does not.

use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Signal, getppid, set_parent_process_death_signal};
use tokio::process::{Child, Command};

use super::layout::Layout;
use super::log;
use crate::api::authority::Pair;
use crate::process::Kubelet;

/// How long a kubelet that ended is left alone (R2 `pkg/executor/staticpod/staticpod.go` Kubelet).
const BACK_OFF: Duration = Duration::from_secs(5);

/// Whom a node asks.
pub struct Identity {
    /// The authority that signs what servers present.
    pub authority: String,
    /// The node's own certificate.
    pub node: Pair,
}

/// Writes what the kubelet is told.
pub fn configure(
    layout: &Layout,
    version: &str,
    node: &str,
    address: Ipv4Addr,
    server: bool,
    identity: &Identity,
) -> io::Result<()> {
    let agent = layout.agent();
    fs::create_dir_all(layout.agent_etc())?;
    fs::create_dir_all(layout.pod_manifests())?;
    fs::write(agent.join("server-ca.crt"), &identity.authority)?;
    identity.node.write(&agent, "client-kubelet")?;
    let kubelet = Kubelet {
        node: node.to_owned(),
        address: address.to_string(),
        version: version.to_owned(),
        server,
        data: layout.data().to_owned(),
        servers: layout.api_servers(),
        authority: agent.join("server-ca.crt"),
        certificate: agent.join("client-kubelet.crt"),
        key: agent.join("client-kubelet.key"),
    };
    fs::write(layout.kubelet(), serde_json::to_vec_pretty(&kubelet)?)
}

/// Starts containerd; the caller watches it.
pub fn containerd(layout: &Layout) -> io::Result<Child> {
    let root = layout.agent().join("containerd");
    fs::create_dir_all(&root)?;
    log::info(format!("Logging containerd to {}", root.join("containerd.log").display()));
    spawn("containerd", &[Path::new("--root"), &root], &root.join("containerd.log"))
}

/// Starts the kubelet.
pub fn kubelet(layout: &Layout) -> io::Result<Child> {
    let logs = layout.agent().join("logs");
    fs::create_dir_all(&logs)?;
    spawn("kubelet", &[&layout.kubelet()], &logs.join("kubelet.log"))
}

/// Watches both for as long as the process lives: a kubelet is started again, a containerd is not.
pub async fn watch(layout: &Layout, mut containerd: Child, mut kubelet: Child) -> io::Error {
    loop {
        tokio::select! {
            status = containerd.wait() => return io::Error::other(format!("containerd exited: {}", shown(status))),
            status = kubelet.wait() => log::error(format!("Kubelet exited: {}", shown(status))),
        }
        tokio::time::sleep(BACK_OFF).await;
        kubelet = match self::kubelet(layout) {
            Ok(kubelet) => kubelet,
            Err(error) => return error,
        };
    }
}

/// What a child does first: it ends when its parent does, even when that was killed.
pub fn end_with_parent() -> io::Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    // A parent that ended before this line sends no signal.
    if getppid().is_none_or(|parent| parent.is_init()) {
        return Err(io::Error::other("the parent process has ended"));
    }
    Ok(())
}

fn spawn(name: &str, arguments: &[&Path], log: &Path) -> io::Result<Child> {
    let log = fs::OpenOptions::new().create(true).append(true).open(log)?;
    Command::new(std::env::current_exe()?)
        .arg0(name)
        .args(arguments)
        .env_remove("NOTIFY_SOCKET")
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .kill_on_drop(true)
        .spawn()
}

fn shown(status: io::Result<std::process::ExitStatus>) -> String {
    status.map_or_else(|error| error.to_string(), |status| status.to_string())
}
