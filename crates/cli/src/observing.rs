//! What the engine tells, passed on to the screen.

use std::time::Instant;

use jiff::Timestamp;
use rke2flow_engine::id::InstanceId;
use rke2flow_engine::record::Record;
use rke2flow_engine::run::Observer;
use rke2flow_engine::state::State;

use crate::args::Output;
use crate::screen::Screen;
use crate::show::progress::Progress;

/// Shows a run while it is driven.
pub struct Watcher {
    progress: Progress,
    screen: Screen,
    output: Output,
}

impl Watcher {
    /// Shows the records that follow. `before` are those that were there already: told silently.
    pub fn new(mut progress: Progress, before: &[Record], screen: Screen, output: Output) -> Self {
        for record in before {
            progress.record(record);
        }
        Self { progress, screen, output }
    }
}

impl Observer for Watcher {
    fn record(&mut self, record: &Record, _state: &State) {
        if self.output == Output::Json
            && let Ok(line) = serde_json::to_string(record)
        {
            self.screen.emit(line);
        }
        for line in self.progress.record(record) {
            self.screen.say(line);
        }
    }

    fn hint(&mut self, instance: &InstanceId, hint: &str) {
        if let Some(line) = self.progress.hint(instance, hint, Instant::now(), Timestamp::now()) {
            self.screen.say(line);
        }
    }

    fn notice(&mut self, text: &str) {
        self.screen.say(format!("note: {text}"));
    }
}
