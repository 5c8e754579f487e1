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

/// Each round measures everything once; the median round counts, because disks and neighbours are noisy.
const ROUNDS: usize = 5;

/// Worker threads; 0: everything on one.
const THREADS: [usize; 2] = [0, 2];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    if let Some(at) = arguments.iter().position(|argument| argument == "--resume") {
        resume::child(&arguments[at + 1]);
        return ExitCode::SUCCESS;
    }
    let directory = tempfile::Builder::new().prefix("bench-").tempdir_in(target_directory()).expect("a directory");
    println!("file system {} at {}", file_system(directory.path()), directory.path().display());
    println!("{:<36} {:>10} {:>10} {:>10} {:>8} {:>8}", "", "steps/s", "p50 us", "p99 us", "fdsyncs", "x floor");
    let mut rounds: Vec<Vec<Figures>> = Vec::new();
    for round in 0..ROUNDS {
        let mut figures = vec![floor::measure(&directory.path().join(format!("floor-{round}")), STEPS)];
        for threads in THREADS {
            figures.push(run::sequential(directory.path(), STEPS, threads, round));
            figures.push(run::parallel(directory.path(), BRANCHES, HOSTS, threads, round));
        }
        rounds.push(figures);
    }
    let honest =
        rounds.iter().flatten().filter(|figures| figures.one_by_one).all(|figures| figures.syncs >= STEPS as u64);
    let names = [
        "append + fdatasync",
        "in sequence, one thread",
        "10 x 100 in parallel, one thread",
        "in sequence, two threads",
        "10 x 100 in parallel, two threads",
    ];
    let mut floor = None;
    for (column, name) in names.into_iter().enumerate() {
        let median = median(rounds.iter().map(|figures| &figures[column]).collect());
        median.print(name, floor.unwrap_or(median));
        floor.get_or_insert(median);
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
    /// Whether each step is acknowledged by itself.
    pub(crate) one_by_one: bool,
}

impl Figures {
    fn print(&self, name: &str, floor: &Figures) {
        let per_second = self.steps as f64 / self.wall.as_secs_f64();
        let micros = |share: f64| self.percentile(share).as_secs_f64() * 1e6;
        let ratio = self.mean() / floor.mean();
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

fn median(mut figures: Vec<&Figures>) -> &Figures {
    figures.sort_by_key(|figures| figures.wall);
    figures[figures.len() / 2]
}

/// `$BENCH_DIR`, else a place on a real disk: `/tmp` is often memory.
fn target_directory() -> std::path::PathBuf {
    if let Some(directory) = std::env::var_os("BENCH_DIR") {
        return directory.into();
    }
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
