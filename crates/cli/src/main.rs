//! The binary `rke2flow`: reads the command line, carries out one command, ends with its exit code.

mod args;
mod asking;
mod blast;
mod claiming;
mod command;
mod driving;
mod exit;
mod fingerprint;
mod found;
mod held;
mod logging;
mod lost;
mod making;
mod observing;
mod panic;
mod passphrase;
mod past;
mod place;
mod probing;
mod reading;
mod rolling_back;
mod runs;
mod saved;
mod screen;
mod show;
mod stopping;
mod superseding;
mod telemetry;
mod trace;
mod waiving;
mod what_runs;
mod world;

use std::process::ExitCode;

use clap::Parser;

use crate::args::Cli;
use crate::show::Colour;

fn main() -> ExitCode {
    // One TLS provider for everything; the second installation, in a test, changes nothing.
    rustls::crypto::ring::default_provider().install_default().ok();
    panic::install_message();
    let cli = Cli::parse();
    logging::start(cli.global.verbose);
    match command::carry_out(&cli) {
        Ok(exit) => exit.into(),
        Err(problem) => {
            eprintln!("{} {problem}", Colour::of_stderr().bad("error:"));
            problem.exit.into()
        }
    }
}
