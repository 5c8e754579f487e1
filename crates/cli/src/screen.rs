//! The one place that writes while a run is driven: lines for people on standard error, records for programs on
//! standard output. A terminal that does not read never holds the engine up.

use std::io::Write;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Lines that may wait for a slow terminal; further ones are dropped, they are all in the journal.
const WAITING_LINES_MAX: usize = 10_000;

/// How long the end of a run waits for a terminal that does not read.
const DRAIN_LIMIT: Duration = Duration::from_secs(2);

/// Where lines are sent; may be cloned.
#[derive(Clone)]
pub struct Screen {
    lines: SyncSender<Line>,
}

/// Waits for what was sent to be written.
pub struct Drain {
    writer: JoinHandle<()>,
}

enum Line {
    Person(String),
    Program(String),
}

impl Screen {
    /// Starts the writer.
    pub fn start() -> (Self, Drain) {
        let (lines, received) = sync_channel(WAITING_LINES_MAX);
        let writer = std::thread::spawn(move || write_all(&received));
        (Self { lines }, Drain { writer })
    }

    /// A line for people, on standard error.
    pub fn say(&self, line: impl Into<String>) {
        // Full: dropped on purpose, see above.
        let _ = self.lines.try_send(Line::Person(line.into()));
    }

    /// A line for programs, on standard output.
    pub fn emit(&self, line: impl Into<String>) {
        let _ = self.lines.try_send(Line::Program(line.into()));
    }
}

impl Drain {
    /// Waits until everything is written, or the terminal has not read for [`DRAIN_LIMIT`]. Every [`Screen`] must be
    /// gone before.
    pub async fn finish(self) {
        let until = Instant::now() + DRAIN_LIMIT;
        while !self.writer.is_finished() && Instant::now() < until {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

fn write_all(received: &Receiver<Line>) {
    for line in received {
        // A closed pipe (`| head`) must not end a run that is under way.
        let _ = match line {
            Line::Person(text) => writeln!(std::io::stderr().lock(), "{text}"),
            Line::Program(text) => writeln!(std::io::stdout().lock(), "{text}"),
        };
    }
}
