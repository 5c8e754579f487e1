//! `hosts_at_once`: a number, a percentage, or all.

use std::fmt;

use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer};

use crate::value::{Reference, lone_reference};

/// How many targets of a step may be at work at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostsAtOnce {
    /// This many.
    Count(u32),
    /// This part of the targets, rounded down, but at least one.
    Percent(u8),
    /// All of them.
    All,
    /// What this parameter says.
    Param(String),
}

impl Default for HostsAtOnce {
    fn default() -> Self {
        HostsAtOnce::Count(1)
    }
}

impl HostsAtOnce {
    /// What a text says: `4`, `25%` or `all`; `None`: something else.
    pub fn parse(text: &str) -> Option<Self> {
        if text == "all" {
            return Some(HostsAtOnce::All);
        }
        match text.strip_suffix('%') {
            Some(percent) => {
                percent.parse().ok().filter(|percent| (1..=100).contains(percent)).map(HostsAtOnce::Percent)
            }
            None => text.parse().ok().filter(|count| *count > 0).map(HostsAtOnce::Count),
        }
    }

    /// The number for this many targets; at least 1. What a parameter says is looked up before.
    pub fn of(&self, targets: usize) -> usize {
        let wanted = match *self {
            HostsAtOnce::Param(_) => 1,
            HostsAtOnce::Count(count) => count as usize,
            HostsAtOnce::Percent(percent) => targets * usize::from(percent) / 100,
            HostsAtOnce::All => targets,
        };
        wanted.clamp(1, targets.max(1))
    }
}

impl<'de> Deserialize<'de> for HostsAtOnce {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneOfThree;
        impl Visitor<'_> for OneOfThree {
            type Value = HostsAtOnce;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number from 1, a percentage such as \"25%\", \"all\", or \"${param.NAME}\"")
            }

            fn visit_u64<E: de::Error>(self, count: u64) -> Result<HostsAtOnce, E> {
                match u32::try_from(count) {
                    Ok(count) if count > 0 => Ok(HostsAtOnce::Count(count)),
                    _ => Err(E::invalid_value(de::Unexpected::Unsigned(count), &self)),
                }
            }

            fn visit_i64<E: de::Error>(self, count: i64) -> Result<HostsAtOnce, E> {
                Err(E::invalid_value(de::Unexpected::Signed(count), &self))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<HostsAtOnce, E> {
                if let Some(Reference::Param(name)) = lone_reference(text) {
                    return Ok(HostsAtOnce::Param(name));
                }
                match HostsAtOnce::parse(text) {
                    Some(known) if !matches!(known, HostsAtOnce::Count(_)) => Ok(known),
                    _ => Err(E::invalid_value(de::Unexpected::Str(text), &self)),
                }
            }
        }
        deserializer.deserialize_any(OneOfThree)
    }
}
