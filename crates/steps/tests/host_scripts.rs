//! Every rendered script, run by a real `sh` against a host that consists of a directory and stand-ins for its tools.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise; only functions with #[test] are exempt")]

mod host;
