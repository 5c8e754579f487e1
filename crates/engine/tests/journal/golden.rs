//! A journal of format 1 that must be readable for ever.

use std::path::Path;

use rke2flow_engine::journal::{Tail, read};
use rke2flow_engine::record::Record;

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/format-1");

#[test]
fn a_journal_of_format_1_is_read_and_written_byte_for_byte() {
    let mut records = Vec::new();
    let reading = read(Path::new(GOLDEN), &mut |record| records.push(record)).unwrap();
    assert_eq!(reading.tail, Tail::Clean, "after record {}", reading.records);
    let text = std::fs::read_to_string(Path::new(GOLDEN).join("journal.ndjson")).unwrap();
    for (record, line) in records.iter().zip(text.lines()) {
        assert_eq!(String::from_utf8(record.to_line().unwrap()).unwrap(), line);
    }
    let kinds: std::collections::BTreeSet<&str> = records.iter().map(|record| record.event.kind()).collect();
    assert_eq!(kinds.len(), 26, "every kind is there: {kinds:?}");
}

#[test]
fn a_record_of_a_later_version_names_the_version_that_wrote_it() {
    let text = std::fs::read_to_string(Path::new(GOLDEN).join("journal.ndjson")).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let first = text.lines().next().unwrap();
    let second = text.lines().nth(1).unwrap().replace("\"v\":1", "\"v\":2");
    std::fs::write(directory.path().join("journal.ndjson"), format!("{first}\n{second}\n")).unwrap();
    let error = read(directory.path(), &mut |_: Record| {}).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("version 2") && text.contains("rke2flow 0.1.0"), "{text}");
}
