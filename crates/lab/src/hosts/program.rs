//! The lab's own programs: they are built beside the one that runs.

use std::path::{Path, PathBuf};

use super::error::{LabError, file};

/// Finds one. Tests run in `target/debug/deps`, one directory below.
pub fn find(name: &str) -> Result<PathBuf, LabError> {
    let own = std::env::current_exe().map_err(file("find", Path::new("/proc/self/exe")))?;
    let directories = own.ancestors().skip(1).take(2);
    let found = directories.map(|directory| directory.join(name)).find(|program| program.is_file());
    found.ok_or_else(|| LabError::Program { name: name.to_owned(), beside: own })
}
