//! The history on disk: `history.ndjson` in the state directory, a line per closed run, put together from their
//! journals. It can be made again from these, and outlives them: `runs prune` takes nothing out of it.

use std::collections::{BTreeMap, HashSet};
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::entry::Reading;
use super::{ENTRY_VERSION, Entry};
use crate::action::Catalogue;
use crate::id::RunId;
use crate::journal::{self, RunDirectory};
use crate::record::RECORD_BYTES_MAX;

/// How many runs of each cluster are kept: the newest ones.
pub const RUNS_KEPT: usize = 200;

/// The largest history file that is read; a larger one is damaged.
pub const FILE_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// How often the lock is tried, and how long is waited in between: whoever has it writes one file.
const LOCK_TRIES: u32 = 100;
const LOCK_TRY_EVERY: Duration = Duration::from_millis(20);

/// Why the history cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// The disk.
    #[error("cannot use {}: {source}", path.display())]
    Disk {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Somebody else writes it, for too long.
    #[error("another process has held {} for {} s", path.display(), (LOCK_TRY_EVERY * LOCK_TRIES).as_secs())]
    Locked {
        /// The lock.
        path: PathBuf,
    },
    /// A newer rke2flow wrote it.
    #[error("{} was written by a newer rke2flow (version {v} of its lines; this one knows {ENTRY_VERSION})", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// The version of its lines.
        v: u32,
    },
}

/// The history in a state directory.
#[derive(Debug, Clone)]
pub struct Store {
    state: PathBuf,
}

/// What the history has, and what was noticed while reading it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Kept {
    /// Closed runs of every cluster, oldest first.
    pub entries: Vec<Entry>,
    /// What a person should know: damage that was mended, runs that cannot be read.
    pub notes: Vec<String>,
}

/// The file as it was read.
#[derive(Debug, Default)]
struct Lines {
    entries: Vec<Entry>,
    damaged: usize,
}

impl Store {
    /// The history of this state directory, the one that has `runs/`.
    pub fn at(state: impl Into<PathBuf>) -> Self {
        Self { state: state.into() }
    }

    /// The file.
    pub fn path(&self) -> PathBuf {
        self.state.join("history.ndjson")
    }

    /// Everything that is known: the file, and every closed run whose journal is there and that is not in it yet; those
    /// are written into it. What cannot be read is told and left out. Safe beside other processes that do the same.
    pub fn refresh(&self, catalogue: &dyn Catalogue) -> Result<Kept, HistoryError> {
        let lines = self.read()?;
        let known: HashSet<&RunId> = lines.entries.iter().map(|entry| &entry.run).collect();
        let mut kept = Kept::default();
        let mut found = Vec::new();
        for run in self.runs().into_iter().filter(|run| !known.contains(run)) {
            match self.closed(&run, catalogue) {
                Ok(entry) => found.extend(entry),
                Err(why) => kept.notes.push(format!("run {run} cannot be read: {why}")),
            }
        }
        if found.is_empty() && lines.damaged == 0 {
            kept.entries = newest(lines.entries);
            return Ok(kept);
        }
        kept.notes.extend(self.take_in(found, &mut kept.entries)?);
        Ok(kept)
    }

    /// Writes the file with what it has now and these runs; says what was mended.
    fn take_in(&self, found: Vec<Entry>, entries: &mut Vec<Entry>) -> Result<Option<String>, HistoryError> {
        let _lock = self.lock()?;
        let mut lines = self.read()?;
        let known: HashSet<RunId> = lines.entries.iter().map(|entry| entry.run.clone()).collect();
        lines.entries.extend(found.into_iter().filter(|entry| !known.contains(&entry.run)));
        *entries = newest(lines.entries);
        let damaged = self.path().with_extension("ndjson.damaged");
        if lines.damaged > 0 {
            fs::copy(self.path(), &damaged).map_err(disk(&damaged))?;
        }
        self.write(entries)?;
        let lost = format!("{} of {} could not be read", counted(lines.damaged), self.path().display());
        Ok((lines.damaged > 0)
            .then(|| format!("{lost}; kept as {}, and made again from the runs that are there", damaged.display())))
    }

    fn read(&self) -> Result<Lines, HistoryError> {
        let path = self.path();
        let mut text = Vec::new();
        match File::open(&path) {
            Ok(file) => file.take(FILE_BYTES_MAX).read_to_end(&mut text).map_err(disk(&path))?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Lines::default()),
            Err(error) => return Err(disk(&path)(error)),
        };
        let mut lines = Lines::default();
        for line in text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            match serde_json::from_slice::<Entry>(line) {
                Ok(entry) => lines.entries.push(entry),
                Err(_) => match serde_json::from_slice::<Version>(line) {
                    Ok(Version { v }) if v > ENTRY_VERSION => return Err(HistoryError::Newer { path, v }),
                    _ => lines.damaged += 1,
                },
            }
        }
        match lines.entries.iter().map(|entry| entry.v).max() {
            Some(v) if v > ENTRY_VERSION => Err(HistoryError::Newer { path, v }),
            _ => Ok(lines),
        }
    }

    fn write(&self, entries: &[Entry]) -> Result<(), HistoryError> {
        let (path, part) = (self.path(), self.path().with_extension("ndjson.part"));
        let mut text = Vec::new();
        for entry in entries {
            serde_json::to_writer(&mut text, entry).expect("an entry is texts, numbers and lists");
            text.push(b'\n');
        }
        let write = || {
            let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&part)?;
            file.write_all(&text)?;
            file.sync_all()?;
            fs::rename(&part, &path)?;
            File::open(&self.state)?.sync_all()
        };
        write().map_err(disk(&path))
    }

    fn lock(&self) -> Result<File, HistoryError> {
        let path = self.state.join("history.lock");
        let open = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
        let file = open.map_err(disk(&path))?;
        for _ in 0..LOCK_TRIES {
            match file.try_lock() {
                Ok(()) => return Ok(file),
                Err(TryLockError::WouldBlock) => std::thread::sleep(LOCK_TRY_EVERY),
                Err(TryLockError::Error(error)) => return Err(disk(&path)(error)),
            }
        }
        Err(HistoryError::Locked { path })
    }

    fn runs(&self) -> Vec<RunId> {
        let entries = fs::read_dir(self.state.join("runs")).into_iter().flatten();
        let mut runs: Vec<RunId> =
            entries.filter_map(|entry| RunId::new(entry.ok()?.file_name().into_string().ok()?).ok()).collect();
        runs.sort();
        runs
    }

    /// The entry of a run; `None` while it is open.
    fn closed(&self, run: &RunId, catalogue: &dyn Catalogue) -> Result<Option<Entry>, String> {
        let directory = RunDirectory::at(self.state.join("runs").join(run.as_str()));
        if !ends_closed(&directory.journal()).unwrap_or(true) {
            return Ok(None);
        }
        let mut reading = Reading::default();
        let mut refused = Ok(());
        journal::read(directory.path(), &mut |record| {
            if refused.is_ok() {
                refused = reading.push(&record);
            }
        })
        .map_err(|error| error.to_string())?;
        refused.and_then(|()| reading.finish(catalogue)).map_err(|error| error.to_string())
    }
}

/// What every version of a line has.
#[derive(serde::Deserialize)]
struct Version {
    v: u32,
}

fn disk(path: &Path) -> impl Fn(std::io::Error) -> HistoryError {
    let path = path.to_owned();
    move |source| HistoryError::Disk { path: path.clone(), source }
}

fn counted(lines: usize) -> String {
    if lines == 1 { "1 line".to_owned() } else { format!("{lines} lines") }
}

/// The newest [`RUNS_KEPT`] of each cluster, oldest first.
fn newest(mut entries: Vec<Entry>) -> Vec<Entry> {
    entries.sort_by(|a, b| (a.opened_at, &a.run).cmp(&(b.opened_at, &b.run)));
    let mut of_cluster: BTreeMap<String, usize> = BTreeMap::new();
    let mut kept: Vec<Entry> = Vec::new();
    for entry in entries.into_iter().rev() {
        let count = of_cluster.entry(entry.cluster.clone()).or_default();
        *count += 1;
        if *count <= RUNS_KEPT {
            kept.push(entry);
        }
    }
    kept.reverse();
    kept
}

/// A quick look at a journal's end: whether it may be that of a closed run. Open runs need not be read whole.
fn ends_closed(journal: &Path) -> std::io::Result<bool> {
    let mut file = File::open(journal)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(2 * RECORD_BYTES_MAX as u64)))?;
    let mut end = Vec::new();
    file.read_to_end(&mut end)?;
    let last = end.split(|byte| *byte == b'\n').rfind(|line| !line.is_empty()).unwrap_or_default();
    let wanted = br#""kind":"RunClosed""#;
    Ok(last.windows(wanted.len()).any(|window| window == wanted))
}
