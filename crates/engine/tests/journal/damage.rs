//! Every way in which the files of a journal can be damaged, and what is left of it then.

use std::fs;
use std::path::PathBuf;

use rke2flow_engine::journal::{FileJournal, Journal, JournalError, RunDirectory, Tail, read};

use crate::contract::{draft, replay, run_id, why};

struct Disk {
    _runs: tempfile::TempDir,
    directory: RunDirectory,
}

impl Disk {
    /// A journal with these records, closed properly, so that the checkpoint has them too.
    fn with(texts: &[&str]) -> Self {
        let runs = tempfile::tempdir().unwrap();
        let directory = RunDirectory::create(runs.path(), &run_id()).unwrap();
        let mut journal = FileJournal::create(&directory).unwrap();
        for text in texts {
            journal.append(draft(text)).unwrap();
            journal.commit().unwrap();
        }
        assert_eq!(journal.syncs().load(std::sync::atomic::Ordering::Relaxed), texts.len() as u64);
        Self { _runs: runs, directory }
    }

    fn path(&self) -> PathBuf {
        self.directory.journal()
    }

    fn without_checkpoint(self) -> Self {
        fs::remove_dir_all(self.directory.checkpoint()).unwrap();
        self
    }

    /// What can be read, and what was said about it. Then one more record is written, and read back.
    fn open(&self) -> Result<(Vec<String>, Vec<String>), JournalError> {
        let mut journal = FileJournal::open(&self.directory)?;
        let texts = replay(&mut journal)?.iter().map(why).collect();
        let notes = journal.notes();
        journal.append(draft("more")).unwrap();
        journal.commit().unwrap();
        drop(journal);
        let mut again = FileJournal::open(&self.directory)?;
        let texts_again: Vec<String> = replay(&mut again)?.iter().map(why).collect();
        assert_eq!(texts_again.last().map(String::as_str), Some("more"));
        assert_eq!(again.notes(), Vec::<String>::new(), "what was mended stays mended");
        Ok((texts, notes))
    }
}

#[test]
fn a_batch_that_was_cut_off_anywhere_is_dropped_and_everything_before_it_stays() {
    let whole = fs::read(Disk::with(&["a", "b", "c"]).path()).unwrap();
    let start_of_last = whole[..whole.len() - 1].iter().rposition(|byte| *byte == b'\n').unwrap() + 1;
    for cut in (start_of_last..whole.len()).step_by(13).chain([whole.len() - 1]) {
        let disk = Disk::with(&["a", "b"]);
        fs::write(disk.path(), &whole[..cut]).unwrap();
        let (texts, notes) = disk.open().unwrap();
        assert_eq!(texts, ["a", "b"], "cut at {cut}");
        assert_eq!(notes.len(), usize::from(cut > start_of_last), "{notes:?}");
    }
}

#[test]
fn blocks_that_were_never_written_are_a_torn_tail_too() {
    let disk = Disk::with(&["a", "b"]);
    let mut bytes = fs::read(disk.path()).unwrap();
    bytes.extend([0; 512]);
    bytes.push(b'\n');
    fs::write(disk.path(), &bytes).unwrap();
    let mut seen = 0;
    assert!(matches!(read(disk.directory.path(), &mut |_| seen += 1).unwrap().tail, Tail::Torn { .. }));
    assert_eq!(disk.open().unwrap().0, ["a", "b"]);
}

#[test]
fn records_that_the_journal_lost_come_back_from_the_checkpoint() {
    let disk = Disk::with(&["a", "b", "c", "d"]);
    let whole = fs::read(disk.path()).unwrap();
    fs::write(disk.path(), &whole[..whole.len() / 2]).unwrap();
    let (texts, notes) = disk.open().unwrap();
    assert_eq!(texts, ["a", "b", "c", "d"]);
    assert!(notes[0].contains("all 4 records were restored"), "{notes:?}");
}

#[test]
fn a_journal_that_is_gone_comes_back_from_the_checkpoint() {
    let disk = Disk::with(&["a", "b"]);
    let before = fs::read(disk.path()).unwrap();
    fs::remove_file(disk.path()).unwrap();
    let mut journal = FileJournal::open(&disk.directory).unwrap();
    assert_eq!(replay(&mut journal).unwrap().len(), 2);
    assert_eq!(fs::read(disk.path()).unwrap(), before, "byte for byte");
}

#[test]
fn any_flipped_byte_is_noticed_and_mended_from_the_checkpoint() {
    let length = fs::read(Disk::with(&["a", "b", "c"]).path()).unwrap().len();
    for at in (0..length).step_by(29) {
        let disk = Disk::with(&["a", "b", "c"]);
        let mut bytes = fs::read(disk.path()).unwrap();
        bytes[at] ^= 0x04;
        fs::write(disk.path(), &bytes).unwrap();
        let (texts, notes) = disk.open().unwrap();
        assert_eq!(texts, ["a", "b", "c"], "byte {at}");
        assert!(notes[0].contains("restored with the checkpoint"), "byte {at}: {notes:?}");
    }
}

#[test]
fn damage_in_the_middle_that_no_copy_can_mend_is_reported_with_its_range() {
    let disk = Disk::with(&["a", "b", "c", "d"]).without_checkpoint();
    let mut bytes = fs::read(disk.path()).unwrap();
    let second = bytes.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    let in_text = second + bytes[second..].windows(4).position(|part| part == b"boot").unwrap();
    for (at, mark) in [(in_text + 8, b'x'), (second, b'[')] {
        bytes[at] = mark;
        fs::write(disk.path(), &bytes).unwrap();
        match disk.open() {
            Err(JournalError::Damaged { from_seq, to_seq, .. }) => assert_eq!((from_seq, to_seq), (1, 1)),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(fs::read(disk.path()).unwrap(), bytes, "nothing was touched");
}

#[test]
fn a_long_record_is_in_the_checkpoint_by_place_only_and_its_loss_is_reported() {
    let long = "x".repeat(10_000);
    let disk = Disk::with(&["a", &long, "c"]);
    assert_eq!(disk.open().unwrap().0.len(), 3);
    let disk = Disk::with(&["a", &long, "c"]);
    let bytes = fs::read(disk.path()).unwrap();
    let second = bytes.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    fs::write(disk.path(), &bytes[..second]).unwrap();
    assert!(matches!(disk.open(), Err(JournalError::Damaged { from_seq: 1, to_seq: 2, .. })), "{:?}", disk.open());
}

#[test]
fn a_damaged_checkpoint_is_moved_aside_and_made_anew() {
    let disk = Disk::with(&["a", "b"]);
    for entry in fs::read_dir(disk.directory.checkpoint()).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            fs::write(path, vec![0xa5; 4096]).unwrap();
        }
    }
    let mut journal = FileJournal::open(&disk.directory).unwrap();
    assert_eq!(replay(&mut journal).unwrap().len(), 2);
    assert!(journal.notes()[0].contains("sled.damaged-1"), "{:?}", journal.notes());
    drop(journal);
    // Made anew: it can restore the journal again.
    fs::remove_file(disk.path()).unwrap();
    let mut journal = FileJournal::open(&disk.directory).unwrap();
    assert_eq!(replay(&mut journal).unwrap().len(), 2);
}

#[test]
fn a_checkpoint_of_another_journal_is_moved_aside() {
    let (disk, other) = (Disk::with(&["a", "b", "c"]), Disk::with(&["x", "y"]));
    fs::remove_dir_all(disk.directory.checkpoint()).unwrap();
    fs::rename(other.directory.checkpoint(), disk.directory.checkpoint()).unwrap();
    let (texts, notes) = disk.open().unwrap();
    assert_eq!(texts, ["a", "b", "c"]);
    assert!(notes[0].contains("does not follow"), "{notes:?}");
}

#[test]
fn a_directory_without_a_journal_is_not_a_run() {
    let empty = tempfile::tempdir().unwrap();
    let opened = FileJournal::open(&RunDirectory::at(empty.path()));
    assert!(matches!(opened, Err(JournalError::Missing { .. })));
}
