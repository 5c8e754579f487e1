//! Whether a host may be believed: the pinned key, else the known_hosts files; unknown and changed keys refuse.

use russh::keys::PublicKeyOrCertificate;
use russh::keys::ssh_key::HashAlg;
use russh::keys::{Algorithm, PublicKey};

use super::endpoint::Endpoint;
use super::known_hosts::{Recorded, bare};

/// What the refusal of a host says whose key nobody has accepted yet.
pub const UNKNOWN_KEY: &str = "its host key is not known";

/// What a host must present.
#[derive(Debug, Default)]
pub(super) struct Trust {
    recorded: Recorded,
}

impl Trust {
    /// Collects what is known of a host: `host_key` of the cluster file, else its known_hosts files in their order.
    pub(super) fn of(endpoint: &Endpoint) -> Result<Self, String> {
        if let Some(pin) = &endpoint.pin {
            let key: PublicKey = pin.trim().parse().map_err(|_| {
                format!("`host_key` of the cluster file is not a key such as `ssh-ed25519 AAAA…`: {pin}")
            })?;
            let keys = vec![(key, "`host_key` of the cluster file".to_owned())];
            return Ok(Self { recorded: Recorded { keys, ..Recorded::default() } });
        }
        let (name, port) = &endpoint.known_as;
        let recorded = Recorded::read(&endpoint.known_hosts, name, *port).map_err(|error| error.to_string())?;
        Ok(Self { recorded })
    }

    /// Whether any key would be unknown.
    pub(super) fn knows_nothing(&self) -> bool {
        self.recorded.keys.is_empty()
    }

    /// The key types to ask for: those that are recorded, so that a host is not asked for a type that nobody can
    /// compare; all safe ones when nothing is. Never `ssh-rsa` with SHA-1.
    pub(super) fn algorithms(&self) -> Vec<Algorithm> {
        let all = russh::Preferred::DEFAULT.key.iter().cloned();
        let safe = all.filter(|algorithm| !matches!(algorithm, Algorithm::Rsa { hash: None } | Algorithm::Dsa));
        let is_recorded =
            |algorithm: &Algorithm| self.recorded.keys.iter().any(|(key, _)| same_type(&key.algorithm(), algorithm));
        safe.filter(|algorithm| self.recorded.keys.is_empty() || is_recorded(algorithm)).collect()
    }

    /// Accepts the key and gives its fingerprint, or says why not and what to do.
    pub(super) fn check(&self, presented: &PublicKeyOrCertificate) -> Result<String, String> {
        let PublicKeyOrCertificate::PublicKey { key, .. } = presented else {
            return Err(
                "it presents a host certificate, which is not supported: pin its key with `host_key`".to_owned()
            );
        };
        let shown = fingerprint(key);
        let is_it = |(known, _): &&(PublicKey, String)| known.key_data() == key.key_data();
        if let Some((_, place)) = self.recorded.revoked.iter().find(is_it) {
            return Err(format!("its host key {shown} is marked @revoked in {place}"));
        }
        if self.recorded.keys.iter().any(|known| is_it(&known)) {
            return Ok(shown);
        }
        if self.recorded.keys.is_empty() { Err(self.unknown(&shown)) } else { Err(self.changed(&shown)) }
    }

    /// The host offers none of the recorded key types.
    pub(super) fn other_type(&self, offered: &[String]) -> String {
        self.changed(&format!("only {}", offered.join(", ")))
    }

    fn unknown(&self, shown: &str) -> String {
        let mut why = format!(
            "{UNKNOWN_KEY}: {shown}; compare it with `ssh-keygen -lf` on the host's own console, then run \
             `rke2flow trust`"
        );
        if let Some(place) = self.recorded.authorities.first() {
            why.push_str(&format!(" (@cert-authority of {place} is not supported: host certificates are not checked)"));
        }
        why
    }

    fn changed(&self, shown: &str) -> String {
        let recorded: Vec<String> =
            self.recorded.keys.iter().map(|(key, place)| format!("{} ({place})", fingerprint(key))).collect();
        format!(
            "its host key has changed: recorded {}, presented {shown}; somebody may sit in between, or the host was \
             built anew: find out which before you remove the recorded key and run `rke2flow trust`",
            recorded.join(" and ")
        )
    }
}

/// `ssh-ed25519 SHA256:…`
pub fn fingerprint(key: &PublicKey) -> String {
    format!("{} {}", key.algorithm(), bare(key).fingerprint(HashAlg::Sha256))
}

fn same_type(one: &Algorithm, other: &Algorithm) -> bool {
    one == other || matches!((one, other), (Algorithm::Rsa { .. }, Algorithm::Rsa { .. }))
}
