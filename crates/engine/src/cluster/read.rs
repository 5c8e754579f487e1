//! From a cluster file to a checked [`Cluster`] with its paths made absolute.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::{Cluster, Kube, NO_FILE, Secret, Ssh, validate};
use crate::diagnostic::Diagnostics;
use crate::source::{self, SourceText};

/// A cluster file that was read and found right.
#[derive(Debug, Clone)]
pub struct ClusterFile {
    /// What it says.
    pub cluster: Cluster,
    /// The text.
    pub source: SourceText,
    /// What looks wrong and refuses nothing.
    pub warnings: Diagnostics,
}

/// Reads and checks a cluster file. Relative paths in it are resolved against its directory, `~/` against the home
/// directory.
pub fn read(path: &Path) -> Result<ClusterFile, Diagnostics> {
    let source = SourceText::read(path)?;
    let directory = std::path::absolute(path).ok().and_then(|path| path.parent().map(Path::to_owned));
    parse(source, &directory.unwrap_or_default())
}

/// Checks a cluster file's text; relative paths in it are resolved against `directory`.
pub fn parse(source: SourceText, directory: &Path) -> Result<ClusterFile, Diagnostics> {
    let mut cluster = source::parse::<Cluster>(&source)?.value;
    let found = validate::check(&cluster, &source);
    if found.refuse() {
        return Err(found);
    }
    let home = std::env::var_os("HOME");
    cluster.each_path(&|path| resolve(path, directory, home.as_ref()));
    Ok(ClusterFile { cluster, source, warnings: found })
}

fn resolve(path: &mut PathBuf, directory: &Path, home: Option<&OsString>) {
    *path = match (path.strip_prefix("~"), home) {
        (Ok(rest), Some(home)) => Path::new(home).join(rest),
        _ => directory.join(&*path),
    };
}

impl Cluster {
    /// The cluster file's text, with the paths as they are here: what a run remembers.
    pub fn to_ron(&self) -> String {
        source::to_ron(self)
    }

    /// Every path on the operator's machine.
    fn each_path(&mut self, visit: &dyn Fn(&mut PathBuf)) {
        let ssh = std::iter::once(&mut self.ssh).chain(self.hosts.iter_mut().map(|host| &mut host.ssh));
        for Ssh { key, known_hosts, config, .. } in ssh {
            // `none` is a word, as for `ssh -F`.
            let config = config.as_mut().filter(|config| config.as_os_str() != NO_FILE);
            key.iter_mut().chain(known_hosts).chain(config).for_each(visit);
        }
        let mut secrets = vec![self.token.as_mut()];
        if let Some(s3) = &mut self.s3 {
            s3.ca.iter_mut().for_each(visit);
            secrets.extend([Some(&mut s3.access_key), Some(&mut s3.secret_key)]);
        }
        for secret in secrets.into_iter().flatten() {
            if let Secret::File(path) = secret {
                visit(path);
            }
        }
        self.health_ca.iter_mut().for_each(visit);
        if let Kube::Kubeconfig(path) = &mut self.kube {
            visit(path);
        }
    }
}
