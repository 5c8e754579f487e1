//! The lab's network: a switch in a namespace of its own, a cable to each host, and one to the operator.
//!
//! The switch has a namespace so that cutting the operator off leaves the hosts connected, and so that neither
//! addresses nor packet filters of this machine come between them.

use std::process::Command;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::command::{CommandError, must};
use super::spec::{LabName, Role, Spec};

/// `ip` answers at once, unless the machine is very busy.
const IP_DEADLINE: Duration = Duration::from_secs(20);
/// The operator's end of the cable, on the switch.
pub const OPERATOR: &str = "operator";

/// The /24 network of a lab.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subnet {
    /// The second and the third number of `10.a.b.0/24`.
    pub numbers: (u8, u8),
}

impl Subnet {
    const SECOND: [u8; 2] = [77, 78];

    /// An address of it.
    pub fn address(&self, last: u8) -> String {
        let (second, third) = self.numbers;
        format!("10.{second}.{third}.{last}")
    }

    /// The operator's address.
    pub fn operator(&self) -> String {
        self.address(1)
    }

    /// The S3 endpoint's address.
    pub fn s3(&self) -> String {
        self.address(2)
    }

    /// A host's address: servers from .10, agents from .20.
    pub fn host(&self, spec: &Spec, host: &str) -> Option<String> {
        let number: u8 = host.rsplit_once('-')?.1.parse().ok()?;
        let last = match spec.role(host)? {
            Role::Server => 10 + number,
            Role::Agent => 20 + number,
        };
        Some(self.address(last))
    }

    /// The first that no route of this machine leads into. Whoever asks holds the lock until the address is given.
    pub fn free() -> Result<Option<Self>, CommandError> {
        let routes = must(Command::new("ip").args(["-4", "route", "show", "table", "all"]), b"", IP_DEADLINE)?;
        let taken: Vec<(u32, u32)> = routes.lines().filter_map(network_of).collect();
        let all = Self::SECOND.iter().flat_map(|second| (0..=255).map(|third| Self { numbers: (*second, third) }));
        Ok(all.into_iter().find(|subnet| {
            let own = u32::from_be_bytes([10, subnet.numbers.0, subnet.numbers.1, 0]);
            !taken.iter().any(|(network, mask)| {
                let both = mask & 0xffff_ff00;
                network & both == own & both
            })
        }))
    }
}

/// Network and mask of a route's line; `None` for the default route, which leads everywhere.
fn network_of(line: &str) -> Option<(u32, u32)> {
    const KINDS: [&str; 7] = ["local", "broadcast", "multicast", "unreachable", "blackhole", "prohibit", "throw"];
    let destination = line.split_whitespace().find(|word| !KINDS.contains(word))?;
    let (address, length) = destination.split_once('/').unwrap_or((destination, "32"));
    let address: std::net::Ipv4Addr = address.parse().ok()?;
    let length: u32 = length.parse().ok().filter(|length| (1..=32).contains(length))?;
    Some((u32::from(address), u32::MAX << (32 - length)))
}

/// The network namespace of a host, or of the switch when `host` is empty.
pub fn namespace(lab: &LabName, host: &str) -> String {
    if host.is_empty() { lab.prefix() } else { format!("{}-{host}", lab.prefix()) }
}

/// Makes the switch and the operator's cable. After this the subnet is taken.
pub fn make_switch(lab: &LabName, subnet: Subnet) -> Result<(), CommandError> {
    let (prefix, switch) = (lab.prefix(), namespace(lab, ""));
    let operator = subnet.operator();
    batch(
        None,
        &format!(
            "netns add {switch}\nlink add {prefix} type veth peer name {OPERATOR} netns {switch}\n\
             address add {operator}/24 dev {prefix}\nlink set {prefix} up\n"
        ),
    )?;
    batch(
        Some(&switch),
        &format!("link add lab type bridge\nlink set lab up\nlink set lo up\nlink set {OPERATOR} master lab up\n"),
    )
}

/// Makes a host's namespace with its cable to the switch.
pub fn make_host(lab: &LabName, host: &str, address: &str) -> Result<(), CommandError> {
    let (switch, own) = (namespace(lab, ""), namespace(lab, host));
    batch(None, &format!("netns add {own}\n"))?;
    batch(
        Some(&switch),
        &format!("link add {host} type veth peer name eth0 netns {own}\nlink set {host} master lab up\n"),
    )?;
    batch(Some(&own), &format!("address add {address}/24 dev eth0\nlink set lo up\nlink set eth0 up\n"))
}

/// Pulls a cable out of the switch: a host's, or [`OPERATOR`]'s. Packets are lost without a word.
pub fn cut(lab: &LabName, port: &str) -> Result<(), CommandError> {
    batch(Some(&namespace(lab, "")), &format!("link set {port} down\n"))
}

/// Puts it in again.
pub fn heal(lab: &LabName, port: &str) -> Result<(), CommandError> {
    batch(Some(&namespace(lab, "")), &format!("link set {port} up\n"))
}

/// Whether a cable is in.
pub fn connected(lab: &LabName, port: &str) -> Result<bool, CommandError> {
    let switch = namespace(lab, "");
    let shown = must(Command::new("ip").args(["-n", &switch, "-o", "link", "show", port]), b"", IP_DEADLINE)?;
    let flags = shown.split_once('<').and_then(|(_, rest)| rest.split_once('>')).map_or("", |(flags, _)| flags);
    Ok(flags.split(',').any(|flag| flag == "UP"))
}

/// Every network namespace of any lab.
pub fn namespaces() -> Result<Vec<String>, CommandError> {
    let listed = must(Command::new("ip").args(["netns", "list"]), b"", IP_DEADLINE)?;
    let names = listed.lines().filter_map(|line| line.split_whitespace().next());
    Ok(names.filter(|name| LabName::of(name).is_some()).map(str::to_owned).collect())
}

/// Removes a namespace and every cable that ends in it.
pub fn remove_namespace(name: &str) -> Result<(), CommandError> {
    must(Command::new("ip").args(["netns", "delete", name]), b"", IP_DEADLINE).map(drop)
}

/// Every interface of this machine that is an operator's end.
pub fn operators() -> Result<Vec<String>, CommandError> {
    let listed = must(Command::new("ip").args(["-o", "link", "show", "type", "veth"]), b"", IP_DEADLINE)?;
    let names = listed.lines().filter_map(|line| line.split(": ").nth(1)?.split('@').next());
    Ok(names.filter(|name| LabName::of(name).is_some()).map(str::to_owned).collect())
}

/// Removes an operator's end, and the other end with it.
pub fn remove_operator(name: &str) -> Result<(), CommandError> {
    must(Command::new("ip").args(["link", "delete", name]), b"", IP_DEADLINE).map(drop)
}

fn batch(namespace: Option<&str>, lines: &str) -> Result<(), CommandError> {
    let mut ip = Command::new("ip");
    if let Some(namespace) = namespace {
        ip.args(["-n", namespace]);
    }
    must(ip.args(["-batch", "-"]), lines.as_bytes(), IP_DEADLINE).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_are_read_as_networks() {
        let network = |line: &str| network_of(line).map(|(network, mask)| (network.to_be_bytes(), mask.count_ones()));
        assert_eq!(network("10.77.3.0/24 dev x proto kernel scope link"), Some(([10, 77, 3, 0], 24)));
        assert_eq!(network("local 10.77.3.1 dev x table local"), Some(([10, 77, 3, 1], 32)));
        assert_eq!(network("10.0.0.0/8 via 1.2.3.4 dev eth0"), Some(([10, 0, 0, 0], 8)));
        assert_eq!(network("default via 1.2.3.4 dev eth0"), None);
        assert_eq!(network("0.0.0.0/0 via 1.2.3.4 dev eth0"), None);
    }

    #[test]
    fn every_host_of_the_largest_lab_has_its_own_address() {
        let spec = Spec::new(LabName::new("a").unwrap()).hosts(9, 50);
        let subnet = Subnet { numbers: (77, 5) };
        let mut all: Vec<_> = spec.host_names().iter().map(|host| subnet.host(&spec, host).unwrap()).collect();
        assert_eq!(all[0], "10.77.5.10");
        all.extend([subnet.operator(), subnet.s3()]);
        let count = all.len();
        all.sort();
        all.dedup();
        assert_eq!(all.len(), count);
    }
}
