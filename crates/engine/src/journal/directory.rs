//! The directory of a run on the operator's disk, and its lock.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use sha2::{Digest, Sha256};

use super::JournalError;
use crate::id::RunId;

/// `<state>/runs/<run>/`. Directories are 0700, files 0600.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunDirectory(PathBuf);

/// Says that a process writes to the run. The kernel lets go of it when the process dies.
#[derive(Debug)]
pub struct RunLock(#[expect(dead_code, reason = "held open for its lock")] File);

/// How many directories a first run may create above its own: `runs`, the program's, and the user's state directory
/// (`~/.local/state`), each with the one that has its name.
const STATE_DEPTH: usize = 5;

/// How much of an output is kept.
const OUTPUT_BYTES_MAX: usize = 256 * 1024;

impl RunDirectory {
    /// Creates the directory of a new run under `runs`, durably.
    pub fn create(runs: &Path, run: &RunId) -> Result<Self, JournalError> {
        let directory = Self(runs.join(run.as_str()));
        let doing = |path: &Path| format!("creating {}", path.display());
        make(runs, true).map_err(JournalError::io(doing(runs)))?;
        make(&directory.0, false).map_err(JournalError::io(doing(&directory.0)))?;
        for path in [directory.inbox(), directory.out()] {
            make(&path, false).map_err(JournalError::io(doing(&path)))?;
        }
        sync(&directory.0)?;
        // The first run on a machine makes the directories above, too.
        for path in runs.ancestors().take(STATE_DEPTH).filter(|path| !path.as_os_str().is_empty()) {
            sync(path)?;
        }
        Ok(directory)
    }

    /// The directory of a run that exists.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// The directory itself.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The journal that people and other processes read.
    pub fn journal(&self) -> PathBuf {
        self.0.join("journal.ndjson")
    }

    /// The checkpoint.
    pub fn checkpoint(&self) -> PathBuf {
        self.0.join("sled")
    }

    /// Where commands arrive.
    pub fn inbox(&self) -> PathBuf {
        self.0.join("inbox")
    }

    /// Captured output that is too long for a record.
    pub fn out(&self) -> PathBuf {
        self.0.join("out")
    }

    /// Keeps the end of a text that is too long for a record, durably, and returns the name of its file in `out/`: the
    /// SHA-256 of what was kept.
    pub fn keep_output(&self, text: &str) -> Result<String, JournalError> {
        let earliest = text.len().saturating_sub(OUTPUT_BYTES_MAX);
        let start = (earliest..=text.len()).find(|&at| text.is_char_boundary(at)).unwrap_or(text.len());
        let kept = &text.as_bytes()[start..];
        let name: String = Sha256::digest(kept).iter().map(|byte| format!("{byte:02x}")).collect();
        let (path, part) = (self.out().join(&name), self.out().join(format!("{name}.part")));
        let write = || {
            let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&part)?;
            file.write_all(kept)?;
            file.sync_all()?;
            std::fs::rename(&part, &path)
        };
        write().map_err(JournalError::io(format!("keeping {}", path.display())))?;
        sync(&self.out())?;
        Ok(name)
    }

    /// Takes the lock, or says that another process has it.
    pub fn lock(&self) -> Result<RunLock, JournalError> {
        let path = self.0.join("lock");
        if !self.0.is_dir() {
            return Err(JournalError::Missing { path: self.0.display().to_string() });
        }
        let doing = || format!("locking {}", path.display());
        let open = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
        let file = open.map_err(JournalError::io(doing()))?;
        match lock_past_readers(&file) {
            Ok(()) => Ok(RunLock(file)),
            Err(TryLockError::WouldBlock) => {
                let run = self.0.file_name().unwrap_or_default().to_string_lossy().into_owned();
                Err(JournalError::Locked { run })
            }
            Err(TryLockError::Error(error)) => Err(JournalError::io(doing())(error)),
        }
    }

    /// Whether a process writes to the run now.
    pub fn is_running(&self) -> bool {
        let Ok(file) = File::open(self.0.join("lock")) else { return false };
        matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock))
    }
}

/// How often the lock is tried, and how long is waited in between: [`RunDirectory::is_running`] has it for an instant,
/// and a `status` or `watch` that looks just then must not refuse an engine.
const LOCK_TRIES: u32 = 10;
const LOCK_TRY_EVERY: Duration = Duration::from_millis(10);

fn lock_past_readers(file: &File) -> Result<(), TryLockError> {
    for _ in 1..LOCK_TRIES {
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => std::thread::sleep(LOCK_TRY_EVERY),
            decided => return decided,
        }
    }
    file.try_lock()
}

fn make(path: &Path, with_parents: bool) -> std::io::Result<()> {
    DirBuilder::new().recursive(with_parents).mode(0o700).create(path)
}

/// Makes the names in a directory durable.
pub(super) fn sync(path: &Path) -> Result<(), JournalError> {
    let synced = File::open(path).and_then(|directory| directory.sync_all());
    synced.map_err(JournalError::io(format!("syncing {}", path.display())))
}

/// A new file that only its owner reads.
pub(super) fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.mode(0o600);
    options
}
