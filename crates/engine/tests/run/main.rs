//! The run loop, seen from outside: plans of toy actions, journals in memory, paused time.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod attempts;
mod back;
mod closing;
mod commands;
mod crash;
mod disk;
mod failures;
mod gates;
mod history;
mod observers;
mod order;
mod property;
mod report;
mod rollback;
mod scale;
mod sequences;
mod stops;
mod world;
