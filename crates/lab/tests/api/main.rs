//! The lab's Kubernetes API against a real etcd, asked by the client that programs use.

#![allow(clippy::unwrap_used, reason = "tests")]

mod bench;
mod cluster;
mod datastore;
mod objects;
