//! Reading a journal from its first line. Also while another process writes it: what is not whole yet is left alone.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use super::chain::{Broken, Chain};
use super::{JournalError, RunDirectory};
use crate::record::{RECORD_BYTES_MAX, Record};

/// What a reader found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reading {
    /// How many records were read.
    pub records: u64,
    /// What stands after the last record that could be read.
    pub tail: Tail,
}

/// What stands after the last record of a file that can be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tail {
    /// Nothing.
    Clean,
    /// A batch that was not written whole: being written now, or cut off before it was acknowledged.
    Torn {
        /// The first byte of it.
        from_byte: u64,
    },
    /// Lines that were whole once.
    Damaged {
        /// The first byte of it.
        from_byte: u64,
        /// The record that should stand there.
        from_seq: u64,
    },
}

/// Hands every record of a run's `journal.ndjson` to `each`, in order. Takes no lock and changes nothing.
pub fn read(directory: &Path, each: &mut dyn FnMut(Record)) -> Result<Reading, JournalError> {
    let path = RunDirectory::at(directory).journal();
    let file = File::open(&path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => JournalError::Missing { path: directory.display().to_string() },
        _ => JournalError::io(format!("reading {}", path.display()))(error),
    })?;
    let scan = scan(BufReader::new(file), &path, &mut |record, _| each(record))?;
    let reading = Reading { records: scan.chain.head().next, tail: scan.tail };
    scan.last.into_iter().for_each(each);
    Ok(reading)
}

/// The part of a journal that can be read, and what comes after it.
pub(super) struct Scan {
    pub chain: Chain,
    /// Bytes of the lines that were read.
    pub end: u64,
    pub tail: Tail,
    /// What stands after `end`.
    pub rest: Vec<u8>,
    /// The last record that was read. No line after it vouches for it with its hash, so that it was not handed out.
    pub last: Option<Record>,
}

/// Follows the chain from the first line as far as it goes. `each` gets a record and its line, newline included, once
/// the next line has vouched for it.
pub(super) fn scan(
    mut reader: impl BufRead,
    path: &Path,
    each: &mut dyn FnMut(Record, &[u8]),
) -> Result<Scan, JournalError> {
    let failed = || JournalError::io(format!("reading {}", path.display()));
    let (mut chain, mut end) = (Chain::default(), 0);
    let (mut line, mut last_line, mut last) = (Vec::new(), Vec::new(), None::<Record>);
    let foreign = loop {
        line.clear();
        let length = reader.by_ref().take(RECORD_BYTES_MAX as u64).read_until(b'\n', &mut line).map_err(failed())?;
        if length == 0 {
            return Ok(Scan { chain, end, tail: Tail::Clean, rest: Vec::new(), last });
        }
        let followed = match line.split_last() {
            Some((b'\n', text)) => chain.follow(text),
            _ => Err(Broken::Line),
        };
        match followed {
            Ok(record) => {
                if let Some(vouched) = last.replace(record) {
                    each(vouched, &last_line);
                }
            }
            Err(Broken::Foreign(error)) => break Some(error),
            Err(Broken::Line) => break None,
        }
        std::mem::swap(&mut line, &mut last_line);
        end += length as u64;
    };
    let mut rest = line;
    reader.read_to_end(&mut rest).map_err(failed())?;
    match foreign {
        Some(error) if is_vouched_for(&rest) => return Err(error),
        _ => {}
    }
    let tail = match is_torn(&rest) {
        true => Tail::Torn { from_byte: end },
        false => Tail::Damaged { from_byte: end, from_seq: chain.head().next },
    };
    Ok(Scan { chain, end, tail, rest, last })
}

/// Whether a line of a later version is what was written, and not the product of damage: the line after it names its
/// hash. Nothing speaks against the last line.
fn is_vouched_for(rest: &[u8]) -> bool {
    #[derive(serde::Deserialize)]
    struct Follower {
        prev: String,
    }
    let mut lines = rest.split(|byte| *byte == b'\n');
    let (foreign, follower) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
    follower.is_empty()
        || serde_json::from_slice(follower).is_ok_and(|line: Follower| line.prev == super::chain::hash(foreign))
}

/// Whether these bytes are a batch that was cut off while it was written: it ends inside a line, or blocks of it were
/// never written and read as zeros; and no line after the first is whole.
fn is_torn(rest: &[u8]) -> bool {
    let cut_off = rest.last() != Some(&b'\n') || rest.contains(&0);
    let later = rest.split(|byte| *byte == b'\n').skip(1);
    cut_off && !later.into_iter().any(|line| Record::from_line(line).is_ok())
}
