//! The Kubernetes API of the stand-in, served from etcd, with its controllers and the kubelet's reports.
//!
//! [`etcd`] talks to the member, [`objects`] keeps objects in it, [`handle`], `look` and [`stream`] answer requests with
//! the twin's own understanding of them, [`server`] is the socket. [`report`] is a client of it.

pub mod authority;
pub mod client;
mod controllers;
pub mod etcd;
pub mod handle;
mod look;
pub mod objects;
pub mod report;
pub mod server;
pub mod stream;
pub mod tls;
mod upkeep;

use std::io;

use crate::process::ControlPlane;

/// Serves the Kubernetes API from the server's own etcd member until the process ends; returns only with an error that
/// a restart may cure (the port is taken, a certificate is missing).
pub async fn serve(config: ControlPlane) -> io::Result<()> {
    let server = server::Server::bind(handle::Api::new(config)).await?;
    match server.run().await {}
}

/// Runs the controllers through the server's own API, while this server leads, until the process ends.
pub async fn controllers(config: ControlPlane) -> io::Result<()> {
    controllers::run(config).await
}
