//! The durable workflow engine: runbook → plan → schedule → journal → run → report.
//!
//! The engine names no transport and no terminal. It knows hosts only as names with a role, actions only as
//! [`action::Action`], and the disk only through [`journal::Journal`] and [`history::Store`].

pub mod action;
pub mod clock;
pub mod cluster;
pub mod decide;
pub mod diagnostic;
pub mod duration;
pub mod history;
pub mod id;
pub mod inbox;
pub mod journal;
pub mod plan;
pub mod record;
pub mod release;
pub mod report;
pub mod run;
pub mod runbook;
pub mod source;
pub mod state;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod value;
