//! What is on a copy: everything that was acknowledged, and a journal that opens and can be written on.

use std::panic::{AssertUnwindSafe, catch_unwind};

use rke2flow_engine::id::RunId;
use rke2flow_engine::journal::{Draft, FileJournal, Journal, RunDirectory};
use rke2flow_engine::record::{Event, Record};
use sha2::{Digest, Sha256};

use super::bench::{Bench, Copy, mount, unmount};
use super::writer::{Work, careless_file};

/// What one copy, or all of them, showed.
#[derive(Default)]
pub struct Verdict {
    pub acknowledged: u64,
    pub lost: u64,
    pub unopenable: u32,
    pub rebuilt: u32,
    pub torn: u32,
    pub more: u64,
    /// What is wrong with this copy.
    pub fault: Option<String>,
}

impl Verdict {
    pub fn add(&mut self, other: &Verdict) {
        self.acknowledged += other.acknowledged;
        self.lost += other.lost;
        self.unopenable += other.unopenable;
        self.rebuilt += other.rebuilt;
        self.torn += other.torn;
        self.more += other.more;
    }
}

/// How many of the careless writer's lines a cut has taken.
pub fn lost_by_the_careless(bench: &Bench, copy: &Copy) -> u64 {
    let place = bench.directory.path().join("after");
    mount(&copy.image, &place, &[]);
    let text = std::fs::read_to_string(careless_file(&place)).unwrap_or_default();
    unmount(&place);
    copy.acknowledged.saturating_sub(text.lines().count() as u64)
}

/// Mounts the copy, which replays ext4's own journal, and opens the run.
pub fn check(bench: &Bench, copy: &Copy) -> Verdict {
    let place = bench.directory.path().join("after");
    mount(&copy.image, &place, &[]);
    let directory = Work::directory(&place, copy.run);
    let opened = catch_unwind(AssertUnwindSafe(|| open(&directory)));
    let opened = opened.unwrap_or_else(|_| Err("opening it panicked".to_owned()));
    unmount(&place);
    let verdict = Verdict { acknowledged: copy.acknowledged, ..Verdict::default() };
    let (records, notes) = match opened {
        Ok(opened) => opened,
        Err(why) => {
            return Verdict { unopenable: 1, lost: copy.acknowledged, fault: Some(why), ..verdict };
        }
    };
    let lost = copy.acknowledged.saturating_sub(records);
    let fault = (lost > 0).then(|| format!("{lost} acknowledged records are lost"));
    let told = |word: &str| u32::from(notes.iter().any(|note| note.contains(word)));
    Verdict {
        lost,
        more: records.saturating_sub(copy.acknowledged),
        rebuilt: told("checkpoint"),
        torn: told("never acknowledged"),
        fault,
        ..verdict
    }
}

/// Replays, looks at every record and every kept output, and writes one more.
fn open(directory: &RunDirectory) -> Result<(u64, Vec<String>), String> {
    let said = |error: rke2flow_engine::journal::JournalError| error.to_string();
    let mut journal = FileJournal::open(directory).map_err(said)?;
    let (mut records, mut wrong) = (0, Vec::new());
    let mut run = None;
    journal
        .replay(&mut |record| {
            wrong.extend(judge(directory, &record, records));
            records += 1;
            run.get_or_insert(record.run);
        })
        .map_err(said)?;
    let run = run.unwrap_or_else(|| RunId::new("none-left").expect("a name"));
    let event = Event::Paused { why: "after the cut".to_owned() };
    let draft = Draft { at: jiff::Timestamp::UNIX_EPOCH, boot: "b".to_owned(), mono_ms: 0, run, claim: 0, event };
    journal.append(draft).map_err(said)?;
    journal.commit().map_err(said)?;
    match wrong.first() {
        None => Ok((records, journal.notes())),
        Some(first) => Err(format!("{} records are not what was written: {first}", wrong.len())),
    }
}

/// What is wrong with the record at `place`.
fn judge(directory: &RunDirectory, record: &Record, place: u64) -> Option<String> {
    let Event::Paused { why } = &record.event else { return Some(format!("record {place} is of another kind")) };
    let mut words = why.split(' ');
    if words.next() != Some(place.to_string().as_str()) {
        return Some(format!("record {place} says {}", &why[..why.len().min(40)]));
    }
    let kept = words.next().filter(|name| *name != "-")?;
    let bytes = std::fs::read(directory.out().join(kept)).unwrap_or_default();
    let digest: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    (digest != kept).then(|| format!("the output {kept} of record {place} is not whole"))
}
