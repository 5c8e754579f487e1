//! The floor: append a line the size of a step's records, fdatasync.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;
use std::time::Instant;

use super::Figures;

/// What a sequential no-op step writes: five records.
const BYTES_PER_STEP: usize = 1600;

pub fn measure(path: &Path, steps: usize) -> Figures {
    let mut file = OpenOptions::new().append(true).create(true).open(path).expect("a file");
    let line = vec![b'x'; BYTES_PER_STEP];
    let begin = Instant::now();
    let mut each = Vec::with_capacity(steps);
    for _ in 0..steps {
        let start = Instant::now();
        file.write_all(&line).and_then(|()| file.sync_data()).expect("a disk that writes");
        each.push(start.elapsed());
    }
    Figures { steps, wall: begin.elapsed(), each, syncs: steps as u64, one_by_one: true }
}
