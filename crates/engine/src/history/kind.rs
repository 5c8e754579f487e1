//! What a duration is the duration of: an action in a place.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::cluster::Role;

/// Where an action ran. A server restarts with etcd and a control plane, an agent without.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Where {
    /// On the operator's machine.
    Operator,
    /// On a server.
    Server,
    /// On an agent.
    Agent,
}

impl Where {
    /// Of a host with this role; without one it is the operator's machine.
    pub fn of(role: Option<Role>) -> Self {
        match role {
            None => Where::Operator,
            Some(Role::Server) => Where::Server,
            Some(Role::Agent) => Where::Agent,
        }
    }

    fn word(self) -> &'static str {
        match self {
            Where::Operator => "operator",
            Where::Server => "server",
            Where::Agent => "agent",
        }
    }
}

/// A kind of action: `RestartUnit@server`. Written as this text.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Kind {
    /// The action's name.
    pub action: String,
    /// Where it ran.
    pub place: Where,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.action, self.place.word())
    }
}

impl FromStr for Kind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (action, place) = text.rsplit_once('@').ok_or_else(|| format!("`{text}` is not ACTION@PLACE"))?;
        let place = match place {
            "operator" => Where::Operator,
            "server" => Where::Server,
            "agent" => Where::Agent,
            other => return Err(format!("`{other}` is not operator, server or agent")),
        };
        Ok(Self { action: action.to_owned(), place })
    }
}

impl Serialize for Kind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Kind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}
