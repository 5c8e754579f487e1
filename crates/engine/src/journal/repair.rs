//! Which copy of a journal is right when they differ, and how the other one is mended.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use super::JournalError;
use super::chain::{Chain, Head};
use super::checkpoint::{Fed, Store, Stored};
use super::directory::{self, RunDirectory};
use super::read::{Scan, Tail};
use crate::record::Record;

/// How many damaged copies are kept apart.
const DAMAGED_COPIES_MAX: u32 = 1000;

/// The checkpoint as it was found.
pub(super) struct Found {
    pub store: Option<Store>,
    pub fed: Fed,
    pub notes: Vec<String>,
}

impl Found {
    fn head(&self) -> Head {
        Head { next: self.fed.next, hash: self.fed.hash.clone() }
    }
}

/// Opens the checkpoint. One that cannot be opened or read is moved aside, to be made anew.
pub(super) fn find_checkpoint(directory: &RunDirectory) -> Found {
    let path = directory.checkpoint();
    match Store::open(&path).and_then(|store| store.fed().map(|fed| (store, fed))) {
        Ok((store, fed)) => Found { store: Some(store), fed, notes: Vec::new() },
        Err(error) => {
            let note = move_checkpoint_aside(&path, &error);
            Found { store: None, fed: Fed::default(), notes: vec![note] }
        }
    }
}

/// Moves a checkpoint aside that is of no use.
pub(super) fn move_checkpoint_aside(path: &Path, why: &str) -> String {
    let aside = free_name(path);
    match fs::rename(path, &aside) {
        Ok(()) => format!(
            "the checkpoint was damaged ({why}); it was moved to {} and is made anew from the journal",
            aside.display()
        ),
        Err(error) => format!("the checkpoint is damaged ({why}) and cannot be moved aside: {error}"),
    }
}

/// `path.damaged-<n>` with the first number that is free.
fn free_name(path: &Path) -> PathBuf {
    let name = |number: u32| {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".damaged-{number}"));
        PathBuf::from(name)
    };
    let free = (1..DAMAGED_COPIES_MAX).map(name).find(|name| fs::symlink_metadata(name).is_err());
    free.unwrap_or_else(|| name(DAMAGED_COPIES_MAX))
}

/// What is to be done about the journal.
pub(super) enum Mending {
    /// Nothing: it is whole. What the checkpoint says besides is wrong.
    Keep,
    /// These lines are the journal.
    Rewrite(Vec<Vec<u8>>),
}

/// Decides about a journal that is damaged or differs from its checkpoint. The checkpoint is believed when its chain
/// verifies from the first record to the hash that it keeps apart, and when it agrees with the journal in at least
/// one line: then it is this run's. An error when acknowledged records are in neither copy.
pub(super) fn decide(directory: &RunDirectory, scan: &Scan, found: &Found) -> Result<Mending, JournalError> {
    let path = directory.journal();
    let bytes = fs::read(&path).map_err(JournalError::io(format!("reading {}", path.display())))?;
    let is_damaged = matches!(scan.tail, Tail::Damaged { .. });
    let lost = |from_seq: u64, to_seq: u64| {
        let (from_byte, to_byte) = (scan.end, scan.end + scan.rest.len() as u64);
        Err(JournalError::Damaged { path: path.display().to_string(), from_byte, to_byte, from_seq, to_seq })
    };
    let Verified { mut chain, mut lines, stopped_at_place } = verify(found, &bytes);
    let whole: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).collect();
    let agrees = whole.is_empty() || lines.iter().zip(&whole).any(|(line, other)| line == other);
    if *chain.head() == found.head() && agrees && !lines.is_empty() {
        let mut later = by_number(&whole);
        while let Some(line) = later.remove(&chain.head().next) {
            if chain.follow(&line).is_err() {
                break;
            }
            lines.push(line);
        }
        let reached = lines.len() as u64;
        let known = reached + whole.len() as u64;
        return match later.range(reached..known).next() {
            Some((seq, _)) if is_damaged => lost(reached, *seq),
            _ => Ok(Mending::Rewrite(lines)),
        };
    }
    match stopped_at_place {
        Some(seq) if agrees && seq >= scan.chain.head().next => lost(seq, found.fed.next - 1),
        _ if is_damaged => {
            let first = first_damaged(scan);
            let later = by_number(&whole).range(first + 1..).next().map(|(seq, _)| seq - 1);
            lost(first, later.unwrap_or(first))
        }
        _ => Ok(Mending::Keep),
    }
}

/// The record in which the damage is: if the line where the chain breaks is a record itself, it is the one before,
/// whose hash is not what this one says.
fn first_damaged(scan: &Scan) -> u64 {
    let next = scan.chain.head().next;
    let line = scan.rest.split(|byte| *byte == b'\n').next().unwrap_or_default();
    match Record::from_line(line) {
        Ok(record) if record.seq == next => next.saturating_sub(1),
        _ => next,
    }
}

/// The part of the checkpoint whose chain verifies.
struct Verified {
    chain: Chain,
    lines: Vec<Vec<u8>>,
    /// The record that is only in the journal, and not whole there.
    stopped_at_place: Option<u64>,
}

fn verify(found: &Found, journal: &[u8]) -> Verified {
    let mut verified = Verified { chain: Chain::default(), lines: Vec::new(), stopped_at_place: None };
    for seq in 0..found.fed.next {
        let stored = found.store.as_ref().and_then(|store| store.record(seq).ok().flatten());
        let is_place = matches!(stored, Some(Stored::Place { .. }));
        let line = match stored {
            Some(Stored::Line(line)) => Some(line),
            Some(Stored::Place { offset, length }) => part(journal, offset, length).map(<[u8]>::to_vec),
            None => None,
        };
        match line {
            Some(line) if verified.chain.follow(&line).is_ok() => verified.lines.push(line),
            _ => {
                verified.stopped_at_place = is_place.then_some(seq);
                break;
            }
        }
    }
    verified
}

fn part(bytes: &[u8], offset: u64, length: u64) -> Option<&[u8]> {
    let from = usize::try_from(offset).ok()?;
    bytes.get(from..from.checked_add(usize::try_from(length).ok()?)?)
}

fn by_number(lines: &[&[u8]]) -> BTreeMap<u64, Vec<u8>> {
    lines.iter().filter_map(|line| Some((Record::from_line(line).ok()?.seq, line.to_vec()))).collect()
}

/// Writes the journal anew. The damaged file is kept under another name.
pub(super) fn rewrite(directory: &RunDirectory, scan: &Scan, lines: &[Vec<u8>]) -> Result<String, JournalError> {
    let path = directory.journal();
    let new = path.with_extension("rebuilding");
    let aside = free_name(&path);
    let write = || -> std::io::Result<()> {
        let mut to = BufWriter::new(directory::private().write(true).create(true).truncate(true).open(&new)?);
        for line in lines {
            to.write_all(line)?;
            to.write_all(b"\n")?;
        }
        to.into_inner()?.sync_all()?;
        // A second name keeps the damaged file; the rename then replaces the first one at once.
        fs::hard_link(&path, &aside)?;
        fs::rename(&new, &path)
    };
    write().map_err(JournalError::io(format!("rebuilding {}", path.display())))?;
    directory::sync(directory.path())?;
    Ok(format!(
        "the journal was damaged or cut off near record {} (byte {}); all {} records were restored with the checkpoint, and the damaged file is {}",
        first_damaged(scan),
        scan.end,
        lines.len(),
        aside.display()
    ))
}
