//! Why a lab, or a host of it, is not as it was asked for.

use std::io;
use std::path::{Path, PathBuf};

use super::command::CommandError;
use super::spec::{LabName, SpecError};

/// See the module.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// There can be no lab on this machine.
    #[error("a lab cannot be made here: {0}")]
    Unavailable(String),
    /// No such lab, or no such host.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// The name is taken.
    #[error("there is a lab `{0}` already: `rke2flow-lab --name {0} down` removes it")]
    Exists(LabName),
    /// The name is free.
    #[error("there is no lab `{0}`: `rke2flow-lab --name {0} up` makes it")]
    Absent(LabName),
    /// Somebody makes it as fast as it is removed.
    #[error("lab `{0}` is made again while it is removed: end its `rke2flow-lab up` first")]
    Remade(LabName),
    /// Nothing can be asked of it.
    #[error("{0} is off: `rke2flow-lab boot {0}` turns it on")]
    Off(String),
    /// The directory has something in it.
    #[error("{} is not empty: a lab wants a directory of its own", _0.display())]
    NotEmpty(PathBuf),
    /// All of 10.77.0.0/16 and 10.78.0.0/16 lead somewhere.
    #[error("no free network: every /24 of 10.77.0.0/16 and 10.78.0.0/16 is taken")]
    NoSubnet,
    /// A program of the lab's own.
    #[error("there is no `{name}` beside {}: `cargo build -p rke2flow-lab` builds it", beside.display())]
    Program {
        /// Its name.
        name: String,
        /// The program that looked for it.
        beside: PathBuf,
    },
    /// A secret or a key.
    #[error("cannot make a secret: {0}")]
    Secret(String),
    /// A file or directory.
    #[error("cannot {what} {}: {source}", path.display())]
    File {
        /// What was tried.
        what: &'static str,
        /// With what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A program.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// Something did not come in time.
    #[error("waited {seconds} s for {what}{seen}")]
    Waited {
        /// For what.
        what: String,
        /// How long.
        seconds: u64,
        /// What there was instead, on lines of its own.
        seen: String,
    },
}

/// For `map_err`: what was tried with which file.
pub fn file(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> LabError {
    let path = path.to_owned();
    move |source| LabError::File { what, path, source }
}
