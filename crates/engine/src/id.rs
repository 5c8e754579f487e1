//! Names of things: runs, steps, hosts, instances, attempts, units. Each constructor checks its invariant.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize};
use sha2::{Digest, Sha256};

/// A name that breaks its rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind} `{value}` is not a name: {rule}")]
pub struct IdError {
    kind: &'static str,
    value: String,
    rule: &'static str,
}

const NAME_RULE: &str = "1 to 63 of a-z, 0-9 and `-`, beginning and ending with a letter or digit";

fn check_name(kind: &'static str, value: &str) -> Result<(), IdError> {
    let bytes = value.as_bytes();
    let inner = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-';
    let edge = |b: Option<&u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    let fits = bytes.len() <= 63 && bytes.iter().all(inner) && edge(bytes.first()) && edge(bytes.last());
    if fits { Ok(()) } else { Err(IdError { kind, value: value.to_owned(), rule: NAME_RULE }) }
}

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident, $kind:literal, $check:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// Checks the rule for this kind of name.
            pub fn new(value: impl Into<String>) -> Result<Self, IdError> {
                let value = value.into();
                ($check)($kind, &value)?;
                Ok(Self(value))
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                Self::new(String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
            }
        }

        impl std::str::FromStr for $name {
            type Err = IdError;
            fn from_str(value: &str) -> Result<Self, IdError> {
                Self::new(value)
            }
        }
    };
}

name_type!(
    /// A run: `261122-0312-k7q2`, at most 20 bytes and DNS-safe, because Velero object names grow from it.
    RunId,
    "run id",
    check_run
);
name_type!(
    /// A step of a runbook, such as `stop-servers`.
    StepId,
    "step id",
    check_name
);
name_type!(
    /// A phase of a runbook, such as `stop-masters`.
    PhaseId,
    "phase id",
    check_name
);
name_type!(
    /// A host of the cluster file: its Kubernetes node name.
    HostName,
    "host name",
    check_host
);

fn check_run(kind: &'static str, value: &str) -> Result<(), IdError> {
    check_name(kind, value)?;
    if value.len() > 20 {
        return Err(IdError { kind, value: value.to_owned(), rule: "at most 20 bytes" });
    }
    Ok(())
}

fn check_host(kind: &'static str, value: &str) -> Result<(), IdError> {
    let labels = value.split('.').all(|label| check_name(kind, label).is_ok());
    if labels && value.len() <= 253 && value != OPERATOR {
        return Ok(());
    }
    Err(IdError { kind, value: value.to_owned(), rule: "a DNS name in lower case, and not `operator`" })
}

impl RunId {
    /// A new id from the wall clock (`yyMMdd-HHmm`, UTC) and 20 bits of the caller's randomness.
    pub fn generate(now: jiff::Timestamp, random: u32) -> Self {
        // 32 letters and digits that are not mistaken for one another.
        const ALPHABET: &[u8; 32] = b"abcdefghjkmnpqrstuvwxyz023456789";
        let tail: String = (0..4).map(|i| ALPHABET[(random >> (5 * i)) as usize & 31] as char).collect();
        Self(format!("{}-{tail}", now.strftime("%y%m%d-%H%M")))
    }

    /// The name of one of several rounds of this run: `261122-0312-k7q2-2`.
    pub fn of_round(&self, round: usize) -> Self {
        Self(format!("{self}-{round}"))
    }

    /// Whether this is the name of a round of that run, and of which.
    pub fn round_of(&self, run: &RunId) -> Option<usize> {
        self.0.strip_prefix(run.as_str())?.strip_prefix('-')?.parse().ok()
    }
}

/// The word that stands for the operator's own machine where a host is expected.
pub const OPERATOR: &str = "operator";

/// Where an action runs: on the operator's machine, or for one host.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Target {
    /// The machine that runs rke2flow.
    Operator,
    /// One host of the cluster file.
    Host(HostName),
}

impl Target {
    /// The host, when there is one.
    pub fn host(&self) -> Option<&HostName> {
        match self {
            Target::Operator => None,
            Target::Host(host) => Some(host),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Operator => f.write_str(OPERATOR),
            Target::Host(host) => host.fmt(f),
        }
    }
}

/// One action of one step on one target: `step/Action@host`; a second use of the same action in a step is `step/Action.2@host`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct InstanceId(String);

impl InstanceId {
    /// Builds the id; `occurrence` counts uses of the same action in the step from 1.
    pub fn new(step: &StepId, action: &str, occurrence: usize, target: &Target) -> Self {
        match occurrence {
            0 | 1 => Self(format!("{step}/{action}@{target}")),
            n => Self(format!("{step}/{action}.{n}@{target}")),
        }
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl InstanceId {
    /// Whether it is a check of `done_when`: `step/Action?@host`.
    pub fn is_check(&self) -> bool {
        self.0.rsplit_once('@').is_some_and(|(action, _)| action.split('.').any(|part| part.ends_with('?')))
    }
}

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The systemd unit of one attempt: `rke2flow-<run>-<8 hex of the instance>-a<attempt>`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UnitName(String);

impl UnitName {
    /// The name that this attempt has on its host, always the same one, so that a resumed engine finds it again.
    pub fn new(run: &RunId, instance: &InstanceId, attempt: u32) -> Self {
        let digest = Sha256::digest(instance.as_str().as_bytes());
        let hex: String = digest.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
        Self(format!("rke2flow-{run}-{hex}-a{attempt}"))
    }

    /// The name without `.service`.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for UnitName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generated_run_id_passes_its_own_rule() {
        let run = RunId::generate(jiff::Timestamp::UNIX_EPOCH, u32::MAX);
        assert_eq!(run.as_str(), "700101-0000-9999");
        assert!(RunId::new(run.as_str()).is_ok());
    }

    #[test]
    fn names_that_kubernetes_or_systemd_would_refuse_are_refused() {
        for bad in ["", "-a", "a-", "A", "a b", "a/b", "ü"] {
            assert!(StepId::new(bad).is_err(), "{bad:?} was accepted");
        }
        assert!(HostName::new("operator").is_err());
        assert!(HostName::new("server-0.example.com").is_ok());
    }

    #[test]
    fn a_unit_name_depends_on_run_instance_and_attempt_only() {
        let run = RunId::new("261122-0312-k7q2").unwrap();
        let step = StepId::new("reset").unwrap();
        let target = Target::Host(HostName::new("server-0").unwrap());
        let instance = InstanceId::new(&step, "ClusterReset", 1, &target);
        assert_eq!(instance.as_str(), "reset/ClusterReset@server-0");
        assert!(!instance.is_check());
        assert!(InstanceId::new(&step, "ClusterVersion?", 2, &target).is_check());
        let unit = UnitName::new(&run, &instance, 2);
        assert!(unit.as_str().starts_with("rke2flow-261122-0312-k7q2-") && unit.as_str().ends_with("-a2"));
        assert_eq!(unit, UnitName::new(&run, &instance, 2));
    }
}
