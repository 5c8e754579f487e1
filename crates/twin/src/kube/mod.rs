//! The Kubernetes API of the simulated cluster, served from a store with revisions.

pub mod request;
