//! A journal in memory that can be told to crash: what tests of crashes are made with.

use std::sync::{Arc, Mutex, PoisonError};

use super::chain::{Broken, Chain};
use super::{Draft, Journal, JournalError};
use crate::record::Record;

/// The disk under a [`MemoryJournal`]: outlives the journal as a disk outlives a process.
#[derive(Debug, Clone, Default)]
pub struct MemoryDisk(Arc<Mutex<Vec<Vec<u8>>>>);

impl MemoryDisk {
    /// An empty disk.
    pub fn new() -> Self {
        Self::default()
    }

    /// The lines that are durable, newline excluded.
    pub fn lines(&self) -> Vec<Vec<u8>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The records that are durable.
    pub fn records(&self) -> Vec<Record> {
        self.lines().iter().filter_map(|line| Record::from_line(line).ok()).collect()
    }

    /// How many records are durable.
    pub fn len(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Whether nothing was ever stored.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn store(&self, line: Vec<u8>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(line);
    }
}

/// Where a [`MemoryJournal`] crashes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CrashPoint {
    /// The record with this number is lost; those before it are durable.
    Before(u64),
    /// The record with this number is durable, but its commit never returns `Ok`.
    After(u64),
}

/// A journal on a [`MemoryDisk`].
#[derive(Debug)]
pub struct MemoryJournal {
    disk: MemoryDisk,
    chain: Chain,
    batch: Vec<(u64, Vec<u8>)>,
    crash: Option<CrashPoint>,
    closed: bool,
}

impl MemoryJournal {
    /// Opens what is on the disk. A journal with records must be replayed before it is written.
    pub fn open(disk: MemoryDisk) -> Self {
        let closed = !disk.is_empty();
        Self { disk, chain: Chain::default(), batch: Vec::new(), crash: None, closed }
    }

    /// Crashes there: the commit returns [`JournalError::Crashed`], what is not stored is gone, and so is the journal.
    #[must_use]
    pub fn crash_at(mut self, point: CrashPoint) -> Self {
        self.crash = Some(point);
        self
    }

    fn store(&mut self, seq: u64, line: Vec<u8>) -> Result<(), JournalError> {
        if self.crash == Some(CrashPoint::Before(seq)) {
            return Err(JournalError::Crashed);
        }
        self.disk.store(line);
        if self.crash == Some(CrashPoint::After(seq)) {
            return Err(JournalError::Crashed);
        }
        Ok(())
    }
}

impl Journal for MemoryJournal {
    fn replay(&mut self, each: &mut dyn FnMut(Record)) -> Result<(), JournalError> {
        let mut chain = Chain::default();
        for line in self.disk.lines() {
            let record = chain.follow(&line).map_err(|broken| match broken {
                Broken::Foreign(error) => error,
                Broken::Line => JournalError::Closed,
            })?;
            each(record);
        }
        self.chain = chain;
        self.closed = false;
        Ok(())
    }

    fn append(&mut self, draft: Draft) -> Result<Record, JournalError> {
        if self.closed {
            return Err(JournalError::Closed);
        }
        let (record, mut line) = self.chain.seal(draft)?;
        line.pop();
        self.batch.push((record.seq, line));
        Ok(record)
    }

    fn commit(&mut self) -> Result<(), JournalError> {
        if self.closed {
            return Err(JournalError::Closed);
        }
        for (seq, line) in std::mem::take(&mut self.batch) {
            self.store(seq, line).inspect_err(|_| self.closed = true)?;
        }
        Ok(())
    }

    fn notes(&self) -> Vec<String> {
        Vec::new()
    }
}
