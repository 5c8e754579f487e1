//! What durability costs: no-op steps beside a bare append + fdatasync in the same run, and resuming a journal.
//!
//! `cargo bench -p rke2flow-engine --bench steps`. Fails if a step was acknowledged without an fdatasync.

mod floor;
mod resume;
mod run;
mod world;

use std::process::ExitCode;
use std::time::Duration;

/// Steps in sequence, and in parallel as `BRANCHES` after one another on `HOSTS` each.
const STEPS: usize = 1000;
const BRANCHES: usize = 10;
const HOSTS: usize = 100;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    if let Some(at) = arguments.iter().position(|argument| argument == "--resume") {
        resume::child(&arguments[at + 1]);
        return ExitCode::SUCCESS;
    }
    let directory = tempfile::Builder::new().prefix("bench-").tempdir_in(target_directory()).expect("a directory");
    println!("file system {} at {}", file_system(directory.path()), directory.path().display());
    println!("{:<36} {:>10} {:>10} {:>10} {:>8} {:>8}", "", "steps/s", "p50 us", "p99 us", "fdsyncs", "x floor");
    let floor = floor::measure(directory.path(), STEPS);
    floor.print("append + fdatasync", None);
    let mut honest = true;
    for threads in [0, 2] {
        let name = if threads == 0 { "one thread" } else { "two threads" };
        let sequential = run::sequential(directory.path(), STEPS, threads);
        sequential.print(&format!("{STEPS} in sequence, {name}"), Some(&floor));
        honest &= sequential.syncs >= STEPS as u64;
        run::parallel(directory.path(), BRANCHES, HOSTS, threads)
            .print(&format!("{BRANCHES} x {HOSTS} in parallel, {name}"), Some(&floor));
    }
    for records in [1_000, 100_000] {
        resume::measure(directory.path(), records);
    }
    if !honest {
        eprintln!("fewer fdatasyncs than steps acknowledged one by one: the figures are worth nothing");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

/// One line of the table.
pub(crate) struct Figures {
    pub(crate) steps: usize,
    pub(crate) wall: Duration,
    pub(crate) each: Vec<Duration>,
    pub(crate) syncs: u64,
}

impl Figures {
    fn print(&self, name: &str, floor: Option<&Figures>) {
        let per_second = self.steps as f64 / self.wall.as_secs_f64();
        let micros = |share: f64| self.percentile(share).as_secs_f64() * 1e6;
        let ratio = floor.map_or(1.0, |floor| self.wall.as_secs_f64() / self.steps as f64 / floor.mean());
        println!(
            "{name:<36} {per_second:>10.0} {:>10.0} {:>10.0} {:>8} {ratio:>8.2}",
            micros(0.5),
            micros(0.99),
            self.syncs
        );
    }

    fn mean(&self) -> f64 {
        self.wall.as_secs_f64() / self.steps as f64
    }

    fn percentile(&self, share: f64) -> Duration {
        let mut sorted = self.each.clone();
        sorted.sort();
        sorted.get(((sorted.len() as f64 - 1.0) * share) as usize).copied().unwrap_or_default()
    }
}

/// A place on a real disk: `/tmp` is often memory.
fn target_directory() -> std::path::PathBuf {
    let here = std::env::current_exe().expect("this program is a file");
    here.parent().expect("a file is in a directory").to_owned()
}

fn file_system(path: &std::path::Path) -> String {
    let mounts = std::fs::read_to_string("/proc/mounts").unwrap_or_default();
    let fitting = mounts.lines().filter_map(|line| {
        let mut words = line.split(' ').skip(1);
        let (point, kind) = (words.next()?, words.next()?);
        path.starts_with(point).then(|| (point.len(), kind.to_owned()))
    });
    fitting.max().map_or_else(|| "unknown".to_owned(), |(_, kind)| kind)
}
