//! Reading what people wrote: runbooks, embedded or as files, and cluster files.

use std::path::Path;
use std::sync::Arc;

use crate::shim_runbooks as runbooks;
use async_trait::async_trait;
use rke2flow_engine::cluster::{self, Cluster, ClusterFile};
use rke2flow_engine::diagnostic::{Diagnostic, Diagnostics};
use rke2flow_engine::id::HostName;
use rke2flow_engine::runbook::{self, Runbook};
use rke2flow_engine::source::SourceText;
use rke2flow_steps::catalogue::{AnyAction, StepsCatalogue};
use rke2flow_steps::command::Envelope;
use rke2flow_steps::paths::HostPaths;
use rke2flow_steps::ports::{Access, AccessError, Http, KubeApi, KubeRequest, KubeResponse, Output, Shell};
use rke2flow_steps::secret::Redactor;

use crate::exit::Problem;

/// The word for runbooks that are in the binary, where a path is expected.
pub const EMBEDDED: &str = "embedded";

/// A runbook's text, and where it comes from.
#[derive(Debug, Clone)]
pub struct Found {
    /// A path, or [`EMBEDDED`].
    pub origin: String,
    /// The text.
    pub source: SourceText,
}

impl Found {
    /// Where it comes from and what it is, in one line.
    pub fn summary(&self) -> String {
        format!("runbook {} ({}, sha256 {})", self.source.name(), self.origin, &self.source.digest()[..12])
    }
}

/// Finds a runbook: a file of this path; else an embedded one of this name, `.ron` or not.
pub fn find_runbook(name: &str) -> Result<Found, Problem> {
    let path = Path::new(name);
    if path.exists() {
        let source = SourceText::read(path).map_err(|problem| unreadable(name, &Diagnostics::from(problem)))?;
        let origin = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        return Ok(Found { origin: origin.display().to_string(), source });
    }
    if let Some(text) = runbooks::embedded(name.strip_suffix(".ron").unwrap_or(name)) {
        return Ok(Found { origin: EMBEDDED.to_owned(), source: SourceText::new(name, text) });
    }
    let known: Vec<&str> = runbooks::all().iter().map(|runbook| runbook.name).collect();
    let problem = Diagnostic::error(format!("there is no file and no embedded runbook `{name}`"))
        .meant(name, known.iter().copied());
    Err(unreadable(name, &Diagnostics::from(problem)).next("rke2flow runbooks"))
}

/// Reads and checks a runbook.
pub fn read_runbook(found: &Found, catalogue: &StepsCatalogue) -> Result<Runbook<AnyAction>, Problem> {
    runbook::parse(found.source.clone(), catalogue).map_err(|found_wrong| unreadable(found.source.name(), &found_wrong))
}

/// Reads and checks a cluster file.
pub fn read_cluster(path: &Path) -> Result<ClusterFile, Problem> {
    cluster::read(path).map_err(|found_wrong| unreadable(&path.display().to_string(), &found_wrong))
}

fn unreadable(name: &str, found_wrong: &Diagnostics) -> Problem {
    Problem::bad_input(format!("cannot use {name}")).observed(found_wrong)
}

/// The catalogue with nothing behind it: for checking and rendering without a connection.
pub fn offline_catalogue(cluster: Arc<Cluster>) -> StepsCatalogue {
    let nothing = Arc::new(Offline);
    StepsCatalogue::new(Access {
        paths: HostPaths::of(&cluster),
        cluster,
        shell: nothing.clone(),
        kube: nothing.clone(),
        bucket: None,
        http: nothing,
        redactor: Redactor::default(),
    })
}

/// Ports of a command that connects to nothing.
struct Offline;

fn offline(whom: &str) -> AccessError {
    AccessError::Unreachable { whom: whom.to_owned(), why: "this command works offline".to_owned() }
}

#[async_trait]
impl Shell for Offline {
    async fn run(&self, host: &HostName, _envelope: &Envelope) -> Result<Output, AccessError> {
        Err(offline(host.as_str()))
    }
}

#[async_trait]
impl KubeApi for Offline {
    async fn call(&self, _server: Option<&HostName>, _request: &KubeRequest) -> Result<KubeResponse, AccessError> {
        Err(offline("the Kubernetes API"))
    }
}

#[async_trait]
impl Http for Offline {
    async fn get(&self, url: &str) -> Result<(u16, String), AccessError> {
        Err(offline(url))
    }
}
