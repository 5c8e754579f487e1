//! `lab-rke2`: what `/usr/local/bin/rke2` and its processes are in the lab.

use std::process::ExitCode;

fn main() -> ExitCode {
    rke2flow_lab::standin::run(std::env::args().collect())
}
