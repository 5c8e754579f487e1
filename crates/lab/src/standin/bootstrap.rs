//! The bootstrap data: the authorities and keys that every server of a cluster has, on disk and in the datastore.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::etcd::{Etcd, EtcdError};
use super::layout::Layout;
use super::log;
use super::release::hex;
use super::token::Token;
use crate::api::authority::Authority;

/// Files below `server` that are kept in the datastore.
const FILES: [&str; 7] = [
    "tls/server-ca.crt",
    "tls/server-ca.key",
    "tls/client-ca.crt",
    "tls/client-ca.key",
    "tls/service.key",
    "cred/ipsec.psk",
    "cred/passwd",
];
/// How much newer a file must be to count as newer (K3S `pkg/cluster/bootstrap.go` systemTimeSkew).
const SKEW_SECONDS: i64 = 3;
const PREFIX: &str = "/bootstrap/";

/// One file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    content: String,
    /// Unix seconds.
    timestamp: i64,
}

/// The files of a cluster by their path below `server`.
pub type Bootstrap = BTreeMap<String, Kept>;

/// Makes what a new cluster needs, or renews what this server presents; the authorities themselves stay as they are.
pub fn install(layout: &Layout, node: &str, address: IpAddr) -> io::Result<()> {
    let authority = match Authority::read(&layout.tls())? {
        Some(authority) => authority,
        None => Authority::create()?,
    };
    let before: Vec<_> = FILES.iter().map(|file| modified(&layout.server().join(file))).collect();
    authority.install(&layout.tls(), node, address)?;
    for (file, text) in
        [("tls/service.key", seed("service")), ("cred/ipsec.psk", seed("ipsec")), ("cred/passwd", seed("passwd"))]
    {
        let path = layout.server().join(file);
        if !path.exists() {
            write(&path, &text)?;
        }
    }
    fs::write(layout.cred().join("admin.kubeconfig"), authority.kubeconfig("https://127.0.0.1:6443")?)?;
    // Written again with the same content, they are no newer than before.
    for (file, modified) in FILES.iter().zip(before) {
        if let Some(modified) = modified {
            File::options().write(true).open(layout.server().join(file))?.set_modified(modified)?;
        }
    }
    Ok(())
}

/// The files as they are on disk.
pub fn read(layout: &Layout) -> io::Result<Bootstrap> {
    let kept = FILES.iter().map(|file| {
        let path = layout.server().join(file);
        let content = fs::read_to_string(&path)?;
        let timestamp = modified(&path).map_or(0, unix);
        Ok(((*file).to_owned(), Kept { content, timestamp }))
    });
    kept.collect()
}

/// What the datastore keeps for a token; `None` when it keeps nothing yet.
pub async fn load(etcd: &Etcd, token: &Token) -> Result<Option<Bootstrap>, String> {
    let found = etcd.get(&key(token)).await.map_err(|error| error.to_string())?;
    if let Some(entry) = found {
        return serde_json::from_slice(&entry.value).map(Some).map_err(|error| error.to_string());
    }
    let others = etcd.list(PREFIX).await.map_err(|error| error.to_string())?;
    if others.is_empty() {
        Ok(None)
    } else {
        Err("bootstrap data already found and encrypted with different token".to_owned())
    }
}

/// Keeps the files in the datastore, unless it has them.
pub async fn save(etcd: &Etcd, token: &Token, layout: &Layout) -> Result<(), EtcdError> {
    let files = read(layout).map_err(|error| EtcdError::Nonsense(error.to_string()))?;
    let value = serde_json::to_vec(&files).map_err(|error| EtcdError::Nonsense(error.to_string()))?;
    etcd.replace(&key(token), &value, 0).await.map(drop)
}

/// Brings the disk to what the datastore has. Files that differ and are newer on disk end a normal start; a reset keeps a
/// copy of the certificates and takes the datastore's (K3S `ReconcileBootstrapData`).
pub fn reconcile(layout: &Layout, files: &Bootstrap, is_reset: bool) -> Result<(), String> {
    log::info("Reconciling bootstrap data between datastore and disk");
    let failed = |error: io::Error| format!("failed to write bootstrap data: {error}");
    if [layout.cred(), layout.tls()].iter().any(|directory| is_empty(directory)) {
        return write_all(layout, files).map_err(failed);
    }
    let mut differs = false;
    let mut newer = Vec::new();
    for (file, kept) in files {
        let path = layout.server().join(file);
        let Ok(content) = fs::read_to_string(&path) else {
            log::warn(format!("{} doesn't exist. continuing...", path.display()));
            differs = true;
            continue;
        };
        if content != kept.content {
            differs = true;
            let on_disk = modified(&path).map_or(0, unix);
            if on_disk - kept.timestamp >= SKEW_SECONDS {
                newer.push(path.display().to_string());
            } else {
                log::warn(format!("{} will be updated from the datastore.", path.display()));
            }
        }
    }
    if is_reset {
        let backup = layout.server().join(format!("tls-{}", unix(SystemTime::now())));
        log::info(format!("Cluster reset: backing up certificates directory to {}", backup.display()));
        copy(&layout.tls(), &backup)
            .map_err(|error| format!("cluster reset failed to back up server TLS dir: {error}"))?;
        differs = true;
    } else if !newer.is_empty() {
        return Err(format!(
            "{} newer than datastore and could cause a cluster outage. Remove the file(s) from disk and restart to be recreated from datastore.",
            newer.join(", ")
        ));
    }
    if differs {
        log::warn("Updating bootstrap data on disk from datastore");
        write_all(layout, files).map_err(failed)?;
    }
    Ok(())
}

/// Copies a directory with all that is below it, in the order of names, as K3s does: of a database that lives, `snap` comes
/// before `wal`, so that the copy's log has everything that its database has.
pub fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    let mut entries = fs::read_dir(from)?.collect::<io::Result<Vec<_>>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

fn key(token: &Token) -> String {
    format!("{PREFIX}{}", token.hash())
}

/// The files of WriteToDiskFromStorage get the time at which they were kept.
fn write_all(layout: &Layout, files: &Bootstrap) -> io::Result<()> {
    for (file, kept) in files {
        let path = layout.server().join(file);
        write(&path, &kept.content)?;
        let at = UNIX_EPOCH + Duration::from_secs(kept.timestamp.unsigned_abs());
        File::options().write(true).open(path)?.set_modified(at)?;
    }
    Ok(())
}

fn write(path: &Path, text: &str) -> io::Result<()> {
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory)?;
    }
    let mut file = File::options().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    io::Write::write_all(&mut file, text.as_bytes())
}

fn seed(what: &str) -> String {
    let random = fs::read_to_string("/proc/sys/kernel/random/uuid").unwrap_or_default();
    hex(&Sha256::digest(format!("{what}{random}")))
}

fn is_empty(directory: &Path) -> bool {
    fs::read_dir(directory).map_or(true, |mut entries| entries.next().is_none())
}

fn modified(path: &Path) -> Option<SystemTime> {
    fs::metadata(path).and_then(|data| data.modified()).ok()
}

fn unix(time: SystemTime) -> i64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server() -> (tempfile::TempDir, Layout, Bootstrap) {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        fs::create_dir_all(layout.cred()).unwrap();
        install(&layout, "server-0", [127, 0, 0, 1].into()).unwrap();
        let files = read(&layout).unwrap();
        (dir, layout, files)
    }

    #[test]
    fn renewed_certificates_leave_the_authorities_as_old_as_they_were() {
        let (_dir, layout, files) = server();
        let old = UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        File::options().write(true).open(layout.tls().join("server-ca.crt")).unwrap().set_modified(old).unwrap();
        install(&layout, "server-0", [127, 0, 0, 1].into()).unwrap();
        assert_eq!(modified(&layout.tls().join("server-ca.crt")), Some(old));
        assert_eq!(read(&layout).unwrap()["tls/server-ca.crt"].content, files["tls/server-ca.crt"].content);
    }

    #[test]
    fn a_file_that_differs_and_is_newer_ends_the_start() {
        let (_dir, layout, mut files) = server();
        for kept in files.values_mut() {
            kept.timestamp -= 60;
        }
        assert_eq!(reconcile(&layout, &files, false), Ok(()));
        files.get_mut("tls/client-ca.key").unwrap().content = "another".to_owned();
        let refused = reconcile(&layout, &files, false).unwrap_err();
        assert!(
            refused.contains("tls/client-ca.key newer than datastore and could cause a cluster outage"),
            "{refused}"
        );
    }

    #[test]
    fn a_reset_takes_the_datastores_files_and_keeps_a_copy() {
        let (_dir, layout, mut files) = server();
        let key = files.get_mut("tls/client-ca.key").unwrap();
        key.content = "another".to_owned();
        key.timestamp -= 60;
        reconcile(&layout, &files, true).unwrap();
        assert_eq!(fs::read_to_string(layout.tls().join("client-ca.key")).unwrap(), "another");
        let copies = fs::read_dir(layout.server()).unwrap().flatten();
        assert_eq!(copies.filter(|entry| entry.file_name().to_string_lossy().starts_with("tls-")).count(), 1);
    }

    #[test]
    fn without_certificates_on_disk_nothing_is_compared() {
        let (_dir, layout, files) = server();
        fs::remove_dir_all(layout.tls()).unwrap();
        reconcile(&layout, &files, false).unwrap();
        assert_eq!(read(&layout).unwrap()["tls/server-ca.crt"], files["tls/server-ca.crt"]);
    }
}
