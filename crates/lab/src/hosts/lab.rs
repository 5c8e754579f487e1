//! A lab: hosts that are made together, driven one by one, and removed together.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::cgroup::Cgroup;
use super::command::must;
use super::disk::{self, DIRECTORY_BYTES};
use super::error::{LabError, file};
use super::network::{self, OPERATOR, Subnet};
use super::spec::{Extent, LabName, Spec, SpecError};
use super::turn::{self, Turn};
use super::{Host, available, cluster_file, down, s3};

/// ssh-keygen takes a few milliseconds, unless the machine has no randomness yet.
const KEYGEN_DEADLINE: Duration = Duration::from_secs(60);
const STATE_FILE: &str = "lab.json";

/// What is remembered of a lab, for whoever drives it later.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Plan {
    spec: Spec,
    subnet: Subnet,
}

/// A lab. Dropping it removes it, unless it was [kept](Lab::keep) or [opened](Lab::open).
#[derive(Debug)]
pub struct Lab {
    plan: Plan,
    cgroup: Cgroup,
    on_drop: OnDrop,
    /// Ends after the lab has been removed: fields are dropped after `Drop::drop`.
    turn: Option<Turn>,
}

#[derive(Debug, PartialEq, Eq)]
enum OnDrop {
    Remove,
    Keep,
}

impl Lab {
    /// Makes a lab, and returns when every host has booted and RKE2 has got as far as was asked.
    /// What was made is removed when this fails.
    pub fn up(spec: &Spec) -> Result<Self, LabError> {
        available().map_err(LabError::Unavailable)?;
        spec.check()?;
        let lab = Self::make(spec)?;
        for host in lab.hosts() {
            host.make_disk()?;
            host.power_on()?;
        }
        for host in lab.hosts() {
            host.await_boot()?;
        }
        lab.write_known_hosts()?;
        cluster_file::write(&lab)?;
        if lab.plan.spec.extent >= Extent::Installed {
            lab.install_rke2()?;
        }
        if lab.plan.spec.extent >= Extent::Running {
            lab.start_rke2()?;
        }
        Ok(lab)
    }

    /// A lab that is there, made by another process.
    pub fn open(name: &LabName) -> Result<Self, LabError> {
        let dir = down::directory(name)?.ok_or_else(|| LabError::Absent(name.clone()))?;
        let path = dir.join(STATE_FILE);
        let failed = |source| LabError::File { what: "read", path: path.clone(), source };
        let text = fs::read(&path).map_err(failed)?;
        let plan = serde_json::from_slice(&text).map_err(|error| failed(error.into()))?;
        let cgroup = Cgroup::of(name).ok_or_else(|| LabError::Absent(name.clone()))?;
        Ok(Self { plan, cgroup, on_drop: OnDrop::Keep, turn: None })
    }

    /// Leaves the lab there when this is dropped.
    pub fn keep(mut self) -> Self {
        self.on_drop = OnDrop::Keep;
        self
    }

    /// Removes the lab.
    pub fn down(mut self) -> Result<(), LabError> {
        self.on_drop = OnDrop::Keep;
        down::down(&self.plan.spec.name, &self.plan.spec.dir)
    }

    /// Holds a test's turn until the lab has been removed.
    pub(super) fn in_turn(mut self, turn: Turn) -> Self {
        self.turn = Some(turn);
        self
    }

    /// What lab it is.
    pub fn spec(&self) -> &Spec {
        &self.plan.spec
    }

    /// Its network.
    pub fn subnet(&self) -> Subnet {
        self.plan.subnet
    }

    /// Its directory.
    pub fn dir(&self) -> &Path {
        &self.plan.spec.dir
    }

    /// The private key that may log in as root on every host.
    pub fn key(&self) -> PathBuf {
        self.dir().join("id_ed25519")
    }

    /// The host keys, as they were when the lab was made: a machine that was replaced shows another.
    pub fn known_hosts(&self) -> PathBuf {
        self.dir().join("known_hosts")
    }

    /// The cluster file, for `rke2flow --cluster`.
    pub fn cluster_file(&self) -> PathBuf {
        self.dir().join("cluster.ron")
    }

    /// What all hosts see as `/srv/lab`.
    pub fn shared(&self) -> PathBuf {
        self.dir().join("shared")
    }

    /// A host.
    pub fn host(&self, name: &str) -> Result<Host<'_>, LabError> {
        let role = self.plan.spec.role(name).ok_or_else(|| SpecError::Host(name.to_owned()))?;
        Ok(Host { lab: self, name: name.to_owned(), role, cgroup: self.cgroup.child(name) })
    }

    /// Every host, servers first.
    pub fn hosts(&self) -> Vec<Host<'_>> {
        let names = self.plan.spec.host_names();
        names.iter().filter_map(|name| self.host(name).ok()).collect()
    }

    /// A host's address.
    pub fn address(&self, host: &str) -> Result<String, LabError> {
        let address = self.plan.subnet.host(&self.plan.spec, host);
        Ok(address.ok_or_else(|| SpecError::Host(host.to_owned()))?)
    }

    /// Cuts the operator off: no packet between this machine and the lab. The hosts still reach each other.
    pub fn cut_operator(&self) -> Result<(), LabError> {
        Ok(network::cut(&self.plan.spec.name, OPERATOR)?)
    }

    /// Connects the operator again.
    pub fn heal_operator(&self) -> Result<(), LabError> {
        Ok(network::heal(&self.plan.spec.name, OPERATOR)?)
    }

    /// Cuts the S3 endpoint off from everybody.
    pub fn cut_s3(&self) -> Result<(), LabError> {
        Ok(network::cut(&self.plan.spec.name, s3::PORT_NAME)?)
    }

    /// Connects the S3 endpoint again, with the objects that it had.
    pub fn heal_s3(&self) -> Result<(), LabError> {
        Ok(network::heal(&self.plan.spec.name, s3::PORT_NAME)?)
    }

    /// Trusts the hosts as they are now.
    pub fn write_known_hosts(&self) -> Result<(), LabError> {
        let mut text = String::new();
        for host in self.hosts() {
            let (address, key) = (self.address(host.name())?, host.host_key()?);
            text.push_str(&format!("{address} {key}\n"));
        }
        write(&self.known_hosts(), &text)
    }

    /// Everything that the hosts share: the directory, the keys, the network.
    fn make(spec: &Spec) -> Result<Self, LabError> {
        let cgroup =
            Cgroup::of(&spec.name).ok_or_else(|| LabError::Unavailable("cgroup2 is not mounted".to_owned()))?;
        let lock = turn::network()?;
        if down::names()?.contains(&spec.name) {
            return Err(LabError::Exists(spec.name.clone()));
        }
        let dir = own_directory(&spec.dir)?;
        let spec = Spec { dir, ..spec.clone() };
        let subnet = Subnet::free()?.ok_or(LabError::NoSubnet)?;
        // From here on there is something to remove.
        let lab = Self { plan: Plan { spec, subnet }, cgroup, on_drop: OnDrop::Remove, turn: None };
        let (name, dir) = (&lab.plan.spec.name, lab.dir());
        disk::mount_tmpfs(&name.prefix(), dir, DIRECTORY_BYTES).map_err(file("mount a tmpfs on", dir))?;
        network::make_switch(name, subnet)?;
        drop(lock);
        let state = serde_json::to_string_pretty(&lab.plan).map_err(|error| file("write", dir)(error.into()))?;
        write(&dir.join(STATE_FILE), &state)?;
        fs::create_dir_all(lab.shared()).map_err(file("make", &lab.shared()))?;
        generate_key(&lab.key(), &format!("operator of lab {name}"))?;
        lab.cgroup.make().map_err(file("make the cgroup", lab.cgroup.path()))?;
        for host in lab.plan.spec.host_names() {
            network::make_host(name, &host, &lab.address(&host)?)?;
        }
        if lab.plan.spec.extent >= Extent::Installed {
            s3::start(&lab)?;
            lab.share_rke2()?;
        }
        Ok(lab)
    }

    /// The cgroup of all its processes.
    pub(super) fn cgroup(&self) -> &Cgroup {
        &self.cgroup
    }

    /// `/etc/hosts` of its hosts.
    pub(super) fn etc_hosts(&self) -> String {
        let mut text = "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n".to_owned();
        for host in self.plan.spec.host_names() {
            let address = self.plan.subnet.host(&self.plan.spec, &host).unwrap_or_default();
            text.push_str(&format!("{address} {host}\n"));
        }
        text + &format!("{} {}\n", self.plan.subnet.s3(), s3::PORT_NAME)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if self.on_drop == OnDrop::Remove
            && let Err(error) = down::down(&self.plan.spec.name, &self.plan.spec.dir)
        {
            eprintln!("lab `{}` is not removed: {error}", self.plan.spec.name);
        }
    }
}

fn own_directory(dir: &Path) -> Result<PathBuf, LabError> {
    fs::create_dir_all(dir).map_err(file("make", dir))?;
    let dir = dir.canonicalize().map_err(file("find", dir))?;
    if fs::read_dir(&dir).map_err(file("read", &dir))?.next().is_some() {
        return Err(LabError::NotEmpty(dir));
    }
    Ok(dir)
}

/// Makes an SSH key pair without a passphrase.
pub(super) fn generate_key(path: &Path, comment: &str) -> Result<(), LabError> {
    let mut keygen = Command::new("ssh-keygen");
    keygen.args(["-q", "-t", "ed25519", "-N", "", "-C", comment, "-f"]).arg(path);
    must(&mut keygen, b"", KEYGEN_DEADLINE)?;
    Ok(())
}

/// Writes a file of the lab's directory, which nobody but root can enter.
pub(super) fn write(path: &Path, text: &str) -> Result<(), LabError> {
    fs::write(path, text).map_err(file("write", path))
}
