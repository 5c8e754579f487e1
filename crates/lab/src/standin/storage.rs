//! Which etcd a database can be opened by. Debian has one etcd; RKE2 has 3.5 before 1.34 and 3.6 from then on.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode};

use serde_json::Value;

use super::container::IMAGE_VARIABLE;
use super::etcd::{Etcd, EtcdError};
use super::runtime;

const VERSIONS: &str = "/lab/etcd/versions/";
const STORAGE: &str = "/lab/etcd/storage";
/// Stands in the database itself, so it travels with every copy and every snapshot of it.
const MARK: &[u8] = b"lab: storage version 3.6.0";
/// Bytes of the database that are read at once.
const BLOCK: usize = 1 << 20;

/// Notes this member's etcd. Once all members are 3.6, so is the storage (etcd's own rule for its cluster version).
pub async fn note(etcd: &Etcd, member: &str, version: &str) -> Result<(), EtcdError> {
    let of_etcd = if runtime::minor(version) >= 34 { "3.6" } else { "3.5" };
    etcd.put(&format!("{VERSIONS}{member}"), of_etcd.as_bytes()).await?;
    let noted = etcd.list(VERSIONS).await?;
    let is_new =
        |name: &str| noted.iter().any(|entry| entry.key == format!("{VERSIONS}{name}") && entry.value == b"3.6");
    if etcd.members().await?.iter().all(|member| is_new(&member.name)) {
        etcd.replace(STORAGE, MARK, 0).await?;
    }
    Ok(())
}

/// The container `etcd`: an etcd that does not open what a later one has written.
pub fn run(arguments: &[String]) -> ExitCode {
    let image = std::env::var(IMAGE_VARIABLE).unwrap_or_default();
    let database = arguments.iter().find_map(|word| database(Path::new(word.strip_prefix("--config-file=")?)));
    if !image.contains(":v3.6") && database.is_some_and(|database| is_marked(&database).unwrap_or(false)) {
        eprintln!(
            "{{\"level\":\"panic\",\"caller\":\"membership/cluster.go\",\"msg\":\"invalid downgrade; server version is lower than determined cluster version\",\"current-server-version\":\"3.5.21\",\"determined-cluster-version\":\"3.6\"}}"
        );
        return ExitCode::from(2);
    }
    let error = Command::new("etcd").args(arguments).exec();
    eprintln!("etcd: {error}");
    ExitCode::FAILURE
}

/// Whether an etcd of a release can open the database `<directory>/member/snap/db`.
pub fn check(directory: &Path, version: &str) -> Result<(), String> {
    let database = directory.join("member/snap/db");
    if runtime::minor(version) < 34 && is_marked(&database).unwrap_or(false) {
        return Err("invalid downgrade; server version is lower than determined cluster version: 3.5 < 3.6".to_owned());
    }
    Ok(())
}

fn database(config: &Path) -> Option<std::path::PathBuf> {
    let config: Value = serde_json::from_slice(&std::fs::read(config).ok()?).ok()?;
    Some(Path::new(config["data-dir"].as_str()?).join("member/snap/db"))
}

fn is_marked(database: &Path) -> io::Result<bool> {
    let mut file = File::open(database)?;
    let mut window = Vec::new();
    let mut block = vec![0; BLOCK];
    loop {
        let count = file.read(&mut block)?;
        if count == 0 {
            return Ok(false);
        }
        window.extend_from_slice(&block[..count]);
        if window.windows(MARK.len()).any(|bytes| bytes == MARK) {
            return Ok(true);
        }
        // The mark may lie across two blocks.
        window.drain(..window.len().saturating_sub(MARK.len()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_that_a_later_etcd_has_written_is_refused_by_an_earlier_one_only() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("member/snap")).unwrap();
        let mut bytes = vec![0; BLOCK - 3];
        bytes.extend_from_slice(MARK);
        std::fs::write(dir.path().join("member/snap/db"), bytes).unwrap();
        assert!(check(dir.path(), "v1.33.4+rke2r1").unwrap_err().contains("invalid downgrade"));
        assert_eq!(check(dir.path(), "v1.34.1+rke2r1"), Ok(()));
    }
}
