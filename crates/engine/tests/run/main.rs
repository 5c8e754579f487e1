//! The run loop, seen from outside: plans of toy actions, journals in memory, paused time.

mod closing;
mod commands;
mod crash;
mod failures;
mod gates;
mod order;
mod report;
mod sequences;
mod stops;
mod world;
