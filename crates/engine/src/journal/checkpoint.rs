//! The checkpoint: a second copy of the journal in sled, fed after every acknowledgement by a thread of its own. The
//! only file that names sled.
//!
//! sled 0.34 is never what acknowledges: its flush is `sync_file_range`, not fsync (sled#1452), and it panics on a
//! damaged database (sled#1387). So every call is guarded, and what is wrong with it is mended from the journal.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::quiet;

/// A longer line is stored as its place in the journal: sled never syncs its blobs.
pub(super) const VALUE_BYTES_MAX: usize = 4 * 1024;

/// A hint; sled takes up to ten times as much (sled#1309).
const CACHE_BYTES: u64 = 4 << 20;

const FLUSH_EVERY_MS: u64 = 500;

/// The lock of a database that was just dropped can outlive it for a moment (sled#1289).
const OPEN_TRIES: u32 = 5;
const OPEN_PAUSE: Duration = Duration::from_millis(50);

const FORMAT: &[u8] = b"1";

/// How far the checkpoint has come.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct Fed {
    /// How many records it has.
    pub next: u64,
    /// The hash of the last one's line.
    pub hash: String,
    /// Where that line ends in the journal.
    pub bytes: u64,
}

/// A record in the checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Stored {
    /// The line, newline excluded.
    Line(Vec<u8>),
    /// Where the line is in the journal.
    Place { offset: u64, length: u64 },
}

/// An open database.
pub(super) struct Store {
    db: sled::Db,
    records: sled::Tree,
    meta: sled::Tree,
    path: PathBuf,
}

impl Store {
    pub fn open(path: &Path) -> Result<Self, String> {
        let config = sled::Config::new()
            .path(path)
            .mode(sled::Mode::HighThroughput)
            .cache_capacity(CACHE_BYTES)
            .flush_every_ms(Some(FLUSH_EVERY_MS));
        for tries in 1.. {
            match guarded(|| config.open()) {
                Ok(db) => return Self::with_trees(db, path),
                Err(error) if tries < OPEN_TRIES && error.contains("lock") => std::thread::sleep(OPEN_PAUSE),
                Err(error) => return Err(error),
            }
        }
        unreachable!("the loop returns at the last try")
    }

    fn with_trees(db: sled::Db, path: &Path) -> Result<Self, String> {
        let records = guarded(|| db.open_tree("records"))?;
        let meta = guarded(|| db.open_tree("meta"))?;
        match guarded(|| meta.get("format"))? {
            None => guarded(|| meta.insert("format", FORMAT)).map(|_| ())?,
            Some(format) if &*format == FORMAT => {}
            Some(format) => return Err(format!("its format is {}", String::from_utf8_lossy(&format))),
        }
        Ok(Self { db, records, meta, path: path.to_owned() })
    }

    /// How far it has come; nothing for a new one.
    pub fn fed(&self) -> Result<Fed, String> {
        match guarded(|| self.meta.get("head"))? {
            None => Ok(Fed::default()),
            Some(head) => serde_json::from_slice(&head).map_err(|error| error.to_string()),
        }
    }

    pub fn record(&self, seq: u64) -> Result<Option<Stored>, String> {
        let value = guarded(|| self.records.get(seq.to_be_bytes()))?;
        value.map(|value| decode(&value)).transpose()
    }

    /// Adds lines that follow `fed`, newlines included. Returns how far it has come then.
    pub fn feed(&self, fed: &Fed, lines: &[u8]) -> Result<Fed, String> {
        let mut now = fed.clone();
        let mut batch = sled::Batch::default();
        for line in lines.split_inclusive(|byte| *byte == b'\n') {
            let text = line.strip_suffix(b"\n").unwrap_or(line);
            batch.insert(&now.next.to_be_bytes(), encode(text, now.bytes));
            now.next += 1;
            now.bytes += line.len() as u64;
            now.hash = super::chain::hash(text);
        }
        guarded(|| self.records.apply_batch(batch))?;
        let head = serde_json::to_vec(&now).map_err(|error| error.to_string())?;
        guarded(|| self.meta.insert("head", head)).map(|_| now)
    }

    /// Makes the checkpoint durable: sled's flush, and the fdatasync that it leaves out.
    pub fn close(self) -> Result<(), String> {
        guarded(|| self.db.flush())?;
        let file = File::open(self.path.join("db")).and_then(|file| file.sync_data());
        file.map_err(|error| error.to_string())
    }
}

fn encode(text: &[u8], offset: u64) -> Vec<u8> {
    if text.len() <= VALUE_BYTES_MAX {
        return text.to_vec();
    }
    // A line begins with `{`, a place with 0.
    let mut value = vec![0];
    value.extend(offset.to_be_bytes());
    value.extend((text.len() as u64).to_be_bytes());
    value
}

fn decode(value: &[u8]) -> Result<Stored, String> {
    let number = |bytes: &[u8]| bytes.try_into().map(u64::from_be_bytes).map_err(|_| "a place is cut off".to_owned());
    match value.first() {
        Some(0) if value.len() == 17 => {
            Ok(Stored::Place { offset: number(&value[1..9])?, length: number(&value[9..])? })
        }
        Some(b'{') => Ok(Stored::Line(value.to_vec())),
        _ => Err("a value is neither a line nor a place".to_owned()),
    }
}

/// Calls sled; its panics become errors.
fn guarded<T>(call: impl FnOnce() -> sled::Result<T>) -> Result<T, String> {
    let called = quiet::catch(call).map_err(|panic| format!("sled panicked: {panic}"))?;
    called.map_err(|error| error.to_string())
}
