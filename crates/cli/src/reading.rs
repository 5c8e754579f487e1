//! Reading what people wrote: runbooks, embedded or as files, and cluster files.

use std::path::Path;

use rke2flow_engine::cluster::{self, ClusterFile};
use rke2flow_engine::diagnostic::{Diagnostic, Diagnostics};
use rke2flow_engine::runbook::{self, Runbook};
use rke2flow_engine::source::SourceText;
use rke2flow_steps::catalogue::{AnyAction, StepsCatalogue};
use rke2flow_steps::runbooks::{self, Embedded};

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
    if let Some(embedded) = runbooks::find(name) {
        return Ok(of_binary(embedded));
    }
    let known = runbooks::RUNBOOKS.iter().map(|embedded| embedded.name);
    let problem = Diagnostic::error(format!("there is no file and no embedded runbook `{name}`")).meant(name, known);
    Err(unreadable(name, &Diagnostics::from(problem)).next("rke2flow runbooks"))
}

/// The text of an embedded runbook.
pub fn of_binary(embedded: &Embedded) -> Found {
    let source = SourceText::new(format!("{}.ron", embedded.name), embedded.text);
    Found { origin: EMBEDDED.to_owned(), source }
}

/// Reads and checks a runbook.
pub fn read_runbook(found: &Found) -> Result<Runbook<AnyAction>, Problem> {
    runbook::parse(found.source.clone(), &StepsCatalogue::offline())
        .map_err(|found_wrong| unreadable(found.source.name(), &found_wrong))
}

/// Reads and checks a cluster file.
pub fn read_cluster(path: &Path) -> Result<ClusterFile, Problem> {
    cluster::read(path).map_err(|found_wrong| unreadable(&path.display().to_string(), &found_wrong))
}

fn unreadable(name: &str, found_wrong: &Diagnostics) -> Problem {
    Problem::bad_input(format!("cannot use {name}")).observed(found_wrong)
}
