//! known_hosts files: which keys a host may present, by patterns, hashes and markers, and writing the cluster's own.
//!
//! russh's own check is not used: it ignores `@revoked` and patterns, and takes an unreadable file for an empty one.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use hmac::{Hmac, KeyInit, Mac};
use russh::keys::PublicKey;
use russh::keys::ssh_key::known_hosts::{Entry, HostPatterns, Marker};
use sha1::Sha1;

/// A known_hosts file larger than this is refused, in bytes.
const FILE_LIMIT_BYTES: u64 = 8 * 1024 * 1024;

/// A host key that a person has accepted for an address.
#[derive(Debug, Clone, PartialEq)]
pub struct TrustedKey {
    /// IP address or DNS name, as in the cluster file.
    pub address: String,
    /// SSH port.
    pub port: u16,
    /// The key.
    pub key: PublicKey,
}

/// Why a known_hosts file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KnownHostsError {
    /// It is there and cannot be read or written.
    #[error("known_hosts file `{}`: {source}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// It is larger than 8 MiB.
    #[error("known_hosts file `{}` is larger than {FILE_LIMIT_BYTES} bytes", .0.display())]
    TooLarge(PathBuf),
}

/// What the files know about one address.
#[derive(Debug, Default)]
pub(super) struct Recorded {
    /// Keys of the first file that has any, with where they stand.
    pub keys: Vec<(PublicKey, String)>,
    /// Keys marked `@revoked`, from every file.
    pub revoked: Vec<(PublicKey, String)>,
    /// Lines with `@cert-authority` for the address.
    pub authorities: Vec<String>,
}

impl Recorded {
    /// Reads the files in order. A file that is not there knows nothing; one that cannot be read is an error.
    pub(super) fn read(files: &[PathBuf], address: &str, port: u16) -> Result<Self, KnownHostsError> {
        let mut recorded = Self::default();
        for file in files {
            let Some(text) = read_file(file)? else { continue };
            let mut keys = recorded.add(file, &text, &host_pattern(address, port));
            if recorded.keys.is_empty() {
                recorded.keys.append(&mut keys);
            }
        }
        Ok(recorded)
    }

    fn add(&mut self, file: &Path, text: &str, name: &str) -> Vec<(PublicKey, String)> {
        let mut keys = Vec::new();
        for (number, line) in text.lines().enumerate() {
            let Some(entry) = entry(line) else { continue };
            if !matches(entry.host_patterns(), name) {
                continue;
            }
            let place = format!("{}:{}", file.display(), number + 1);
            match entry.marker() {
                None => keys.push((entry.public_key().clone(), place)),
                Some(Marker::Revoked) => self.revoked.push((entry.public_key().clone(), place)),
                Some(Marker::CertAuthority) => self.authorities.push(place),
            }
        }
        keys
    }
}

/// Puts accepted keys into a known_hosts file: an older key of the same type for the same address goes, every other
/// line stays. The file is replaced in one step, with mode 0600.
pub fn write_known_hosts(path: &Path, entries: &[TrustedKey]) -> Result<(), KnownHostsError> {
    let failed = |source| KnownHostsError::Io { path: path.to_owned(), source };
    let old = read_file(path)?.unwrap_or_default();
    let replaced = |line: &str| {
        let Some(entry) = entry(line) else { return false };
        let HostPatterns::Patterns(names) = entry.host_patterns() else { return false };
        entry.marker().is_none()
            && entries.iter().any(|new| {
                names.as_slice() == [host_pattern(&new.address, new.port)]
                    && entry.public_key().algorithm() == new.key.algorithm()
            })
    };
    let mut text: String = old.lines().filter(|line| !replaced(line)).map(|line| format!("{line}\n")).collect();
    for new in entries {
        let key = bare(&new.key).to_openssh().map_err(|error| failed(std::io::Error::other(error)))?;
        text.push_str(&format!("{} {key}\n", host_pattern(&new.address, new.port)));
    }
    replace_file(path, text.as_bytes()).map_err(failed)
}

/// A key without its comment.
pub(super) fn bare(key: &PublicKey) -> PublicKey {
    PublicKey::new(key.key_data().clone(), "")
}

fn replace_file(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::create_dir_all(directory)?;
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    let staged = directory.join(name);
    let written = (|| {
        let mut options = std::fs::OpenOptions::new();
        options.write(true).create(true).truncate(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(&staged)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&staged, path)?;
        std::fs::File::open(directory)?.sync_all()
    })();
    if written.is_err() {
        drop(std::fs::remove_file(&staged));
    }
    written
}

fn read_file(path: &Path) -> Result<Option<String>, KnownHostsError> {
    let failed = |source| KnownHostsError::Io { path: path.to_owned(), source };
    match std::fs::metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
        Ok(metadata) if metadata.len() > FILE_LIMIT_BYTES => return Err(KnownHostsError::TooLarge(path.to_owned())),
        Ok(_) => {}
    }
    let bytes = std::fs::read(path).map_err(failed)?;
    // An odd byte in one line must not hide the others.
    Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
}

fn entry(line: &str) -> Option<Entry> {
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return None;
    }
    // OpenSSH separates fields by any number of spaces and tabs; the parser wants one space.
    line.split_whitespace().collect::<Vec<_>>().join(" ").parse().ok()
}

/// How known_hosts names an address: `[host]:port` unless the port is 22.
fn host_pattern(address: &str, port: u16) -> String {
    let address = address.to_lowercase();
    if port == 22 { address } else { format!("[{address}]:{port}") }
}

fn matches(patterns: &HostPatterns, name: &str) -> bool {
    match patterns {
        HostPatterns::HashedName { salt, hash } => {
            let Ok(mut mac) = Hmac::<Sha1>::new_from_slice(salt) else { return false };
            mac.update(name.as_bytes());
            mac.verify_slice(hash).is_ok()
        }
        HostPatterns::Patterns(patterns) => {
            let hit = |pattern: &str| glob(pattern.to_lowercase().as_bytes(), name.as_bytes());
            let refused = patterns.iter().filter_map(|pattern| pattern.strip_prefix('!')).any(hit);
            !refused && patterns.iter().filter(|pattern| !pattern.starts_with('!')).any(|pattern| hit(pattern))
        }
    }
}

/// `*` and `?`, as in OpenSSH's match.c; the two positions go back to the last star instead of recursing.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t, mut star) = (0, 0, None);
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(byte) if *byte == b'?' || *byte == text[t] => (p, t) = (p + 1, t + 1),
            _ => match star {
                Some((at, from)) => {
                    star = Some((at, from + 1));
                    (p, t) = (at + 1, from + 1);
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIB9dG4kjRhQTtWTVzd2t27+t0DEHBPW7iOD23TUiYLio";
    const TWO: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJZ6pHZeB6qQpAMNZUKzFVTVg7nOX+pbHTLMVbtOWmzU";

    fn recorded(text: &str, address: &str, port: u16) -> Recorded {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("known_hosts");
        std::fs::write(&file, text).unwrap();
        Recorded::read(&[dir.path().join("none"), file], address, port).unwrap()
    }

    #[test]
    fn patterns_ports_negations_and_odd_spacing_are_understood() {
        let knows = |hosts: &str, address: &str, port| {
            !recorded(&format!("garbage\n# note\n{hosts} \t {ONE} comment\n"), address, port).keys.is_empty()
        };
        assert!(knows("10.0.0.10", "10.0.0.10", 22));
        assert!(knows("Server-0,other", "server-0", 22));
        assert!(knows("[10.0.0.10]:2222", "10.0.0.10", 2222));
        assert!(knows("*.example.com", "a.example.com", 22));
        assert!(knows("10.0.0.?", "10.0.0.7", 22));
        assert!(!knows("10.0.0.10", "10.0.0.10", 2222));
        assert!(!knows("*.example.com,!a.example.com", "a.example.com", 22));
        assert!(!knows("10.0.0.1", "10.0.0.10", 22));
    }

    #[test]
    fn a_hashed_name_is_found() {
        // Made by `ssh-keygen -H` from `10.0.0.10`.
        let name = "|1|HQrCHy5JM1p+mgu+eVGk8wZBKVY=|l1nQ0yQt/Wse2PNSgpYKCph4vjk=";
        assert_eq!(recorded(&format!("{name} {ONE}\n"), "10.0.0.10", 22).keys.len(), 1);
        assert!(recorded(&format!("{name} {ONE}\n"), "10.0.0.11", 22).keys.is_empty());
    }

    #[test]
    fn markers_are_kept_apart_and_named_with_their_line() {
        let text = format!("@cert-authority * {ONE}\n@revoked * {TWO}\n");
        let recorded = recorded(&text, "10.0.0.10", 22);
        assert!(recorded.keys.is_empty());
        assert!(recorded.authorities[0].ends_with("known_hosts:1"));
        assert!(recorded.revoked[0].1.ends_with("known_hosts:2"));
    }

    #[test]
    fn the_first_file_that_knows_the_host_decides() {
        let dir = tempfile::tempdir().unwrap();
        let files = [dir.path().join("a"), dir.path().join("b")];
        std::fs::write(&files[0], format!("h {ONE}\n")).unwrap();
        std::fs::write(&files[1], format!("h {TWO}\n")).unwrap();
        let recorded = Recorded::read(&files, "h", 22).unwrap();
        assert_eq!(recorded.keys.len(), 1);
        assert!(recorded.keys[0].1.ends_with("a:1"));
    }

    #[test]
    fn a_file_that_cannot_be_read_is_an_error_and_not_an_empty_one() {
        let dir = tempfile::tempdir().unwrap();
        assert!(Recorded::read(&[dir.path().to_owned()], "h", 22).is_err());
    }

    #[test]
    fn writing_replaces_the_same_address_and_type_only_and_can_be_repeated() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("sub/known_hosts");
        std::fs::create_dir(dir.path().join("sub")).unwrap();
        std::fs::write(&file, format!("# mine\n[10.0.0.10]:2222 {ONE}\nother {ONE}\n")).unwrap();
        let new = TrustedKey { address: "10.0.0.10".into(), port: 2222, key: TWO.parse().unwrap() };
        for _ in 0..2 {
            write_known_hosts(&file, std::slice::from_ref(&new)).unwrap();
            let text = std::fs::read_to_string(&file).unwrap();
            assert_eq!(text, format!("# mine\nother {ONE}\n[10.0.0.10]:2222 {TWO}\n"));
        }
    }
}
