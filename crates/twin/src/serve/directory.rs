//! The directory of a twin: the cluster file and what it refers to. Secrets are files that only their owner can read.

use std::fs;
use std::io::Write as _;
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rke2flow_engine::cluster::{Cluster, Secret};
use russh::keys::ssh_key::LineEnding;
use russh::keys::{PrivateKey, PublicKey};
use serde::{Deserialize, Serialize};

use super::ServeError;

/// File in the directory that says where the control port is.
pub const CONTROL_FILE: &str = "control.json";

const PID_FILE: &str = "twin.pid";

/// A directory that belongs to this process's twin.
pub struct Directory {
    root: PathBuf,
}

/// A host's address and the key that it presents there.
pub struct KnownHost {
    /// Where SSH connects.
    pub address: SocketAddr,
    /// Its host key.
    pub key: PublicKey,
}

/// Where the control port is, and the word that it wants to hear.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ControlFile {
    /// `127.0.0.1:40123`
    pub address: SocketAddr,
    /// Bearer token.
    pub token: String,
}

impl Directory {
    /// Makes the directory, and takes it unless a living process has it.
    pub fn claim(dir: &Path) -> Result<Self, ServeError> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)
            .map_err(|source| ServeError::Write { path: dir.to_owned(), source })?;
        let root = dir.canonicalize().map_err(|source| ServeError::Write { path: dir.to_owned(), source })?;
        let directory = Self { root };
        let me = std::process::id();
        if let Some(pid) = directory.pid().filter(|pid| *pid != me && Path::new(&format!("/proc/{pid}")).exists()) {
            return Err(ServeError::Taken { dir: dir.to_owned(), pid });
        }
        directory.write(PID_FILE, format!("{me}\n").as_bytes())?;
        Ok(directory)
    }

    /// Gives the directory up; what else is in it stays for those who still read it.
    pub fn release(&self) {
        if self.pid() == Some(std::process::id()) {
            // Gone already, or not ours to remove any more: either way nobody is misled.
            let _ = fs::remove_file(self.root.join(PID_FILE));
        }
    }

    /// Writes `cluster.ron`.
    pub fn write_cluster(&self, cluster: &Cluster) -> Result<PathBuf, ServeError> {
        let text = cluster.to_ron();
        let head = "// A twin's cluster file, written when it started. Ports and keys change with every start.\n";
        self.write("cluster.ron", format!("{head}{text}\n").as_bytes())
    }

    /// Writes the client's private key.
    pub fn write_key(&self, key: &PrivateKey) -> Result<PathBuf, ServeError> {
        self.write("id_ed25519", key.to_openssh(LineEnding::LF)?.as_bytes())
    }

    /// Writes `known_hosts` as OpenSSH reads it.
    pub fn write_known_hosts(&self, hosts: &[KnownHost]) -> Result<PathBuf, ServeError> {
        let mut text = String::new();
        for KnownHost { address, key } in hosts {
            let mut key = key.clone();
            key.set_comment("");
            text.push_str(&format!("[{}]:{} {}\n", address.ip(), address.port(), key.to_openssh()?.trim_end()));
        }
        self.write("known_hosts", text.as_bytes())
    }

    /// Writes a secret, and returns how the cluster file refers to it.
    pub fn write_secret(&self, name: &str, secret: &str) -> Result<Secret, ServeError> {
        Ok(Secret::File(self.write(name, format!("{secret}\n").as_bytes())?))
    }

    /// Writes `kubeconfig`.
    pub fn write_kubeconfig(&self, kubeconfig: &str) -> Result<PathBuf, ServeError> {
        self.write("kubeconfig", kubeconfig.as_bytes())
    }

    /// Writes [`CONTROL_FILE`].
    pub fn write_control(&self, address: SocketAddr, token: &str) -> Result<PathBuf, ServeError> {
        let file = ControlFile { address, token: token.to_owned() };
        self.write(CONTROL_FILE, serde_json::json!(file).to_string().as_bytes())
    }

    fn pid(&self) -> Option<u32> {
        fs::read_to_string(self.root.join(PID_FILE)).ok()?.trim().parse().ok()
    }

    /// By rename, so that a reader never sees half a file; 0600, because most of them hold secrets.
    fn write(&self, name: &str, bytes: &[u8]) -> Result<PathBuf, ServeError> {
        let (path, new) = (self.root.join(name), self.root.join(format!(".{name}.new")));
        let written = (|| {
            let _ = fs::remove_file(&new);
            fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?.write_all(bytes)?;
            fs::rename(&new, &path)
        })();
        match written {
            Ok(()) => Ok(path),
            Err(source) => Err(ServeError::Write { path, source }),
        }
    }
}
