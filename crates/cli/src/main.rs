//! The binary `rke2flow`: reads the command line, carries out one command, ends with its exit code.

mod args;
mod exit;
mod telemetry;
mod trace;

fn main() {}
