//! Who is told what happens: displays and telemetry.

use crate::id::InstanceId;
use crate::record::Record;
use crate::state::State;

/// Is told what happens in a run, in order, by the task that owns the ledger: must return at once.
pub trait Observer: Send {
    /// A record was acknowledged. `state` is the run after it and whatever is about to be acknowledged.
    fn record(&mut self, record: &Record, state: &State);

    /// What an attempt waits for now. A hint, not a fact; some are dropped.
    fn hint(&mut self, instance: &InstanceId, hint: &str) {
        let _ = (instance, hint);
    }

    /// Something a person should know that is not a fact about the run: a command that could not be obeyed.
    fn notice(&mut self, text: &str) {
        let _ = text;
    }
}
