//! What was done to the twin: every command, request and upload, by whom and when.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rke2flow_engine::clock::Clock;
use rke2flow_engine::id::HostName;
use serde::Serialize;

/// The log keeps the first so many entries.
pub const LOG_LIMIT_ENTRIES: usize = 200_000;

/// One thing that was done to the twin.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LogEntry {
    /// Cluster time since the twin began.
    pub at: Duration,
    /// Where; `None` for the bucket and for what happens outside the hosts.
    pub host: Option<HostName>,
    /// Whether it could change anything.
    pub kind: EntryKind,
    /// What: `look Survey`, `change ClusterReset` (an order came in), `start ClusterReset` (its unit began),
    /// `kube PATCH /api/v1/nodes/agent-0`, `s3 PUT bucket/key`.
    pub what: String,
    /// The unit, for a change of a host.
    pub unit: Option<String>,
}

/// Whether something could change anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
pub enum EntryKind {
    /// A look.
    Read,
    /// Anything else, refused or not.
    Write,
}

/// Where the log is written, shared by hosts, API and bucket.
#[derive(Debug)]
pub struct Recorder {
    clock: Clock,
    entries: Mutex<Vec<LogEntry>>,
}

impl Recorder {
    /// An empty log on this clock.
    pub fn new(clock: Clock) -> Self {
        Self { clock, entries: Mutex::new(Vec::new()) }
    }

    /// The clock that entries are dated by.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Adds an entry.
    pub fn record(&self, host: Option<&HostName>, kind: EntryKind, what: String, unit: Option<String>) {
        let entry = LogEntry { at: self.clock.elapsed(), host: host.cloned(), kind, what, unit };
        let mut entries = self.lock();
        if entries.len() < LOG_LIMIT_ENTRIES {
            entries.push(entry);
        }
    }

    /// Everything so far.
    pub fn entries(&self) -> Vec<LogEntry> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<LogEntry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
