//! The programs of a lab, which belong to another package: built when one is missing or older than its sources.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

/// The package.
const PACKAGE: &str = "rke2flow-lab";
/// The stand-in for rke2, and the one that serves the bucket.
const PROGRAMS: [&str; 2] = ["lab-rke2", "rke2flow-lab"];
/// What it is made of.
const SOURCES: [&str; 4] = ["engine", "steps", "twin", "lab"];

/// Makes sure that the lab finds them beside this test, as `cargo test --workspace` puts it there.
pub fn programs() {
    let own = env::current_exe().unwrap();
    let profile = own.ancestors().nth(2).unwrap();
    if PROGRAMS.iter().all(|program| is_current(&profile.join(program))) {
        return;
    }
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["build", "--quiet", "--package", PACKAGE, "--bins", "--target-dir"]).arg(profile.parent().unwrap());
    // `dev` is the one profile whose directory has another name.
    let name = profile.file_name().unwrap().to_str().unwrap();
    cargo.args(["--profile", if name == "debug" { "dev" } else { name }]).current_dir(project());
    assert!(cargo.status().unwrap().success(), "{cargo:?}");
}

fn is_current(program: &Path) -> bool {
    let Ok(built) = fs::metadata(program).and_then(|metadata| metadata.modified()) else { return false };
    SOURCES.iter().all(|package| newest(&project().join("crates").join(package).join("src")) <= built)
}

fn newest(directory: &Path) -> SystemTime {
    let newest_of = |entry: fs::DirEntry| match entry.file_type().unwrap().is_dir() {
        true => newest(&entry.path()),
        false => entry.metadata().unwrap().modified().unwrap(),
    };
    fs::read_dir(directory).unwrap().map(|entry| newest_of(entry.unwrap())).max().unwrap_or(SystemTime::UNIX_EPOCH)
}

fn project() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}
