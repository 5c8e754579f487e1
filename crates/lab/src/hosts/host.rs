//! One host of a lab: commands, cable, power.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use super::cgroup::Cgroup;
use super::command::{CommandError, Output, must, run};
use super::disk::{self, DISK_BYTES};
use super::error::{LabError, file};
use super::lab::{Lab, generate_key};
use super::spec::Role;
use super::{boot, network};

/// How long a host may take to boot. It takes a second on an idle machine, and labs are made on busy ones.
const BOOT_DEADLINE: Duration = Duration::from_secs(60);
/// How long a command on a host has, unless it is told otherwise.
const EXEC_DEADLINE: Duration = Duration::from_secs(60);
const TICK: Duration = Duration::from_millis(50);
/// What is shown of a host's console and journal when it does not do what it should.
const TAIL_LINES: usize = 25;

/// One host of a lab.
#[derive(Debug, Clone)]
pub struct Host<'a> {
    pub(super) lab: &'a Lab,
    pub(super) name: String,
    pub(super) role: Role,
    pub(super) cgroup: Cgroup,
}

impl Host<'_> {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it is for.
    pub fn role(&self) -> Role {
        self.role
    }

    /// Its address.
    pub fn address(&self) -> Result<String, LabError> {
        self.lab.address(&self.name)
    }

    /// Whether its systemd lives.
    pub fn is_on(&self) -> bool {
        self.cgroup.init().is_some()
    }

    /// Whether its cable is in.
    pub fn is_connected(&self) -> Result<bool, LabError> {
        Ok(network::connected(&self.lab.spec().name, &self.name)?)
    }

    /// Runs a shell command as root, whether or not the network is there; 60 s at most.
    pub fn exec(&self, script: &str) -> Result<Output, LabError> {
        self.exec_within(script, b"", EXEC_DEADLINE)
    }

    /// The same with standard input and another deadline.
    pub fn exec_within(&self, script: &str, input: &[u8], deadline: Duration) -> Result<Output, LabError> {
        Ok(run(&mut self.shell(script)?, input, deadline)?)
    }

    /// The same as a command to be run by the caller, who may give it a terminal.
    pub fn shell(&self, script: &str) -> Result<Command, LabError> {
        boot::inside(&self.cgroup, script).ok_or_else(|| LabError::Off(self.name.clone()))
    }

    /// Runs a shell command that must exit with 0, and returns what it says.
    pub fn must(&self, script: &str) -> Result<String, LabError> {
        self.must_within(script, b"", EXEC_DEADLINE)
    }

    /// The same with standard input and another deadline.
    pub fn must_within(&self, script: &str, input: &[u8], deadline: Duration) -> Result<String, LabError> {
        let Output { status, stdout, stderr } = self.exec_within(script, input, deadline)?;
        if status == Some(0) {
            return Ok(stdout);
        }
        let command = format!("{}: {script}", self.name);
        Err(CommandError::Failed { command, status, stdout, stderr }.into())
    }

    /// Pulls its cable: packets are lost without a word.
    pub fn cut(&self) -> Result<(), LabError> {
        Ok(network::cut(&self.lab.spec().name, &self.name)?)
    }

    /// Puts the cable in again.
    pub fn heal(&self) -> Result<(), LabError> {
        Ok(network::heal(&self.lab.spec().name, &self.name)?)
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

    /// Bytes of memory that its disk takes.
    pub fn disk_bytes(&self) -> Result<u64, LabError> {
        let disk = self.dir().join("disk");
        let stat = rustix::fs::statvfs(&disk).map_err(|error| file("measure", &disk)(error.into()))?;
        Ok((stat.f_blocks - stat.f_bfree) * stat.f_frsize)
    }

    /// Bytes of memory that its processes take; what several share is divided among them.
    pub fn memory_bytes(&self) -> u64 {
        let private = |pid: u32| {
            let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
            let lines = rollup.lines().filter(|line| line.starts_with("Pss:"));
            lines.filter_map(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok()).sum::<u64>() << 10
        };
        self.processes().into_iter().map(private).sum()
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

    /// Its host key, as known_hosts has it.
    pub(super) fn host_key(&self) -> Result<String, LabError> {
        let path = self.dir().join("disk/upper/etc/ssh/ssh_host_ed25519_key.pub");
        let text = fs::read_to_string(&path).map_err(file("read", &path))?;
        Ok(text.split_whitespace().take(2).collect::<Vec<_>>().join(" "))
    }

    /// Gives it an empty disk.
    pub(super) fn make_disk(&self) -> Result<(), LabError> {
        let disk = self.dir().join("disk");
        disk::mount_tmpfs(&self.lab.spec().name.prefix(), &disk, DISK_BYTES)
            .map_err(file("mount a tmpfs on", &disk))?;
        let operator = self.lab.key().with_extension("pub");
        let operator = fs::read_to_string(&operator).map_err(file("read", &operator))?;
        let machine_id = machine_id()?;
        let hosts = self.lab.etc_hosts();
        let identity = disk::Identity { name: &self.name, hosts: &hosts, operator: &operator, machine_id: &machine_id };
        let root = disk::write(&disk, &identity).map_err(file("write the disk", &disk))?;
        generate_key(&root.join("etc/ssh/ssh_host_ed25519_key"), &format!("root@{}", self.name))
    }

    /// Turns it on without waiting.
    pub(super) fn power_on(&self) -> Result<(), LabError> {
        let namespace = network::namespace(&self.lab.spec().name, &self.name);
        let dir = self.dir();
        boot::power_on(&self.name, &namespace, &self.cgroup, &dir, &self.lab.shared()).map_err(file("boot from", &dir))
    }

    /// Waits until sshd listens.
    pub(super) fn await_boot(&self) -> Result<(), LabError> {
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

fn machine_id() -> Result<String, LabError> {
    let path = Path::new("/proc/sys/kernel/random/uuid");
    let uuid = fs::read_to_string(path).map_err(file("read", path))?;
    Ok(uuid.chars().filter(char::is_ascii_hexdigit).collect())
}
