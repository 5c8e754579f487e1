//! The stand-in for RKE2: one program under the names of its processes.

pub mod layout;
pub mod log;
pub mod release;
pub mod runtime;
