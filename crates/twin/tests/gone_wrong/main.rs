//! Whole runs on the twin's model: wrong runbooks, faults, and worlds that somebody made wrong by hand.

mod faults;
mod guards;
mod k3s;
mod rig;
mod snapshots;
mod tampered;
mod upgrades;
mod variants;
mod wrong_runbooks;
