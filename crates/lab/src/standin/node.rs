//! A server as its own parts see it, and the ways in which its process ends.

use std::collections::BTreeMap;
use std::io;
use std::net::Ipv4Addr;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;

use rke2flow_steps::distribution::Traits;

use super::embedded::Embedded;
use super::etcd::Etcd;
use super::http::{Client, HttpError};
use super::layout::{API_PORT, ETCD_CLIENT_PORT, ETCD_PEER_PORT, Layout};
use super::manifest;
use super::settings::Settings;
use super::token::Token;

/// What a manifest remembers beside its pod.
pub type Annotations = BTreeMap<String, String>;

/// A server.
pub struct Server {
    /// Its places.
    pub layout: Layout,
    /// What it was asked for.
    pub settings: Settings,
    /// Its release.
    pub version: String,
    /// Its node's name.
    pub name: String,
    /// Its node's address.
    pub address: Ipv4Addr,
    /// The cluster's token.
    pub token: Token,
    /// Its own member.
    pub etcd: Etcd,
    /// Held while a snapshot is taken.
    pub snapshot: tokio::sync::Mutex<()>,
    /// The member's name, once it has one.
    pub member: Mutex<String>,
    /// Its control plane, where that is inside of its process.
    pub embedded: Embedded,
    /// Whether its own API server has answered.
    pub has_api: AtomicBool,
}

impl Server {
    /// What its distribution is.
    pub fn distribution(&self) -> &'static Traits {
        self.settings.distribution()
    }

    /// Runs a component of the control plane: as a static pod, or inside of the process.
    pub fn run(&self, component: &str, image: &str, command: Vec<String>, annotations: Annotations) -> io::Result<()> {
        match self.distribution().static_pods {
            true => manifest::write(&self.layout.pod_manifests(), component, image, command, annotations),
            false => self.embedded.start(&self.layout.agent().join("logs"), component, image, &command),
        }
    }

    /// Where the cluster's members reach this one.
    pub fn peer_url(&self) -> String {
        format!("http://{}:{ETCD_PEER_PORT}", self.address)
    }

    /// Where the cluster's clients reach this member.
    pub fn client_url(&self) -> String {
        format!("http://{}:{ETCD_CLIENT_PORT}", self.address)
    }

    /// The member's name.
    pub fn member_name(&self) -> String {
        self.member.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    /// A client of the server's own API, as an admin.
    pub fn api(&self) -> Result<(Client, String), HttpError> {
        let tls = self.layout.tls();
        let client = Client::from_files(
            &tls.join("server-ca.crt"),
            &tls.join("client-admin.crt"),
            &tls.join("client-admin.key"),
        )?;
        Ok((client, format!("https://127.0.0.1:{API_PORT}")))
    }
}

/// How a process of RKE2 ends that was not told to.
#[derive(Debug, PartialEq, Eq)]
pub enum Ending {
    /// `level=fatal msg="Error: …"`, status 1.
    Error(String),
    /// `level=fatal`, status 1.
    Fatal(String),
    /// A failure, or a success, that is noticed beside the main path: the process shuts down, with status 0
    /// (K3S `pkg/signals/signal.go` RequestShutdown).
    Shutdown(String),
}

impl Ending {
    /// An error with what was being done.
    pub fn error(what: &str, why: impl std::fmt::Display) -> Self {
        Self::Error(format!("{what}: {why}"))
    }
}

impl From<std::io::Error> for Ending {
    fn from(error: std::io::Error) -> Self {
        Self::Error(error.to_string())
    }
}
