//! The Kubernetes API of the simulated cluster, served from a store with revisions.

pub mod change;
pub mod controllers;
pub mod discovery;
pub mod evict;
pub mod objects;
pub mod plans;
pub mod request;
pub mod route;
pub mod select;
pub mod serve;
pub mod store;
pub mod write;
