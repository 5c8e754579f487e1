//! The journal: the one place where a run's records are kept. What is acknowledged here survives a power cut.

use crate::id::RunId;
use crate::record::{Event, Record, RecordError};

mod chain;
mod checkpoint;
mod directory;
mod feeder;
mod file;
mod memory;
mod quiet;
mod read;
mod repair;

pub use chain::Head;
pub use directory::{RunDirectory, RunLock};
pub use file::FileJournal;
pub use memory::{CrashPoint, MemoryDisk, MemoryJournal};
pub use read::{Reading, Tail, read};

/// A record before it has its place in the journal.
#[derive(Debug, Clone, PartialEq)]
pub struct Draft {
    /// Wall clock.
    pub at: jiff::Timestamp,
    /// The boot of the operator's machine.
    pub boot: String,
    /// Monotonic milliseconds since that boot.
    pub mono_ms: u64,
    /// The run.
    pub run: RunId,
    /// The number of the claim; 0 before there is one.
    pub claim: u64,
    /// What happened.
    pub event: Event,
}

/// Where records are kept. One writer; readers use [`read()`].
///
/// A record is *acknowledged* when the [`Journal::commit`] after its [`Journal::append`] has returned `Ok`. After an
/// error nothing more is accepted: the run is gone on with by opening the journal anew.
pub trait Journal: Send {
    /// Hands every acknowledged record to `each`, in order, checks the chain, and makes the journal ready to be
    /// written. Must be called once on a journal that was opened, before the first append.
    fn replay(&mut self, each: &mut dyn FnMut(Record)) -> Result<(), JournalError>;

    /// Gives the draft its place after the last record. It is not durable yet.
    fn append(&mut self, draft: Draft) -> Result<Record, JournalError>;

    /// Makes everything appended so far durable. Nothing is done when there is nothing to do.
    fn commit(&mut self) -> Result<(), JournalError>;

    /// What was found and mended since the journal was opened, one sentence each.
    fn notes(&self) -> Vec<String>;
}

/// Why records could not be kept or read.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The disk refused.
    #[error("{doing}: {source} (nothing acknowledged is lost; make room or mend the disk, then resume)")]
    Io {
        /// What was tried, with the path.
        doing: String,
        /// The system's answer.
        source: std::io::Error,
    },
    /// A record cannot be written or read.
    #[error("record {seq}: {error}{}", .writer.as_ref().map(|tool| format!("; the run was written by rke2flow {tool}: use that version")).unwrap_or_default())]
    Record {
        /// Its place.
        seq: u64,
        /// Why.
        error: RecordError,
        /// The version that opened the run, when it is known.
        writer: Option<String>,
    },
    /// Acknowledged records are damaged and neither copy has them.
    #[error(
        "{path} is damaged near byte {from_byte} of {to_byte} (records {from_seq} to {to_seq}), and the checkpoint does not have them"
    )]
    Damaged {
        /// The file.
        path: String,
        /// Where the chain breaks.
        from_byte: u64,
        /// The end of the file.
        to_byte: u64,
        /// First record that is lost.
        from_seq: u64,
        /// Last record that is lost.
        to_seq: u64,
    },
    /// Another process writes.
    #[error("run {run} is being run by another rke2flow process")]
    Locked {
        /// The run.
        run: String,
    },
    /// There is no journal here.
    #[error("{path} is not a run: it has no journal")]
    Missing {
        /// The directory.
        path: String,
    },
    /// A test's journal was told to crash here.
    #[error("the journal crashed as it was told to")]
    Crashed,
    /// An earlier error closed it, or it was not replayed.
    #[error("the journal is closed after an earlier error")]
    Closed,
}

impl JournalError {
    fn io(doing: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let doing = doing.into();
        move |source| JournalError::Io { doing, source }
    }
}
