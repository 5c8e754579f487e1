//! One contract for every journal.

use rke2flow_engine::id::RunId;
use rke2flow_engine::journal::{
    CrashPoint, Draft, FileJournal, Journal, JournalError, MemoryDisk, MemoryJournal, RunDirectory, read,
};
use rke2flow_engine::record::{Event, Record};

pub fn run_id() -> RunId {
    RunId::new("261122-0312-k7q2").unwrap()
}

pub fn draft(why: &str) -> Draft {
    let (boot, event) = ("boot".to_owned(), Event::Paused { why: why.to_owned() });
    Draft { at: jiff::Timestamp::UNIX_EPOCH, boot, mono_ms: 0, run: run_id(), claim: 0, event }
}

pub fn why(record: &Record) -> String {
    match &record.event {
        Event::Paused { why } => why.clone(),
        other => panic!("unexpected {other:?}"),
    }
}

pub fn replay(journal: &mut dyn Journal) -> Result<Vec<Record>, JournalError> {
    let mut records = Vec::new();
    journal.replay(&mut |record| records.push(record))?;
    Ok(records)
}

/// A place where journals can be created and opened again.
trait Shelf {
    fn create(&self) -> Box<dyn Journal>;
    fn open(&self) -> Box<dyn Journal>;
}

struct OnDisk(tempfile::TempDir);

impl Shelf for OnDisk {
    fn create(&self) -> Box<dyn Journal> {
        Box::new(FileJournal::create(&RunDirectory::create(self.0.path(), &run_id()).unwrap()).unwrap())
    }

    fn open(&self) -> Box<dyn Journal> {
        Box::new(FileJournal::open(&RunDirectory::at(self.0.path().join(run_id().as_str()))).unwrap())
    }
}

struct InMemory(MemoryDisk);

impl Shelf for InMemory {
    fn create(&self) -> Box<dyn Journal> {
        self.open()
    }

    fn open(&self) -> Box<dyn Journal> {
        Box::new(MemoryJournal::open(self.0.clone()))
    }
}

fn keeps_its_promises(shelf: &dyn Shelf) {
    let mut journal = shelf.create();
    let first = journal.append(draft("one")).unwrap();
    journal.append(draft("two")).unwrap();
    journal.commit().unwrap();
    journal.append(draft("never acknowledged")).unwrap();
    drop(journal);
    assert_eq!((first.seq, first.prev.as_str()), (0, ""));

    let mut journal = shelf.open();
    assert!(matches!(journal.append(draft("too early")), Err(JournalError::Closed)), "written before it was read");
    let records = replay(journal.as_mut()).unwrap();
    assert_eq!(records.iter().map(why).collect::<Vec<_>>(), ["one", "two"]);
    assert_eq!(records[1].prev.len(), 32);
    let third = journal.append(draft("three")).unwrap();
    journal.commit().unwrap();
    journal.commit().unwrap();
    assert_eq!(third.seq, 2);
    drop(journal);

    let records = replay(shelf.open().as_mut()).unwrap();
    assert_eq!(records.last(), Some(&third));
    assert_eq!(records.iter().map(|record| record.seq).collect::<Vec<_>>(), [0, 1, 2]);
}

fn refuses_what_does_not_fit(shelf: &dyn Shelf) {
    let mut journal = shelf.create();
    let long = "x".repeat(70_000);
    assert!(matches!(journal.append(draft(&long)), Err(JournalError::Record { seq: 0, .. })));
    assert_eq!(journal.append(draft("short")).unwrap().seq, 0, "a refused record leaves no gap");
    journal.commit().unwrap();
}

#[test]
fn the_journal_on_disk_keeps_the_contract() {
    keeps_its_promises(&OnDisk(tempfile::tempdir().unwrap()));
    refuses_what_does_not_fit(&OnDisk(tempfile::tempdir().unwrap()));
}

#[test]
fn the_journal_in_memory_keeps_the_contract() {
    keeps_its_promises(&InMemory(MemoryDisk::new()));
    refuses_what_does_not_fit(&InMemory(MemoryDisk::new()));
}

#[test]
fn the_journal_in_memory_crashes_where_it_was_told_to_and_stays_down() {
    for (point, stored) in [(CrashPoint::Before(1), 1), (CrashPoint::After(1), 2)] {
        let disk = MemoryDisk::new();
        let mut journal = MemoryJournal::open(disk.clone()).crash_at(point);
        for text in ["a", "b", "c"] {
            journal.append(draft(text)).unwrap();
        }
        assert!(matches!(journal.commit(), Err(JournalError::Crashed)));
        assert!(journal.append(draft("d")).is_err());
        assert!(journal.commit().is_err());
        assert_eq!(disk.len(), stored, "{point:?}");
    }
}

#[test]
fn a_run_directory_is_private_and_its_lock_keeps_a_second_writer_out() {
    use std::os::unix::fs::PermissionsExt;
    let runs = tempfile::tempdir().unwrap();
    let directory = RunDirectory::create(runs.path(), &run_id()).unwrap();
    let _journal = FileJournal::create(&directory).unwrap();
    let mode = |path: std::path::PathBuf| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(directory.path().to_owned()), 0o700);
    assert_eq!(mode(directory.journal()), 0o600);
    assert!(!directory.is_running());
    let lock = directory.lock().unwrap();
    assert!(matches!(directory.lock(), Err(JournalError::Locked { .. })));
    assert!(directory.is_running());
    drop(lock);
    assert!(directory.lock().is_ok());
}

#[test]
fn a_reader_sees_what_is_written_while_the_writer_writes() {
    let runs = tempfile::tempdir().unwrap();
    let directory = RunDirectory::create(runs.path(), &run_id()).unwrap();
    let mut journal = FileJournal::create(&directory).unwrap();
    for count in 1..=3 {
        journal.append(draft("x")).unwrap();
        journal.commit().unwrap();
        let mut seen = 0;
        let reading = read(directory.path(), &mut |_| seen += 1).unwrap();
        assert_eq!((seen, reading.records), (count, count));
    }
}
