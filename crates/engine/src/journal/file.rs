//! The journal on disk: `journal.ndjson`, acknowledged by fdatasync, with the checkpoint beside it.

use std::fs::File;
use std::io::{BufReader, ErrorKind, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::chain::Chain;
use super::checkpoint::Fed;
use super::directory::{self, RunDirectory};
use super::feeder::Feeder;
use super::read::{Scan, Tail, scan};
use super::repair::{self, Found, Mending};
use super::{Draft, Journal, JournalError};
use crate::record::Record;

/// `journal.ndjson` of a run directory, and the checkpoint that is fed from it.
#[derive(Debug)]
pub struct FileJournal {
    directory: RunDirectory,
    file: File,
    chain: Chain,
    batch: Vec<u8>,
    written: u64,
    readiness: Readiness,
    feeder: Option<Feeder>,
    syncs: Arc<AtomicU64>,
    notes: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Readiness {
    Unread,
    Ready,
    Broken,
}

impl FileJournal {
    /// Creates the journal of a new run.
    pub fn create(directory: &RunDirectory) -> Result<Self, JournalError> {
        let path = directory.journal();
        let file = directory::private().append(true).read(true).create_new(true).open(&path);
        let file = file.map_err(JournalError::io(format!("creating {}", path.display())))?;
        directory::sync(directory.path())?;
        let feeder = Feeder::start(directory, None, Fed::default(), 0);
        Ok(Self { readiness: Readiness::Ready, feeder: Some(feeder), ..Self::over(directory, file) })
    }

    /// Opens the journal of a run that exists. It must be replayed before it is written.
    pub fn open(directory: &RunDirectory) -> Result<Self, JournalError> {
        let path = directory.journal();
        let mut options = directory::private();
        options.append(true).read(true);
        let file = match options.open(&path) {
            // A lost journal is written anew from its checkpoint.
            Err(error) if error.kind() == ErrorKind::NotFound && directory.checkpoint().is_dir() => {
                options.create(true).open(&path)
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Err(JournalError::Missing { path: directory.path().display().to_string() });
            }
            opened => opened,
        };
        let file = file.map_err(JournalError::io(format!("opening {}", path.display())))?;
        Ok(Self::over(directory, file))
    }

    fn over(directory: &RunDirectory, file: File) -> Self {
        Self {
            directory: directory.clone(),
            file,
            chain: Chain::default(),
            batch: Vec::new(),
            written: 0,
            readiness: Readiness::Unread,
            feeder: None,
            syncs: Arc::default(),
            notes: Vec::new(),
        }
    }

    /// How often fdatasync was called for records, once when they are replayed included; goes on counting when the journal has a new owner.
    pub fn syncs(&self) -> Arc<AtomicU64> {
        self.syncs.clone()
    }

    fn writing(&self) -> String {
        format!("writing {}", self.directory.journal().display())
    }

    /// Reads the file. Hands out all records but the last one, and tells where the journal was after `watch` records.
    fn scan(&self, watch: u64, each: &mut dyn FnMut(Record)) -> Result<(Scan, Option<Fed>), JournalError> {
        let path = self.directory.journal();
        let file = File::open(&path).map_err(JournalError::io(format!("reading {}", path.display())))?;
        let mut watched = (watch == 0).then(Fed::default);
        let mut bytes = 0;
        let scan = scan(BufReader::new(file), &path, &mut |record, line| {
            bytes += line.len() as u64;
            if record.seq + 1 == watch {
                let hash = super::chain::hash(&line[..line.len() - 1]);
                watched = Some(Fed { next: watch, hash, bytes });
            }
            each(record);
        })?;
        let head = scan.chain.head();
        if watch == head.next {
            watched = Some(Fed { next: watch, hash: head.hash.clone(), bytes: scan.end });
        }
        Ok((scan, watched))
    }

    /// Restores the journal with the checkpoint where it is damaged or has lost something. `each` has been given all
    /// records of the scan but the last one; gets those that come anew.
    fn mend(&mut self, scan: Scan, found: &mut Found, each: &mut dyn FnMut(Record)) -> Result<Scan, JournalError> {
        match repair::decide(&self.directory, &scan, found)? {
            Mending::Rewrite(lines) => {
                self.notes.push(repair::rewrite(&self.directory, &scan, &lines)?);
                let path = self.directory.journal();
                let file = directory::private().append(true).read(true).open(&path);
                self.file = file.map_err(JournalError::io(format!("opening {}", path.display())))?;
                let known = scan.chain.head().next.saturating_sub(1);
                let mut only_new = |record: Record| {
                    if record.seq >= known {
                        each(record);
                    }
                };
                Ok(self.scan(0, &mut only_new)?.0)
            }
            Mending::Keep => {
                (found.store, found.fed) = (None, Fed::default());
                let why = "it does not follow the journal";
                self.notes.push(repair::move_checkpoint_aside(&self.directory.checkpoint(), why));
                Ok(scan)
            }
        }
    }

    fn sync(&self) -> Result<(), JournalError> {
        self.file.sync_data().map_err(JournalError::io(self.writing()))?;
        self.syncs.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn cut_off_torn_tail(&mut self, scan: &Scan) -> Result<(), JournalError> {
        if let Tail::Torn { from_byte } = scan.tail {
            let cut = self.file.set_len(from_byte).and_then(|()| self.file.sync_all());
            cut.map_err(JournalError::io(self.writing()))?;
            let bytes = scan.rest.len();
            self.notes.push(format!("a batch of {bytes} bytes that was never acknowledged was cut off the journal"));
        }
        Ok(())
    }
}

impl Journal for FileJournal {
    fn replay(&mut self, each: &mut dyn FnMut(Record)) -> Result<(), JournalError> {
        let mut found = repair::find_checkpoint(&self.directory);
        self.notes.append(&mut found.notes);
        let (mut scan, at_fed) = self.scan(found.fed.next, each)?;
        let agrees = at_fed.as_ref() == Some(&found.fed);
        if !agrees || matches!(scan.tail, Tail::Damaged { .. }) {
            scan = self.mend(scan, &mut found, each)?;
        }
        self.cut_off_torn_tail(&scan)?;
        // What was read may be in the page cache only, written by an engine that was killed before its fdatasync; it is
        // built on from here.
        self.sync()?;
        scan.last.take().into_iter().for_each(each);
        self.chain = scan.chain;
        self.written = scan.end;
        self.readiness = Readiness::Ready;
        self.feeder = Some(Feeder::start(&self.directory, found.store, found.fed, self.written));
        Ok(())
    }

    fn append(&mut self, draft: Draft) -> Result<Record, JournalError> {
        if self.readiness != Readiness::Ready {
            return Err(JournalError::Closed);
        }
        let (record, line) = self.chain.seal(draft)?;
        self.batch.extend_from_slice(&line);
        Ok(record)
    }

    fn commit(&mut self) -> Result<(), JournalError> {
        if self.readiness != Readiness::Ready {
            return Err(JournalError::Closed);
        }
        if self.batch.is_empty() {
            return Ok(());
        }
        let written = self.file.write_all(&self.batch).map_err(JournalError::io(self.writing()));
        written.and_then(|()| self.sync()).inspect_err(|_| self.readiness = Readiness::Broken)?;
        self.written += self.batch.len() as u64;
        self.batch.clear();
        if let Some(feeder) = &self.feeder {
            feeder.acknowledge(self.written);
        }
        Ok(())
    }

    fn notes(&self) -> Vec<String> {
        let fed = self.feeder.as_ref().map(Feeder::notes).unwrap_or_default();
        [self.notes.clone(), fed].concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::RunId;
    use crate::record::Event;

    fn draft() -> Draft {
        let (run, event) = (RunId::new("r").unwrap(), Event::Paused { why: "x".to_owned() });
        Draft { at: jiff::Timestamp::UNIX_EPOCH, boot: String::new(), mono_ms: 0, run, claim: 0, event }
    }

    #[test]
    fn a_full_disk_stops_the_journal_at_once_and_for_good() {
        let runs = tempfile::tempdir().unwrap();
        let directory = RunDirectory::create(runs.path(), &RunId::new("r").unwrap()).unwrap();
        let full = File::options().append(true).open("/dev/full").unwrap();
        let mut journal = FileJournal { readiness: Readiness::Ready, ..FileJournal::over(&directory, full) };
        journal.append(draft()).unwrap();
        let error = journal.commit().unwrap_err();
        assert!(matches!(&error, JournalError::Io { source, .. } if source.kind() == ErrorKind::StorageFull));
        assert!(error.to_string().contains("nothing acknowledged is lost"), "{error}");
        assert!(matches!(journal.append(draft()), Err(JournalError::Closed)));
        assert!(matches!(journal.commit(), Err(JournalError::Closed)));
    }

    #[test]
    fn what_is_replayed_is_made_durable_before_anything_is_built_on_it() {
        let runs = tempfile::tempdir().unwrap();
        let directory = RunDirectory::create(runs.path(), &RunId::new("r").unwrap()).unwrap();
        let (_, line) = Chain::default().seal(draft()).unwrap();
        // As an engine leaves it that is killed between its write and its fdatasync.
        std::fs::write(directory.journal(), line).unwrap();
        let mut journal = FileJournal::open(&directory).unwrap();
        let mut records = 0;
        journal.replay(&mut |_| records += 1).unwrap();
        assert_eq!((records, journal.syncs().load(Ordering::Relaxed)), (1, 1));
    }
}
