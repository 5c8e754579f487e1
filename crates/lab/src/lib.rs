//! A lab of real hosts on one machine: real systemd as PID 1, real OpenSSH, journald and etcd, in namespaces.
//!
//! - [`hosts`] makes and drives the hosts, from tests and by hand (`rke2flow-lab`).
//! - [`standin`] is what `/usr/local/bin/rke2` is there (`lab-rke2`, one binary under several names): it behaves as RKE2
//!   does around a real etcd member.
//! - [`api`] is its Kubernetes API, served from that etcd, with the controllers and the kubelet's reports.

pub mod api;
pub mod hosts;
pub mod process;
pub mod standin;
