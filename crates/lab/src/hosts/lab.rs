//! A lab: hosts that are made together, driven one by one, and removed together.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::cgroup::Cgroup;
use super::command::{CommandError, Output, must};
use super::disk::{self, DIRECTORY_BYTES, DISK_BYTES};
use super::network::{self, OPERATOR, Subnet};
use super::spec::{LabName, Spec, SpecError};
use super::turn::{self, Turn};
use super::{available, boot, down};

/// How long a host may take to boot. It takes 2 s on an idle machine, and labs are made on busy ones.
const BOOT_DEADLINE: Duration = Duration::from_secs(60);
/// How long a command on a host has, unless it is told otherwise.
const EXEC_DEADLINE: Duration = Duration::from_secs(60);
const TICK: Duration = Duration::from_millis(50);
/// What is shown of a host's console and journal when it does not do what it should.
const TAIL_LINES: usize = 25;
const STATE_FILE: &str = "lab.json";

/// Why a lab, or a host of it, is not as it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// There can be no lab on this machine.
    #[error("a lab cannot be made here: {0}")]
    Unavailable(String),
    /// No such lab, or no such host.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// The name is taken.
    #[error("there is a lab `{0}` already: `rke2flow-lab --name {0} down` removes it")]
    Exists(LabName),
    /// The name is free.
    #[error("there is no lab `{0}`: `rke2flow-lab --name {0} up` makes it")]
    Absent(LabName),
    /// Somebody makes it as fast as it is removed.
    #[error("lab `{0}` is made again while it is removed: end its `rke2flow-lab up` first")]
    Remade(LabName),
    /// The directory has something in it.
    #[error("{} is not empty: a lab wants a directory of its own", _0.display())]
    NotEmpty(PathBuf),
    /// All of 10.77.0.0/16 and 10.78.0.0/16 lead somewhere.
    #[error("no free network: every /24 of 10.77.0.0/16 and 10.78.0.0/16 is taken")]
    NoSubnet,
    /// A file or directory.
    #[error("cannot {what} {}: {source}", path.display())]
    File {
        /// What was tried.
        what: &'static str,
        /// With what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A program.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// Something did not come in time.
    #[error("waited {seconds} s for {what}{seen}")]
    Waited {
        /// For what.
        what: String,
        /// How long.
        seconds: u64,
        /// What there was instead, on lines of its own.
        seen: String,
    },
}

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

/// One host of a lab.
#[derive(Debug, Clone)]
pub struct Host<'a> {
    lab: &'a Lab,
    name: String,
    cgroup: Cgroup,
}

impl Lab {
    /// Makes a lab, and returns when every host has booted. What was made is removed when this fails.
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

    /// What all hosts see as `/srv/lab`.
    pub fn shared(&self) -> PathBuf {
        self.dir().join("shared")
    }

    /// A host.
    pub fn host(&self, name: &str) -> Result<Host<'_>, LabError> {
        self.plan.spec.role(name).ok_or_else(|| SpecError::Host(name.to_owned()))?;
        Ok(Host { lab: self, name: name.to_owned(), cgroup: self.cgroup.child(name) })
    }

    /// Every host, servers first.
    pub fn hosts(&self) -> Vec<Host<'_>> {
        let names = self.plan.spec.host_names();
        names.into_iter().map(|name| Host { lab: self, cgroup: self.cgroup.child(&name), name }).collect()
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
        Ok(lab)
    }

    fn etc_hosts(&self) -> String {
        let mut text = "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n".to_owned();
        for host in self.plan.spec.host_names() {
            let address = self.plan.subnet.host(&self.plan.spec, &host).unwrap_or_default();
            text.push_str(&format!("{address} {host}\n"));
        }
        text + &format!("{} s3\n", self.plan.subnet.s3())
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

impl Host<'_> {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether its systemd lives.
    pub fn is_on(&self) -> bool {
        self.cgroup.init().is_some()
    }

    /// Whether its cable is in.
    pub fn is_connected(&self) -> Result<bool, LabError> {
        Ok(network::connected(&self.lab.plan.spec.name, &self.name)?)
    }

    /// Runs a shell command as root, whether or not the network is there; 60 s at most.
    pub fn exec(&self, script: &str) -> Result<Output, LabError> {
        self.exec_within(script, b"", EXEC_DEADLINE)
    }

    /// The same with standard input and another deadline.
    pub fn exec_within(&self, script: &str, input: &[u8], deadline: Duration) -> Result<Output, LabError> {
        Ok(boot::run_inside(&self.cgroup, script, input, deadline)?)
    }

    /// Runs a shell command that must exit with 0, and returns what it says.
    pub fn must(&self, script: &str) -> Result<String, LabError> {
        let Output { status, stdout, stderr } = self.exec(script)?;
        if status == Some(0) {
            return Ok(stdout);
        }
        let command = format!("{}: {script}", self.name);
        Err(CommandError::Failed { command, status, stdout, stderr }.into())
    }

    /// Pulls its cable: packets are lost without a word.
    pub fn cut(&self) -> Result<(), LabError> {
        Ok(network::cut(&self.lab.plan.spec.name, &self.name)?)
    }

    /// Puts the cable in again.
    pub fn heal(&self) -> Result<(), LabError> {
        Ok(network::heal(&self.lab.plan.spec.name, &self.name)?)
    }

    /// Takes the power away: every process is killed at once. What was written is there at the next boot, flushed or
    /// not: the page cache is the machine's.
    pub fn stop(&self) -> Result<(), LabError> {
        self.cgroup.remove().map_err(file("end the processes in", self.cgroup.path()))
    }

    /// Turns it on with its disk, and returns when sshd listens. Nothing happens when it is on.
    pub fn boot(&self) -> Result<(), LabError> {
        if !self.is_on() {
            // A host whose systemd has ended by itself, as after `poweroff`, leaves its cgroup.
            self.stop()?;
            self.power_on()?;
        }
        self.await_boot()
    }

    /// Puts a new machine in its place: the same name and address, an empty disk, a new host key and machine-id. The
    /// lab's `known_hosts` still has the old key, as the operator's has.
    pub fn replace(&self) -> Result<(), LabError> {
        self.stop()?;
        let disk = self.dir().join("disk");
        disk::detach(&disk).map_err(file("unmount", &disk))?;
        self.make_disk()?;
        self.power_on()?;
        self.await_boot()
    }

    /// Bytes of memory that its processes and its disk take; the former is `None` where cgroups do not count memory.
    pub fn disk_bytes(&self) -> Result<u64, LabError> {
        let disk = self.dir().join("disk");
        let stat = rustix::fs::statvfs(&disk).map_err(|error| file("measure", &disk)(error.into()))?;
        Ok((stat.f_blocks - stat.f_bfree) * stat.f_frsize)
    }

    /// Every process on it, as this machine counts them.
    pub fn processes(&self) -> Vec<u32> {
        self.cgroup.processes()
    }

    /// The last lines of its console and its journal, whether or not it is on.
    pub fn tail(&self) -> String {
        let console = fs::read_to_string(self.dir().join("console.log")).unwrap_or_default();
        let journal = self.dir().join("disk/upper/var/log/journal");
        let mut journalctl = Command::new("journalctl");
        journalctl.args(["--no-pager", "--quiet", "-n", &TAIL_LINES.to_string(), "--directory"]).arg(journal);
        let journal = match must(&mut journalctl, b"", EXEC_DEADLINE) {
            Ok(journal) => journal,
            Err(error) => error.to_string(),
        };
        let lines: Vec<_> = console.lines().collect();
        let console = lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n");
        format!("\nconsole of {}:\n{console}\njournal of {}:\n{journal}", self.name, self.name)
    }

    fn dir(&self) -> PathBuf {
        self.lab.dir().join("hosts").join(&self.name)
    }

    fn host_key(&self) -> Result<String, LabError> {
        let path = self.dir().join("disk/upper/etc/ssh/ssh_host_ed25519_key.pub");
        let text = fs::read_to_string(&path).map_err(file("read", &path))?;
        Ok(text.split_whitespace().take(2).collect::<Vec<_>>().join(" "))
    }

    fn make_disk(&self) -> Result<(), LabError> {
        let disk = self.dir().join("disk");
        disk::mount_tmpfs(&self.lab.plan.spec.name.prefix(), &disk, DISK_BYTES)
            .map_err(file("mount a tmpfs on", &disk))?;
        let operator = self.lab.key().with_extension("pub");
        let operator = fs::read_to_string(&operator).map_err(file("read", &operator))?;
        let machine_id = machine_id()?;
        let hosts = self.lab.etc_hosts();
        let identity = disk::Identity { name: &self.name, hosts: &hosts, operator: &operator, machine_id: &machine_id };
        let root = disk::write(&disk, &identity).map_err(file("write the disk", &disk))?;
        generate_key(&root.join("etc/ssh/ssh_host_ed25519_key"), &format!("root@{}", self.name))
    }

    fn power_on(&self) -> Result<(), LabError> {
        let namespace = network::namespace(&self.lab.plan.spec.name, &self.name);
        let dir = self.dir();
        boot::power_on(&self.name, &namespace, &self.cgroup, &dir, &self.lab.shared()).map_err(file("boot from", &dir))
    }

    fn await_boot(&self) -> Result<(), LabError> {
        let until = Instant::now() + BOOT_DEADLINE;
        loop {
            let asked = self.exec("systemctl is-active ssh.service");
            if asked.is_ok_and(|answer| answer.success()) {
                return Ok(());
            }
            if Instant::now() >= until {
                let what = format!("{} to boot (ssh.service active)", self.name);
                return Err(LabError::Waited { what, seconds: BOOT_DEADLINE.as_secs(), seen: self.tail() });
            }
            std::thread::sleep(TICK);
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

fn generate_key(path: &Path, comment: &str) -> Result<(), LabError> {
    let mut keygen = Command::new("ssh-keygen");
    keygen.args(["-q", "-t", "ed25519", "-N", "", "-C", comment, "-f"]).arg(path);
    must(&mut keygen, b"", EXEC_DEADLINE)?;
    Ok(())
}

fn machine_id() -> Result<String, LabError> {
    let path = Path::new("/proc/sys/kernel/random/uuid");
    let uuid = fs::read_to_string(path).map_err(file("read", path))?;
    Ok(uuid.chars().filter(char::is_ascii_hexdigit).collect())
}

fn write(path: &Path, text: &str) -> Result<(), LabError> {
    fs::write(path, text).map_err(file("write", path))
}

fn file(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> LabError {
    let path = path.to_owned();
    move |source| LabError::File { what, path, source }
}
