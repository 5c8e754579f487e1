//! End-to-end tests on real hosts: the binary `rke2flow` from the outside, in labs of as many hosts as the test needs.
//!
//! What counts is what the test sees by itself: etcd's own keys, processes, files and units on the hosts, and what the
//! workload was told by whichever API server answered it. What rke2flow says is compared with that, never believed.
//!
//! `RKE2FLOW_KILLS` says how many kills, `RKE2FLOW_BOOTS` at how many step boundaries servers lose their power,
//! `RKE2FLOW_SEED` repeats the moments of an earlier run.

#![allow(clippy::unwrap_used, reason = "a test that cannot set its scene has failed")]

mod build;
mod chance;
mod cluster;
mod data;
mod engine;
mod figures;
mod k3s;
mod kills;
mod power;
mod proof;
mod rebuild;
mod rollback;
mod scene;
mod single;
mod upload;
mod variants;
mod watch;
mod writes;
