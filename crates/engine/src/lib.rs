//! The durable workflow engine: runbook → plan → schedule → journal → run → report.
//!
//! The engine names no transport and no terminal. It knows hosts only as names with a role, actions only as
//! [`action::Action`], and the disk only through [`journal::Journal`].

pub mod action;
pub mod clock;
pub mod cluster;
pub mod duration;
pub mod id;
pub mod plan;
pub mod record;
pub mod value;
