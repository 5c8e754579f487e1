//! The process that writes: acknowledged batches without a pause, each followed by the word of how far it has come.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode};

use rke2flow_engine::id::RunId;
use rke2flow_engine::journal::{Draft, FileJournal, Journal, RunDirectory};
use rke2flow_engine::record::Event;

use super::bench::Chance;

/// What the names of the runs begin with.
pub const RUN_PREFIX: &str = "power-";
const ASKED: &str = "POWER_WRITER";
/// Records in one batch, at most.
const BATCH: u64 = 4;
/// Bytes of a record's text, at most.
const TEXT_BYTES: u64 = 6_000;
/// Every so many batches, an output is kept in a file of its own.
const OUTPUT_EVERY: u64 = 8;

/// What a writer is to do.
pub struct Work {
    pub runs: PathBuf,
    pub run: u32,
    pub seed: u64,
    pub progress: PathBuf,
}

/// How many records were acknowledged: eight bytes beside the device, in the page cache, which a frozen writer keeps.
pub struct Progress;

impl Progress {
    pub fn reset(path: &Path) {
        std::fs::remove_file(path).ok();
    }

    pub fn read(path: &Path) -> Option<u64> {
        let bytes = std::fs::read(path).ok()?;
        Some(u64::from_le_bytes(bytes.try_into().ok()?))
    }
}

impl Work {
    /// In a process of its own, which can be frozen.
    pub fn start(&self) -> Child {
        let words = [self.run.to_string(), self.seed.to_string()].join(" ");
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.env(ASKED, words).env("POWER_RUNS", &self.runs).env("POWER_PROGRESS", &self.progress);
        command.spawn().unwrap()
    }

    /// The directory of its run below a mounted device.
    pub fn directory(runs: &Path, run: u32) -> RunDirectory {
        RunDirectory::at(runs.join(id(run).as_str()))
    }
}

/// The work that this process was started for.
pub fn asked() -> Option<Work> {
    let words = std::env::var(ASKED).ok()?;
    let (run, seed) = words.split_once(' ')?;
    let path = |name: &str| Some(PathBuf::from(std::env::var_os(name)?));
    let (runs, progress) = (path("POWER_RUNS")?, path("POWER_PROGRESS")?);
    Some(Work { runs, run: run.parse().ok()?, seed: seed.parse().ok()?, progress })
}

/// The run of a writer that acknowledges what it has only written: the bench must see that it loses.
pub const CARELESS: u32 = u32::MAX;

/// The careless writer's file.
pub fn careless_file(runs: &Path) -> PathBuf {
    runs.join("careless")
}

fn write_carelessly(work: &Work) -> ExitCode {
    let mut file = File::create(careless_file(&work.runs)).unwrap();
    let progress = File::create(&work.progress).unwrap();
    for number in 0_u64.. {
        std::io::Write::write_all(&mut file, b"acknowledged\n").unwrap();
        progress.write_all_at(&u64::to_le_bytes(number + 1), 0).unwrap();
        std::thread::sleep(std::time::Duration::from_micros(100));
    }
    ExitCode::SUCCESS
}

/// Writes until somebody kills the process.
pub fn write_until_killed(work: &Work) -> ExitCode {
    if work.run == CARELESS {
        return write_carelessly(work);
    }
    let (run, mut chance) = (id(work.run), Chance(work.seed));
    let directory = Work::directory(&work.runs, work.run);
    let mut next = 0;
    let mut journal = if directory.path().exists() {
        let mut journal = FileJournal::open(&directory).unwrap();
        journal.replay(&mut |record| next = record.seq + 1).unwrap();
        journal
    } else {
        FileJournal::create(&RunDirectory::create(&work.runs, &run).unwrap()).unwrap()
    };
    let progress = File::create(&work.progress).unwrap();
    progress.write_all_at(&u64::to_le_bytes(next), 0).unwrap();
    for batch in 0.. {
        let kept = (batch % OUTPUT_EVERY == 0).then(|| directory.keep_output(&text(&mut chance)).unwrap());
        for _ in 0..=chance.below(BATCH) {
            journal.append(draft(&run, next, kept.as_deref(), &text(&mut chance))).unwrap();
            next += 1;
        }
        journal.commit().unwrap();
        progress.write_all_at(&u64::to_le_bytes(next), 0).unwrap();
    }
    ExitCode::SUCCESS
}

/// `17 <digest or -> xxxx…`: the check reads it back.
fn draft(run: &RunId, number: u64, kept: Option<&str>, filling: &str) -> Draft {
    let why = format!("{number} {} {filling}", kept.unwrap_or("-"));
    let event = Event::Paused { why };
    Draft { at: jiff::Timestamp::UNIX_EPOCH, boot: "boot".to_owned(), mono_ms: 0, run: run.clone(), claim: 0, event }
}

fn text(chance: &mut Chance) -> String {
    let letter = char::from(b'a' + (chance.below(26) as u8));
    letter.to_string().repeat(1 + chance.below(TEXT_BYTES) as usize)
}

fn id(run: u32) -> RunId {
    RunId::new(format!("{RUN_PREFIX}{run}")).unwrap()
}
