//! End-to-end tests: the binary `rke2flow` from the outside, on simulated clusters where one is needed.

#![allow(clippy::unwrap_used, reason = "a test that cannot set its scene has failed")]

mod aborts;
mod bad_input;
mod collector;
mod command_line;
mod fence;
mod flaws;
mod guards;
mod history;
mod hops;
mod init;
mod kills;
mod ownership;
mod plans;
mod rehearsals;
mod rolled_back;
mod runs;
mod saved_plans;
mod scale;
mod scenario;
mod traces;
mod upgrade_suc;
mod upgrades;
mod variants;
