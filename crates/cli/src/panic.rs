//! What is said when the program has a defect: where it is, and how the run goes on.

use std::path::PathBuf;
use std::sync::OnceLock;

use rke2flow_engine::id::RunId;

static RUN: OnceLock<(RunId, PathBuf)> = OnceLock::new();

/// Remembers the run that this process drives, for the message.
pub fn remember_run(run: &RunId, directory: PathBuf) {
    // A process drives one run; the first one is the one that matters.
    let _ = RUN.set((run.clone(), directory));
}

/// Replaces the standard message of a panic by one that helps at 3 a.m.
pub fn install_message() {
    std::panic::set_hook(Box::new(|info| {
        eprintln!("internal error of rke2flow {}: {info}", env!("CARGO_PKG_VERSION"));
        if let Some((run, directory)) = RUN.get() {
            eprintln!(
                "  the journal of run {run} is in {}: nothing that was acknowledged is lost",
                directory.display()
            );
            eprintln!("next: rke2flow status {run}\n      rke2flow resume {run}");
        }
    }));
}
