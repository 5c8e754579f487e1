//! Opening a journal to go on with it: time and memory, in a process of its own.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use rke2flow_engine::run::Run;

use super::run;
use super::world::chain;

/// Records that a no-op step leaves.
const RECORDS_PER_STEP: usize = 5;

const HOSTS: usize = 100;

pub fn measure(directory: &Path, records: usize) {
    let steps = records / RECORDS_PER_STEP;
    let new = chain(&format!("resume-{records}"), steps.div_ceil(HOSTS), HOSTS);
    let path = directory.join(new.id.as_str());
    run::measure(directory, new, steps.div_ceil(HOSTS) * HOSTS, 0);
    let child = std::env::current_exe().expect("this program is a file");
    let status = Command::new(child).arg("--resume").arg(&path).status().expect("this program starts");
    assert!(status.success(), "resuming {} failed", path.display());
}

/// What the child does: opens the run and prints what it took.
pub fn child(directory: &str) {
    let begin = Instant::now();
    let run = Run::open(Path::new(directory)).expect("a run");
    let took = begin.elapsed();
    assert!(run.replayed().state.closed().is_some());
    let mut records = 0;
    rke2flow_engine::journal::read(Path::new(directory), &mut |_| records += 1).expect("a journal");
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find(|line| line.starts_with("VmHWM")).unwrap_or("VmHWM: unknown").to_owned();
    println!("resume of {records} records: {:.1} ms, {}", took.as_secs_f64() * 1e3, peak.replace('\t', " "));
}
