//! The simulated RKE2 cluster: a model that behaves as RKE2, etcd, Kubernetes and Velero do, the unpleasant parts included.
//!
//! A [`TwinSpec`] says what cluster there is; a [`Twin`] is one, advanced lazily by its clock; [`inprocess`] puts it
//! behind the ports of the actions without a network. The twin judges from its own log and store ([`judge`]), never
//! from a journal.

pub mod host;
pub mod inprocess;
pub mod judge;
pub mod kube;
pub mod s3;
pub mod serve;
pub mod spec;
pub mod tamper;
pub mod twin;
pub mod velero;
pub mod world;

pub use host::estate::Estate;
pub use judge::{Violation, ViolationKind};
pub use kube::request::{KubeBody, KubeHttp, KubeReply};
pub use s3::store::S3Store;
pub use spec::{Fault, JobTrouble, TwinSpec, VolumeSpec};
pub use tamper::Tamper;
pub use twin::Twin;
pub use world::log::{EntryKind, LogEntry};
