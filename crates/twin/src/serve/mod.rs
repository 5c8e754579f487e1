//! The servers of a twin: SSH per host, Kubernetes over TLS, S3, HTTP, and a control port, all on loopback.
//!
//! They know protocols and sockets; what is true in the cluster they ask of a [`Backend`]. [`up`] starts everything and
//! writes the cluster file through which an engine in another process reaches it.

pub mod backend;
pub mod control;
pub mod directory;
mod forward;
pub mod http;
pub mod identity;
pub mod kube;
mod net;
pub mod s3;
pub mod ssh;
mod start;
#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::path::PathBuf;

pub use self::backend::{Ask, Backend};
pub use self::control::Remote;
pub use self::start::{Running, up};

/// Why a twin cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// No port to listen on.
    #[error("cannot listen on {address}: {source}")]
    Bind {
        /// The address.
        address: IpAddr,
        /// Why.
        source: std::io::Error,
    },
    /// A file of the twin's directory.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The directory belongs to a twin that runs.
    #[error("a twin already runs in {} (process {pid}): stop it, or choose another --dir", dir.display())]
    Taken {
        /// The directory.
        dir: PathBuf,
        /// Its process.
        pid: u32,
    },
    /// The cluster file cannot be written as RON.
    #[error("cannot render the cluster file: {0}")]
    Cluster(#[from] ron::Error),
    /// A certificate.
    #[error("cannot make a certificate: {0}")]
    Certificate(#[from] rcgen::Error),
    /// TLS.
    #[error("cannot set up TLS: {0}")]
    Tls(String),
    /// An SSH key.
    #[error("cannot make an SSH key: {0}")]
    Key(#[from] russh::keys::ssh_key::Error),
}

impl From<rustls::Error> for ServeError {
    fn from(error: rustls::Error) -> Self {
        ServeError::Tls(error.to_string())
    }
}
