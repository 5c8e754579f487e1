//! Hop: the release that a round goes to. A node that runs the release of a later round has this one behind it.

use rke2flow_engine::action::Failure;
use rke2flow_engine::value::Param;

use crate::actions::known;

/// A release, and those that the same run goes to afterwards.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Hop<'a> {
    /// The release of this round.
    pub version: &'a str,
    later: &'a [String],
}

impl<'a> Hop<'a> {
    /// From an action's fields.
    pub fn of(version: &'a Param<String>, later: &'a Param<Vec<String>>) -> Result<Self, Failure> {
        Ok(Self { version: known(version)?, later: known(later)? })
    }

    /// Whether what runs is this hop's release or exactly one of later hops; merely newer does not count.
    pub fn is_reached_by(&self, running: &str) -> bool {
        self.version == running || self.is_behind(running)
    }

    /// Whether it is the release of a later hop.
    pub fn is_behind(&self, running: &str) -> bool {
        self.later.iter().any(|later| later == running)
    }
}
