//! What every journal promises, and what the one on disk does when it is damaged.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod contract;
mod damage;
mod golden;
