//! The hash chain: every line names the hash of the line before it.

use sha2::{Digest, Sha256};

use super::{Draft, JournalError};
use crate::record::{Event, RECORD_VERSION, Record};

/// Where a journal ends: what the next record must follow.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Head {
    /// The next record's place; also how many records there are.
    pub next: u64,
    /// The hash of the last line; empty at the beginning.
    pub hash: String,
}

/// Builds or checks a chain, record by record.
#[derive(Debug, Clone, Default)]
pub(super) struct Chain {
    head: Head,
    writer: Option<String>,
}

/// Why a line is not the next one of a chain.
#[derive(Debug)]
pub(super) enum Broken {
    /// It is not readable, or does not follow.
    Line,
    /// It is readable by a later version only: not damage.
    Foreign(JournalError),
}

impl Chain {
    pub(super) fn head(&self) -> &Head {
        &self.head
    }

    /// Gives a draft its place; returns the record and its line with the newline.
    pub(super) fn seal(&mut self, draft: Draft) -> Result<(Record, Vec<u8>), JournalError> {
        let Draft { at, boot, mono_ms, run, claim, event } = draft;
        let (seq, prev) = (self.head.next, self.head.hash.clone());
        let record = Record { v: RECORD_VERSION, seq, at, boot, mono_ms, run, claim, prev, event };
        let mut line = record.to_line().map_err(|error| JournalError::Record { seq, error, writer: None })?;
        self.advance(&line);
        line.push(b'\n');
        Ok((record, line))
    }

    /// Reads the next line, newline excluded.
    pub(super) fn follow(&mut self, line: &[u8]) -> Result<Record, Broken> {
        let record = match Record::from_line(line) {
            Ok(record) => record,
            Err(crate::record::RecordError::Malformed(_)) => return Err(Broken::Line),
            Err(error) => {
                let (seq, writer) = (self.head.next, self.writer.clone());
                return Err(Broken::Foreign(JournalError::Record { seq, error, writer }));
            }
        };
        if record.seq != self.head.next || record.prev != self.head.hash {
            return Err(Broken::Line);
        }
        if let Event::RunOpened(opened) = &record.event {
            self.writer = Some(opened.tool.clone());
        }
        self.advance(line);
        Ok(record)
    }

    fn advance(&mut self, line: &[u8]) {
        self.head = Head { next: self.head.next + 1, hash: hash(line) };
    }
}

/// The first 32 hex digits of the SHA-256 of a line, newline excluded.
pub(super) fn hash(line: &[u8]) -> String {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let digest = Sha256::digest(line);
    let mut text = String::with_capacity(32);
    for byte in digest.iter().take(16) {
        text.push(HEX[usize::from(byte >> 4)] as char);
        text.push(HEX[usize::from(byte & 15)] as char);
    }
    text
}
