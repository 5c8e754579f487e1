//! What lab there shall be: its name, its directory, how many hosts.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::BASE;

/// The most servers of a lab.
pub const SERVERS_MAX: u8 = 9;
/// The most agents of a lab.
pub const AGENTS_MAX: u8 = 50;
/// What a lab's name may be long: the operator's interface is `rfl-NAME`, and the kernel takes 15 characters.
const NAME_MAX: usize = 11;

/// Why there is no such lab.
#[derive(Debug, thiserror::Error)]
pub enum SpecError {
    /// A name that cannot be.
    #[error("a lab's name is 1 to {NAME_MAX} of a-z and 0-9, beginning with a letter; found `{0}`")]
    Name(String),
    /// Too many or too few.
    #[error("a lab has 1 to {SERVERS_MAX} servers and at most {AGENTS_MAX} agents; found {servers} and {agents}")]
    Hosts {
        /// Servers asked for.
        servers: u8,
        /// Agents asked for.
        agents: u8,
    },
    /// The init server is none of the servers.
    #[error("the init server `{init}` is none of server-0 to server-{}", servers - 1)]
    Init {
        /// The name given.
        init: String,
        /// How many servers there are.
        servers: u8,
    },
    /// No host of that name.
    #[error("no host `{0}` in this lab: `status` lists them")]
    Host(String),
}

/// A lab's name. It has no `-`, so that no lab's name begins another's: `rfl-NAME-HOST` is read in one way only.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LabName(String);

impl LabName {
    /// Checks a name.
    pub fn new(name: &str) -> Result<Self, SpecError> {
        let letters = name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
        if letters && name.len() <= NAME_MAX && name.starts_with(|first: char| first.is_ascii_lowercase()) {
            return Ok(Self(name.to_owned()));
        }
        Err(SpecError::Name(name.to_owned()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What everything that belongs to the lab begins with: `rfl-NAME`.
    pub fn prefix(&self) -> String {
        format!("{PREFIX}{}", self.0)
    }

    /// The lab that something of this name belongs to: `rfl-NAME` or `rfl-NAME-HOST`.
    pub fn of(thing: &str) -> Option<Self> {
        let name = thing.strip_prefix(PREFIX)?;
        Self::new(name.split('-').next()?).ok()
    }

    /// Where the lab is unless a directory is named.
    pub fn default_dir(&self) -> PathBuf {
        Path::new(BASE).join(&self.0)
    }
}

const PREFIX: &str = "rfl-";

impl TryFrom<String> for LabName {
    type Error = SpecError;

    fn try_from(name: String) -> Result<Self, SpecError> {
        Self::new(&name)
    }
}

impl From<LabName> for String {
    fn from(name: LabName) -> String {
        name.0
    }
}

impl std::fmt::Display for LabName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a host is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Role {
    /// `rke2-server.service`
    Server,
    /// `rke2-agent.service`
    Agent,
}

/// How far `up` goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Extent {
    /// Hosts alone: no S3 endpoint, nothing of RKE2 on them.
    Bare,
    /// An S3 endpoint, and RKE2 configured and installed on each host, neither enabled nor started.
    Installed,
    /// RKE2 enabled and started everywhere, and every unit active.
    Running,
}

/// A lab to be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spec {
    /// Its name.
    pub name: LabName,
    /// Its directory: not there yet, or empty. It is gone after `down`.
    pub dir: PathBuf,
    /// How many servers.
    pub servers: u8,
    /// How many agents.
    pub agents: u8,
    /// The server that the others join.
    pub init: String,
    /// What RKE2 version runs.
    pub version: String,
    /// How far `up` goes.
    pub extent: Extent,
}

impl Spec {
    /// Three servers and three agents under a name, in the default directory.
    pub fn new(name: LabName) -> Self {
        let dir = name.default_dir();
        let (init, version) = ("server-0".to_owned(), "v1.33.4+rke2r1".to_owned());
        Self { name, dir, servers: 3, agents: 3, init, version, extent: Extent::Running }
    }

    /// Another number of servers and agents.
    pub fn hosts(self, servers: u8, agents: u8) -> Self {
        Self { servers, agents, ..self }
    }

    /// Another extent.
    pub fn extent(self, extent: Extent) -> Self {
        Self { extent, ..self }
    }

    /// Hosts alone.
    pub fn bare(self) -> Self {
        self.extent(Extent::Bare)
    }

    /// Whether there can be such a lab.
    pub fn check(&self) -> Result<(), SpecError> {
        let (servers, agents) = (self.servers, self.agents);
        if servers == 0 || servers > SERVERS_MAX || agents > AGENTS_MAX {
            return Err(SpecError::Hosts { servers, agents });
        }
        if self.role(&self.init) != Some(Role::Server) {
            return Err(SpecError::Init { init: self.init.clone(), servers });
        }
        Ok(())
    }

    /// The names of the hosts, servers first.
    pub fn host_names(&self) -> Vec<String> {
        let servers = (0..self.servers).map(|number| format!("server-{number}"));
        servers.chain((0..self.agents).map(|number| format!("agent-{number}"))).collect()
    }

    /// What this host is for; `None` when there is none of that name.
    pub fn role(&self, host: &str) -> Option<Role> {
        let (kind, number) = host.rsplit_once('-')?;
        let number: u8 = number.parse().ok()?;
        match kind {
            "server" if number < self.servers => Some(Role::Server),
            "agent" if number < self.agents => Some(Role::Agent),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_fit_an_interface_are_taken() {
        for name in ["a", "lab", "t123", "abcdefghijk"] {
            assert!(LabName::new(name).unwrap().prefix().len() <= 15, "{name}");
        }
        for name in ["", "1a", "a-b", "Lab", "abcdefghijkl", "a/b", "ä"] {
            assert!(LabName::new(name).is_err(), "{name}");
        }
    }

    #[test]
    fn what_belongs_to_a_lab_is_known_by_its_name() {
        let lab = |thing: &str| LabName::of(thing).map(String::from);
        assert_eq!(lab("rfl-one"), Some("one".to_owned()));
        assert_eq!(lab("rfl-one-server-0"), Some("one".to_owned()));
        assert_eq!(lab("other-one"), None);
        assert_eq!(lab("rfl-"), None);
    }

    #[test]
    fn a_lab_without_its_init_server_is_refused() {
        let spec = Spec::new(LabName::new("a").unwrap()).hosts(2, 1);
        assert!(spec.check().is_ok());
        assert_eq!(spec.host_names(), ["server-0", "server-1", "agent-0"]);
        for init in ["server-2", "agent-0", "nobody"] {
            assert!(Spec { init: init.to_owned(), ..spec.clone() }.check().is_err(), "{init}");
        }
        assert!(spec.clone().hosts(0, 1).check().is_err());
        assert!(spec.hosts(SERVERS_MAX + 1, 1).check().is_err());
    }
}
