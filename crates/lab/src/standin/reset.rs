//! `rke2 server --cluster-reset`: a snapshot or the disk becomes a cluster of one (K3S `pkg/etcd/etcd.go` Reset, Restore).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::node::{Ending, Server};
use super::{archive, bootstrap, children, cleanup, log, member, runtime, s3, server, supervisor};

/// How often etcd is looked at: RKE2 does so every 5 s, and for ever.
const POLL: Duration = Duration::from_millis(500);
const DONE: &str = "Managed etcd cluster membership has been reset, restart without --cluster-reset flag now. Backup and delete ${datadir}/server/db on each peer etcd server and rejoin the nodes";

/// Resets, and ends as RKE2 does: with a failure that is none.
pub async fn run(server: &Server) -> Result<(), Ending> {
    let path = server.settings.text("cluster-reset-restore-path");
    if path.is_none() && server.layout.reset_flag().exists() {
        return Err(Ending::Error(format!(
            "starting kubernetes: preparing server: start managed database: Managed etcd cluster membership was previously reset, please remove the cluster-reset flag and start {} normally. If you need to perform another cluster reset, you must first manually delete the file at {}",
            server.distribution().name,
            server.layout.reset_flag().display()
        )));
    }
    if let Some(path) = path {
        restore(server, &path).await.map_err(|why| {
            Ending::Error(format!("starting kubernetes: preparing server: start managed database: {why}"))
        })?;
    }
    member::name(server, true)?;
    fs::write(server.layout.reset_flag(), "")?;
    member::start_new(server, member::Start::ForceNew)?;
    let containerd = children::containerd(&server.layout)?;
    let kubelet = children::kubelet(&server.layout)?;
    // The kubelet ends here with its handle: one that went on would start etcd again.
    tokio::select! {
        outcome = wait(server) => outcome?,
        error = children::watch(&server.layout, containerd, kubelet) => return Err(Ending::Shutdown(error.to_string())),
        why = server.embedded.watch() => return Err(Ending::Fatal(why)),
    }
    // Releases before 2025 say the same as information.
    if runtime::minor(&server.version) >= 32 {
        log::error(format!("Shutdown request received: {DONE}"));
    } else {
        log::info(DONE);
    }
    log::info("Shutting down kubelet and etcd");
    let found =
        tokio::task::spawn_blocking(|| cleanup::remove(&["etcd".to_owned()])).await.map_err(std::io::Error::other)?;
    if let Err(error) = found {
        log::error(format!("Failed to stop etcd: {error}"));
    }
    Ok(())
}

async fn wait(server: &Server) -> Result<(), Ending> {
    loop {
        match member::test(server).await {
            Ok(()) => {
                if let Err(error) = server.etcd.put(&supervisor::addresses_key(server), b"").await {
                    log::warn(format!("failed to reset api addresses key in etcd: {error}"));
                } else if is_alone(server).await {
                    rebootstrap(server).await?;
                    return Ok(());
                }
            }
            Err(why) => {
                log::info(format!("Failed to test etcd connection: {why}"));
                correct_peer_url(server).await;
            }
        }
        tokio::time::sleep(POLL).await;
    }
}

async fn is_alone(server: &Server) -> bool {
    let members = server.etcd.members().await.unwrap_or_default();
    matches!(&members[..], [member] if member.name == server.member_name())
}

/// The datastore's authorities win over those on the disk.
async fn rebootstrap(server: &Server) -> Result<(), Ending> {
    if let Some(files) = bootstrap::load(&server.etcd, &server.token).await.map_err(Ending::Fatal)? {
        bootstrap::reconcile(&server.layout, &files, true).map_err(Ending::Fatal)?;
        bootstrap::install(&server.layout, &server.name, server.address.into())?;
        server::keep_token(server)?;
    }
    Ok(())
}

async fn correct_peer_url(server: &Server) {
    let members = server.etcd.members().await.unwrap_or_default();
    let [member] = &members[..] else { return };
    if !member.peer_urls.contains(&server.peer_url())
        && let Err(error) = server.etcd.update(member.id, &server.peer_url()).await
    {
        log::warn(format!("failed to update peer url: {error}"));
    }
}

async fn restore(server: &Server, path: &str) -> Result<(), String> {
    let mut path = PathBuf::from(path);
    if server.settings.is_on("etcd-s3") {
        log::info(format!("Retrieving etcd snapshot {} from S3", path.display()));
        path = s3::download(server, &path.to_string_lossy()).await?;
        log::info(format!("S3 download complete for {}", path.display()));
    }
    if !path.exists() {
        return Err(format!("etcd: snapshot path does not exist: {}", path.display()));
    }
    if path.is_dir() {
        return Err(format!("etcd: snapshot path must be a file, not a directory: {}", path.display()));
    }
    if path.extension().is_some_and(|ending| ending == "zip") {
        path = decompress(server, &path)?;
    }
    let aside = server.layout.db().join(format!("etcd-old-{}", jiff::Timestamp::now().as_second()));
    fs::rename(server.layout.etcd(), &aside).map_err(|error| error.to_string())?;
    log::info(format!("Pre-restore etcd database moved to {}", aside.display()));
    extract(server, &path)
}

/// From 1.35.3 on the path of what was decompressed is doubled (k3s#14526).
fn decompress(server: &Server, path: &Path) -> Result<PathBuf, String> {
    log::info(format!("Decompressing etcd snapshot file: {}", path.display()));
    if has_doubled_path(&server.version) {
        let doubled = format!("{0}{0}", server.layout.snapshots().display());
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        return Err(format!("open {doubled}/{name}: no such file or directory"));
    }
    let (name, bytes) = archive::unzip(&fs::read(path).map_err(|error| error.to_string())?)?;
    fs::write(&name, bytes).map_err(|error| error.to_string())?;
    Ok(PathBuf::from(name))
}

fn has_doubled_path(version: &str) -> bool {
    let patch = version.split(['.', '+', '-']).nth(2).and_then(|patch| patch.parse().ok()).unwrap_or(0);
    (runtime::minor(version), patch) >= (35, 3)
}

/// etcd's own restore, which checks the snapshot's hash.
fn extract(server: &Server, snapshot: &Path) -> Result<(), String> {
    let (name, peer) = (server.member_name(), server.peer_url());
    let output = Command::new("etcdctl")
        .env("ETCDCTL_API", "3")
        .args(["snapshot", "restore"])
        .arg(snapshot)
        .arg("--data-dir")
        .arg(server.layout.etcd())
        // K3s names no token for the restored cluster, so it is another one than the one that etcd founds by itself.
        .args(["--name", &name, "--initial-advertise-peer-urls", &peer, "--initial-cluster-token="])
        .arg(format!("--initial-cluster={name}={peer}"))
        .output()
        .map_err(|error| error.to_string())?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        return Err(text.trim().trim_start_matches("Error: ").to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_releases_with_the_doubled_path_are_those_of_the_issue() {
        for version in ["v1.35.3+rke2r1", "v1.36.0+rke2r1", "v1.36.3+rke2r1"] {
            assert!(has_doubled_path(version), "{version}");
        }
        for version in ["v1.33.4+rke2r1", "v1.35.2+rke2r1"] {
            assert!(!has_doubled_path(version), "{version}");
        }
    }
}
