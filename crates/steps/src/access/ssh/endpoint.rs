//! Where a host is and how it is entered: the cluster file's words first, then OpenSSH's configuration, then defaults.

use std::path::PathBuf;

use rke2flow_engine::cluster::{NO_FILE, Ssh};

use super::openssh_config::{Configured, Question, Unsaid};
use super::settings::SshSettings;
use super::tokens::Tokens;
use crate::ports::AccessError;

/// Port of SSH when nothing else is said.
pub(super) const DEFAULT_PORT: u16 = 22;
/// Hosts that are gone through to reach one, at most: a configuration can send in circles.
const JUMPS_MAX: usize = 8;

/// Where a host is and how it is entered.
#[derive(Debug)]
pub(super) struct Endpoint {
    /// As people know it: `server-0`, `jump host bastion of server-0`.
    pub name: String,
    pub address: String,
    pub port: u16,
    pub user: String,
    pub keys: Keys,
    /// `host_key` of the cluster file.
    pub pin: Option<String>,
    pub known_hosts: Vec<PathBuf>,
    /// The name and port under which known_hosts files have it.
    pub known_as: (String, u16),
    pub via: Via,
    /// What of this comes from OpenSSH's configuration, and from which lines; empty when nothing does.
    pub origin: String,
}

/// With which keys.
#[derive(Debug, Default)]
pub(super) struct Keys {
    /// The cluster file's `key`, which comes first.
    pub key: Option<PathBuf>,
    /// And then no other.
    pub key_alone: bool,
    /// More key files, of which any may be missing.
    pub files: Vec<PathBuf>,
    /// Only keys that are named as files, also from the agent.
    pub only_files: bool,
    /// The agent's socket.
    pub agent: Option<PathBuf>,
}

/// How the first byte gets there.
#[derive(Debug)]
pub(super) enum Via {
    Straight,
    Jump(Box<Endpoint>),
    /// A program whose standard input and output are the connection: ProxyCommand.
    Command(String),
}

/// A host that is gone through, as written: `user@host:port`.
struct Jump<'a> {
    user: Option<&'a str>,
    address: &'a str,
    port: Option<u16>,
}

impl Endpoint {
    /// A host of the cluster file.
    pub(super) async fn of(name: &str, address: &str, ssh: Ssh, settings: &SshSettings) -> Result<Self, AccessError> {
        Self::resolve(name, address, ssh, settings, Unsaid::Root, 0).await
    }

    async fn resolve(
        name: &str,
        address: &str,
        ssh: Ssh,
        settings: &SshSettings,
        unsaid: Unsaid,
        depth: usize,
    ) -> Result<Self, AccessError> {
        let refused = |why: String| AccessError::Refused { whom: name.to_owned(), why };
        if depth > JUMPS_MAX {
            return Err(refused(format!("more than {JUMPS_MAX} hosts are to be gone through, perhaps in a circle")));
        }
        let question = Question { host: address, user: ssh.user.as_deref(), port: ssh.port, unsaid };
        let configured = settings.config_of(&ssh).ask(question).await.map_err(refused)?;
        let asked = configured.is_some();
        let configured = configured.unwrap_or_default();
        let mut endpoint = Self::plain(name, address, &ssh, &configured);
        let tokens = endpoint.tokens(address, settings);
        endpoint.keys = keys(&ssh, &configured, asked, settings, &tokens).map_err(refused)?;
        endpoint.known_hosts = known_hosts(&ssh, &configured, asked, settings, &tokens).map_err(refused)?;
        let (jumps, jumps_unsaid) = match (&ssh.jump, &configured.proxy_jump) {
            (Some(own), _) => (Some(own.clone()), Unsaid::Root),
            (None, theirs) => (theirs.clone(), Unsaid::LocalName),
        };
        endpoint.origin = origin(address, &ssh, &configured, &endpoint, jumps.as_deref());
        endpoint.via = match (jumps.filter(|jumps| jumps != NO_FILE), &configured.proxy_command) {
            (Some(jumps), _) => Box::pin(Self::through(name, &jumps, &ssh, settings, jumps_unsaid, depth)).await?,
            (None, Some(command)) if ssh.jump.is_none() => Via::Command(tokens.expand(command).map_err(refused)?),
            (None, _) => Via::Straight,
        };
        Ok(endpoint)
    }

    fn plain(name: &str, address: &str, ssh: &Ssh, configured: &Configured) -> Self {
        let hostname = configured.hostname.clone().unwrap_or_else(|| address.to_owned());
        let port = ssh.port.or(configured.port).unwrap_or(DEFAULT_PORT);
        // As OpenSSH does: an alias stands without a port.
        let known_as = match &configured.host_key_alias {
            Some(alias) => (alias.clone(), DEFAULT_PORT),
            None => (hostname.clone(), port),
        };
        Self {
            name: name.to_owned(),
            address: hostname,
            port,
            user: ssh.user.clone().or_else(|| configured.user.clone()).unwrap_or_else(|| "root".to_owned()),
            keys: Keys::default(),
            pin: ssh.host_key.clone(),
            known_hosts: Vec::new(),
            known_as,
            via: Via::Straight,
            origin: String::new(),
        }
    }

    /// The way through `jumps`, the nearest first. The pin is the target's own and says nothing about a jump host.
    async fn through(
        name: &str,
        jumps: &str,
        ssh: &Ssh,
        settings: &SshSettings,
        unsaid: Unsaid,
        depth: usize,
    ) -> Result<Via, AccessError> {
        let (before, last) = match jumps.rsplit_once(',') {
            Some((before, last)) => (Some(before.to_owned()), last),
            None => (None, jumps),
        };
        let jump = Jump::parse(last).map_err(|why| AccessError::Refused {
            whom: name.to_owned(),
            why: format!("`jump: \"{jumps}\"` is not `user@host:port`: {why}"),
        })?;
        let of_jump = Ssh {
            user: jump.user.map(str::to_owned),
            port: jump.port,
            // The first of a chain may have a way of its own in OpenSSH's configuration.
            jump: before,
            host_key: None,
            ..ssh.clone()
        };
        let whom = format!("jump host {} of {name}", jump.address);
        let mut endpoint = Self::resolve(&whom, jump.address, of_jump, settings, unsaid, depth + 1).await?;
        // A bastion often has a key of its own; the cluster file's is only the first that is tried there.
        endpoint.keys.key_alone = false;
        Ok(Via::Jump(Box::new(endpoint)))
    }

    fn tokens(&self, original: &str, settings: &SshSettings) -> Tokens {
        Tokens {
            home: settings.home.display().to_string(),
            hostname: self.address.clone(),
            original: original.to_owned(),
            key_name: self.known_as.0.clone(),
            port: self.port,
            user: self.user.clone(),
        }
    }

    pub(super) fn unreachable(&self, why: impl ToString) -> AccessError {
        AccessError::Unreachable { whom: self.name.clone(), why: self.with_origin(why.to_string()) }
    }

    pub(super) fn refused(&self, why: String) -> AccessError {
        AccessError::Refused { whom: self.name.clone(), why: self.with_origin(why) }
    }

    pub(super) fn place(&self) -> String {
        format!("{}:{}", self.address, self.port)
    }

    fn with_origin(&self, why: String) -> String {
        if self.origin.is_empty() { why } else { format!("{why} [{}]", self.origin) }
    }
}

impl<'a> Jump<'a> {
    fn parse(text: &'a str) -> Result<Self, &'static str> {
        let text = text.strip_prefix("ssh://").unwrap_or(text).trim();
        let (user, place) = match text.rsplit_once('@') {
            Some((user, place)) => (Some(user), place),
            None => (None, text),
        };
        let (address, port) = match place.rsplit_once(':') {
            Some((address, port)) if !address.contains(':') || address.ends_with(']') => {
                (address, Some(port.parse().map_err(|_| "the port is not a number")?))
            }
            _ => (place, None),
        };
        let address = address.trim_start_matches('[').trim_end_matches(']');
        if user == Some("") || address.is_empty() {
            return Err("a part is empty");
        }
        Ok(Self { user, address, port })
    }
}

fn keys(
    ssh: &Ssh,
    configured: &Configured,
    asked: bool,
    settings: &SshSettings,
    tokens: &Tokens,
) -> Result<Keys, String> {
    let files: Result<Vec<PathBuf>, String> = match asked {
        true => configured.identity_files.iter().map(|file| tokens.path(file)).collect(),
        false => Ok(settings.identities.clone()),
    };
    let agent = match configured.identity_agent.as_deref() {
        None | Some("SSH_AUTH_SOCK") => settings.agent.clone(),
        Some(NO_FILE) => None,
        // `$NAME`, or a path.
        Some(text) => match text.strip_prefix('$').filter(|name| !name.starts_with('{')) {
            Some(name) => std::env::var_os(name).map(PathBuf::from),
            None => Some(tokens.path(text)?),
        },
    };
    let (key, key_alone) = (ssh.key.clone(), ssh.key.is_some());
    Ok(Keys { key, key_alone, files: files?, only_files: configured.identities_only, agent })
}

fn known_hosts(
    ssh: &Ssh,
    configured: &Configured,
    asked: bool,
    settings: &SshSettings,
    tokens: &Tokens,
) -> Result<Vec<PathBuf>, String> {
    let theirs: Result<Vec<PathBuf>, String> = match asked {
        true => {
            let texts = configured.user_known_hosts.iter().chain(&configured.global_known_hosts);
            texts.filter(|text| *text != NO_FILE).map(|text| tokens.path(text)).collect()
        }
        false => Ok(settings.known_hosts.clone()),
    };
    Ok(ssh.known_hosts.iter().cloned().chain(theirs?).collect())
}

/// `user deploy, port 2222, through bastion: /home/ann/.ssh/config:3`.
fn origin(asked: &str, ssh: &Ssh, configured: &Configured, endpoint: &Endpoint, jumps: Option<&str>) -> String {
    let mut said = Vec::new();
    // `root` may be ours: it is what stands last when nothing is said.
    if ssh.user.is_none() && endpoint.user != "root" && configured.user.is_some() {
        said.push(format!("user {}", endpoint.user));
    }
    if ssh.port.is_none() && endpoint.port != DEFAULT_PORT {
        said.push(format!("port {}", endpoint.port));
    }
    said.extend(configured.hostname.iter().filter(|name| *name != asked).map(|name| format!("address {name}")));
    if ssh.jump.is_none() {
        said.extend(jumps.map(|jumps| format!("through {jumps}")));
        said.extend(configured.proxy_command.iter().map(|_| "through ProxyCommand".to_owned()));
    }
    said.extend(configured.host_key_alias.iter().map(|alias| format!("host key of {alias}")));
    if said.is_empty() { String::new() } else { format!("{}: {}", said.join(", "), configured.places.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jump_host_is_read_with_and_without_its_parts() {
        let read = |text| Jump::parse(text).map(|jump| (jump.user, jump.address, jump.port));
        assert_eq!(read("bastion"), Ok((None, "bastion", None)));
        assert_eq!(read("ann@bastion:2222"), Ok((Some("ann"), "bastion", Some(2222))));
        assert_eq!(read("ann@[fd00::1]:22"), Ok((Some("ann"), "fd00::1", Some(22))));
        assert_eq!(read("fd00::1"), Ok((None, "fd00::1", None)));
        assert!(read("@bastion").is_err() && read("bastion:ssh").is_err() && read("").is_err());
    }
}
