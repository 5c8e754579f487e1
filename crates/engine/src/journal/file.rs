//! The journal on disk.

use std::fs::File;
use std::io::{BufReader, Write};

use super::chain::Chain;
use super::directory::{self, RunDirectory};
use super::read::{Tail, scan};
use super::{Draft, Journal, JournalError};
use crate::record::Record;

/// `journal.ndjson`: acknowledged by fdatasync.
#[derive(Debug)]
pub struct FileJournal {
    directory: RunDirectory,
    file: File,
    chain: Chain,
    batch: Vec<u8>,
    state: Readiness,
    syncs: u64,
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
        let (directory, chain) = (directory.clone(), Chain::default());
        Ok(Self { directory, file, chain, batch: Vec::new(), state: Readiness::Ready, syncs: 0, notes: Vec::new() })
    }

    /// Opens the journal of a run that exists. It must be replayed before it is written.
    pub fn open(directory: &RunDirectory) -> Result<Self, JournalError> {
        let path = directory.journal();
        let file = directory::private().append(true).read(true).open(&path);
        let file = file.map_err(JournalError::io(format!("opening {}", path.display())))?;
        let (directory, chain) = (directory.clone(), Chain::default());
        Ok(Self { directory, file, chain, batch: Vec::new(), state: Readiness::Unread, syncs: 0, notes: Vec::new() })
    }

    /// How often fdatasync was called for records.
    pub fn syncs(&self) -> u64 {
        self.syncs
    }

    fn writing(&self) -> String {
        format!("writing {}", self.directory.journal().display())
    }
}

impl Journal for FileJournal {
    fn replay(&mut self, each: &mut dyn FnMut(Record)) -> Result<(), JournalError> {
        let path = self.directory.journal();
        let file = self.file.try_clone().map_err(JournalError::io(format!("reading {}", path.display())))?;
        let scan = scan(BufReader::new(file), &path, &mut |record, _| each(record))?;
        match scan.tail {
            Tail::Clean => {}
            Tail::Torn { from_byte } => {
                let cut = self.file.set_len(from_byte).and_then(|()| self.file.sync_all());
                cut.map_err(JournalError::io(self.writing()))?;
                let bytes = scan.rest.len();
                self.notes.push(format!("a batch of {bytes} bytes that was never acknowledged was cut off"));
            }
            Tail::Damaged { from_byte, from_seq } => {
                let to_byte = from_byte + scan.rest.len() as u64;
                let path = path.display().to_string();
                return Err(JournalError::Damaged { path, from_byte, to_byte, from_seq, to_seq: from_seq });
            }
        }
        self.chain = scan.chain;
        self.state = Readiness::Ready;
        Ok(())
    }

    fn append(&mut self, draft: Draft) -> Result<Record, JournalError> {
        if self.state != Readiness::Ready {
            return Err(JournalError::Closed);
        }
        let (record, line) = self.chain.seal(draft)?;
        self.batch.extend_from_slice(&line);
        Ok(record)
    }

    fn commit(&mut self) -> Result<(), JournalError> {
        if self.state != Readiness::Ready {
            return Err(JournalError::Closed);
        }
        if self.batch.is_empty() {
            return Ok(());
        }
        let written = self.file.write_all(&self.batch).and_then(|()| self.file.sync_data());
        if let Err(error) = written {
            self.state = Readiness::Broken;
            return Err(JournalError::io(self.writing())(error));
        }
        self.batch.clear();
        self.syncs += 1;
        Ok(())
    }

    fn notes(&self) -> Vec<String> {
        self.notes.clone()
    }
}
