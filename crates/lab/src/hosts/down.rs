//! Removing a lab: by its name, from what the kernel lists, whatever became of the process that made it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::cgroup::{self, Cgroup};
use super::{LabError, LabName, disk, network};

/// A process that was killed while it made the lab may have had an `ip` under way: look again.
const ROUNDS_MAX: u32 = 10;
const BETWEEN_ROUNDS: Duration = Duration::from_millis(30);

/// Every lab of which anything is left on this machine.
pub fn names() -> Result<Vec<LabName>, LabError> {
    let mut names: BTreeSet<LabName> = BTreeSet::new();
    names.extend(network::namespaces()?.iter().filter_map(|name| LabName::of(name)));
    names.extend(network::operators()?.iter().filter_map(|name| LabName::of(name)));
    names.extend(mounts(|_| true)?.iter().filter_map(|(name, _)| LabName::of(name)));
    let cgroups = cgroup::mount().and_then(|mount| fs::read_dir(mount).ok()).into_iter().flatten().flatten();
    names.extend(cgroups.filter_map(|entry| LabName::of(&entry.file_name().to_string_lossy())));
    Ok(names.into_iter().collect())
}

/// Removes everything of a lab, and `dir`, unless there is something else in it. Nothing happens when there is none.
pub fn down(name: &LabName, dir: &Path) -> Result<(), LabError> {
    let mut dirs = BTreeSet::from([dir.to_owned()]);
    let mut rounds = 1;
    loop {
        match round(name, &mut dirs) {
            Ok(false) => break,
            // What was listed may have gone by itself: an interface goes with its namespace.
            Ok(true) | Err(_) if rounds < ROUNDS_MAX => std::thread::sleep(BETWEEN_ROUNDS),
            Ok(true) => return Err(LabError::Remade(name.clone())),
            Err(error) => return Err(error),
        }
        rounds += 1;
    }
    for dir in dirs {
        // Not there, or not only ours: both are as they should be.
        let _ = fs::remove_dir(dir);
    }
    Ok(())
}

/// Where a lab is, if it has got as far as having a directory.
pub fn directory(name: &LabName) -> Result<Option<PathBuf>, LabError> {
    Ok(mounts(|lab| lab == name)?.into_iter().next().map(|(_, place)| place))
}

/// Removes what is found; whether anything was.
fn round(name: &LabName, dirs: &mut BTreeSet<PathBuf>) -> Result<bool, LabError> {
    let mut found = false;
    if let Some(cgroup) = Cgroup::of(name).filter(|cgroup| cgroup.path().exists()) {
        found = true;
        let path = cgroup.path().to_owned();
        cgroup.remove().map_err(|source| LabError::File { what: "remove the cgroup", path, source })?;
    }
    for operator in network::operators()?.iter().filter(|operator| **operator == name.prefix()) {
        found = true;
        network::remove_operator(operator)?;
    }
    for namespace in network::namespaces()?.iter().filter(|namespace| LabName::of(namespace).as_ref() == Some(name)) {
        found = true;
        network::remove_namespace(namespace)?;
    }
    let mounts = mounts(|lab| lab == name)?;
    dirs.extend(mounts.first().map(|(_, place)| place.clone()));
    // The last one first: disks lie in the directory.
    for (_, place) in mounts.into_iter().rev() {
        found = true;
        disk::detach(&place).map_err(|source| LabError::File { what: "unmount", path: place.clone(), source })?;
    }
    Ok(found)
}

fn mounts(wanted: impl Fn(&LabName) -> bool) -> Result<Vec<(String, PathBuf)>, LabError> {
    let path = PathBuf::from("/proc/self/mounts");
    disk::mounted(|name| LabName::of(name).is_some_and(|lab| wanted(&lab))).map_err(|source| LabError::File {
        what: "read",
        path,
        source,
    })
}
