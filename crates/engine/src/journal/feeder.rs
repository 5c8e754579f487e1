//! The thread that carries acknowledged lines from the journal into the checkpoint. It reads them from the file, so
//! that nothing waits for it and nothing piles up: what crosses threads is one number.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::RunDirectory;
use super::checkpoint::{Fed, Store};
use crate::record::RECORD_BYTES_MAX;

/// How much is carried at once; more than one line.
const CHUNK_BYTES: usize = 4 * RECORD_BYTES_MAX;

/// How long lines are gathered before they are carried: a wake-up per step would cost more than the step.
const GATHER: Duration = Duration::from_millis(20);

/// Feeds the checkpoint until it is dropped, and closes it then.
#[derive(Debug)]
pub(super) struct Feeder {
    shared: Arc<Shared>,
    wake: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    /// Bytes of the journal that are acknowledged.
    acknowledged: AtomicU64,
    closing: AtomicBool,
    notes: Mutex<Vec<String>>,
}

impl Shared {
    fn note(&self, text: String) {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner).push(text);
    }
}

impl Feeder {
    /// Feeds a checkpoint that has come as far as `fed`; opens a new one when none is given.
    pub fn start(directory: &RunDirectory, store: Option<Store>, fed: Fed, acknowledged: u64) -> Self {
        let shared = Arc::new(Shared { acknowledged: AtomicU64::new(acknowledged), ..Shared::default() });
        let (wake, woken) = sync_channel(1);
        let (theirs, journal, path) = (shared.clone(), directory.journal(), directory.checkpoint());
        let carry = move || {
            let outcome = store
                .map_or_else(|| Store::open(&path), Ok)
                .and_then(|store| carry(&theirs, &woken, &journal, store, fed));
            if let Err(error) = outcome {
                theirs.note(format!("the checkpoint is not kept: {error}; the journal is complete without it"));
            }
        };
        let thread = std::thread::Builder::new().name("checkpoint".to_owned()).spawn(carry);
        if let Err(error) = &thread {
            shared.note(format!("the checkpoint is not kept: {error}"));
        }
        let feeder = Self { shared, wake: Some(wake), thread: thread.ok() };
        feeder.wake();
        feeder
    }

    /// Says how many bytes of the journal are acknowledged. Never waits.
    pub fn acknowledge(&self, bytes: u64) {
        self.shared.acknowledged.store(bytes, Ordering::Release);
        self.wake();
    }

    pub fn notes(&self) -> Vec<String> {
        self.shared.notes.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn wake(&self) {
        if let Some(wake) = &self.wake {
            // Full: it is awake already. Gone: it has said why.
            let _ = wake.try_send(());
        }
    }
}

impl Drop for Feeder {
    fn drop(&mut self) {
        self.shared.closing.store(true, Ordering::Release);
        self.wake = None;
        if let Some(thread) = self.thread.take() {
            // It does not panic; if it did, the journal is complete without it.
            let _ = thread.join();
        }
    }
}

fn carry(shared: &Shared, woken: &Receiver<()>, journal: &PathBuf, store: Store, mut fed: Fed) -> Result<(), String> {
    let file = File::open(journal).map_err(|error| error.to_string())?;
    loop {
        // An error means that the journal is being closed: what is left is carried, then it ends.
        let mut closing = woken.recv().is_err() || shared.closing.load(Ordering::Acquire);
        if !closing {
            std::thread::sleep(GATHER);
            closing = shared.closing.load(Ordering::Acquire);
        }
        loop {
            let acknowledged = shared.acknowledged.load(Ordering::Acquire);
            if fed.bytes >= acknowledged {
                break;
            }
            let length = (acknowledged - fed.bytes).min(CHUNK_BYTES as u64) as usize;
            let mut chunk = vec![0; length];
            file.read_exact_at(&mut chunk, fed.bytes).map_err(|error| error.to_string())?;
            let whole = chunk.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
            if whole == 0 {
                return Err("the journal has a line without an end".to_owned());
            }
            fed = store.feed(&fed, &chunk[..whole])?;
        }
        if closing {
            return store.close();
        }
    }
}
