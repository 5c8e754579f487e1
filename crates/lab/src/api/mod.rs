//! The Kubernetes API of the stand-in, served from etcd, with its controllers and the kubelet's reports.

pub mod authority;
pub mod report;

use std::io;

use crate::process::ControlPlane;

/// Serves the Kubernetes API from the server's own etcd member until the process ends; returns only with an error that
/// a restart may cure (the port is taken, a certificate is missing).
pub async fn serve(config: ControlPlane) -> io::Result<()> {
    Err(io::Error::new(io::ErrorKind::Unsupported, format!("{} serves nothing yet", config.node)))
}

/// Runs the controllers through the server's own API, while this server leads, until the process ends.
pub async fn controllers(config: ControlPlane) -> io::Result<()> {
    Err(io::Error::new(io::ErrorKind::Unsupported, format!("{} controls nothing yet", config.node)))
}
