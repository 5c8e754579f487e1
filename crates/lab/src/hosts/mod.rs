//! The hosts: network, root file system, systemd, power and cables.
//!
//! A [`Lab`] is made from a [`Spec`] and is gone when it is dropped. Everything that belongs to it carries its name, so
//! that [`down`] finds it in the kernel's own lists, whatever became of the process that made it:
//!
//! - network: `rfl-NAME` is a namespace with the switch, `rfl-NAME-HOST` is a host's; the one interface outside of them
//!   is the operator's, `rfl-NAME`;
//! - processes: the cgroup `rfl-NAME`, with one below it for each host;
//! - files: a tmpfs `rfl-NAME` on the lab's directory, and one below it for each host's disk.

mod available;
mod boot;
mod cgroup;
mod cluster_file;
mod command;
mod disk;
mod down;
mod error;
mod host;
mod lab;
mod network;
mod program;
mod rke2;
pub mod s3;
mod spec;
mod turn;

pub use available::{available, required_or_left_out};
pub use command::{CommandError, Output};
pub use down::{down, names};
pub use error::LabError;
pub use host::Host;
pub use lab::Lab;
pub use network::Subnet;
pub use spec::{Extent, LabName, Role, Spec, SpecError};
pub use turn::{Turn, turn};

/// Where labs are when no directory is named, and where they lock each other out.
pub const BASE: &str = "/run/rke2flow-lab";
