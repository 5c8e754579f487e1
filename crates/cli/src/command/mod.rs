//! The table of contents of the commands.

mod ask;
mod doctor;
mod init;
mod list;
mod logs;
mod manual;
mod mttr;
mod plan;
mod rehearse;
mod report;
pub mod resume;
pub mod run;
mod runbooks;
mod status;
mod trust;
mod twin;
mod validate;

use std::io::Write;

use crate::args::{Cli, Command, TwinCommand};
use crate::exit::{Exit, Outcome, Problem};

/// Carries out one command.
pub fn carry_out(cli: &Cli) -> Outcome {
    let global = &cli.global;
    match &cli.command {
        Command::Run(args) => run::run(global, args),
        Command::Resume(args) => resume::resume(global, args),
        Command::Plan(args) => plan::plan(global, args),
        Command::Status(args) => status::status(global, args),
        Command::Watch(args) => status::watch(global, args),
        Command::Runs => list::runs(global),
        Command::Show(args) => list::show(global, args),
        Command::Logs(args) => logs::logs(global, args),
        Command::Pause(args) => ask::pause(global, args),
        Command::Continue(args) => ask::go_on(global, args),
        Command::Abort(args) => resume::abort(global, args),
        Command::Approve(args) => ask::approve(global, args),
        Command::Deny(args) => ask::deny(global, args),
        Command::Skip(args) => ask::skip(global, args),
        Command::Retry(args) => ask::retry(global, args),
        Command::Report(args) => report::report(global, args),
        Command::Mttr(args) => mttr::mttr(global, args),
        Command::Init(args) => init::init(global, args),
        Command::Trust(args) => trust::trust(global, args),
        Command::Validate(args) => validate::validate(args),
        Command::Runbooks(args) => runbooks::runbooks(global, args),
        Command::Doctor => doctor::doctor(global),
        Command::Rehearse(args) => rehearse::rehearse(global, args),
        Command::Twin(TwinCommand::Up(args)) => twin::up(args),
        Command::Completions { shell } => manual::completions(*shell),
        Command::Man => manual::man(),
    }
}

/// Runs what must wait for something.
fn block_on<F: Future<Output = Outcome>>(work: F) -> Outcome {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Problem::new(Exit::Failed, "cannot start the runtime").observed(error))?;
    let outcome = runtime.block_on(work);
    // A question at the terminal that nobody answers must not keep the process.
    runtime.shutdown_background();
    outcome
}

/// Prints to standard output. A closed pipe (`| head`) is not an error.
fn print(text: &str) {
    let mut out = std::io::stdout().lock();
    let newline = if text.ends_with('\n') { "" } else { "\n" };
    // Nothing can be said about a closed standard output.
    let _ = write!(out, "{text}{newline}").and_then(|()| out.flush());
}

/// Prints a JSON document.
fn print_json(document: &serde_json::Value) {
    print(&format!("{document:#}"));
}
