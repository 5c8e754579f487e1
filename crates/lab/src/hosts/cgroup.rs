//! The lab's cgroup: every process of the lab is in it, so that none is missed when it ends.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::spec::LabName;

/// How long the kernel may take to end processes that were killed.
const KILL_DEADLINE: Duration = Duration::from_secs(20);
const TICK: Duration = Duration::from_millis(5);

/// Where cgroup2 is mounted: `/sys/fs/cgroup`, or `/sys/fs/cgroup/unified` beside version 1.
pub fn mount() -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
    let mut fields = mounts.lines().map(|line| line.split(' '));
    fields.find_map(|mut line| {
        let (place, kind) = (line.nth(1)?, line.next()?);
        (kind == "cgroup2").then(|| PathBuf::from(place))
    })
}

/// The cgroup of a lab, or of one of its hosts.
#[derive(Debug, Clone)]
pub struct Cgroup(PathBuf);

impl Cgroup {
    /// The lab's own; `None` when cgroup2 is not mounted.
    pub fn of(lab: &LabName) -> Option<Self> {
        Some(Self(mount()?.join(lab.prefix())))
    }

    /// One below it.
    pub fn child(&self, name: &str) -> Self {
        Self(self.0.join(name))
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Makes it.
    pub fn make(&self) -> io::Result<()> {
        fs::create_dir_all(&self.0)
    }

    /// Every process in it and below.
    pub fn processes(&self) -> Vec<u32> {
        let mut all = Vec::new();
        for directory in self.tree() {
            let listed = fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
            all.extend(listed.lines().filter_map(|line| line.parse::<u32>().ok()));
        }
        all
    }

    /// The process that is number 1 of its own namespace, as the machine outside counts it.
    pub fn init(&self) -> Option<u32> {
        self.processes().into_iter().find(|pid| {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            let line = status.lines().find_map(|line| line.strip_prefix("NSpid:")).unwrap_or_default();
            let mut numbers = line.split_whitespace();
            numbers.next_back() == Some("1") && numbers.next_back().is_some()
        })
    }

    /// Kills every process in it, waits until they have ended, and removes it. Nothing happens when it is not there.
    pub fn remove(&self) -> io::Result<()> {
        let until = Instant::now() + KILL_DEADLINE;
        loop {
            if !self.0.exists() {
                return Ok(());
            }
            self.kill();
            // The deepest first. One in which a process is just ending is busy: it goes in the next round.
            for directory in self.tree().iter().rev() {
                let _ = fs::remove_dir(directory);
            }
            if self.0.exists() && Instant::now() >= until {
                let left = self.processes();
                let what = format!("processes {left:?} in {} do not end, although killed", self.0.display());
                return Err(io::Error::new(io::ErrorKind::TimedOut, what));
            }
            std::thread::sleep(TICK);
        }
    }

    fn kill(&self) {
        // Linux 5.14; before it, one by one.
        if fs::write(self.0.join("cgroup.kill"), "1").is_ok() {
            return;
        }
        for pid in self.processes() {
            let pid = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw);
            // It may have ended since it was listed.
            let _ = pid.map(|pid| rustix::process::kill_process(pid, rustix::process::Signal::KILL));
        }
    }

    /// The directory and all below it, parents first.
    fn tree(&self) -> Vec<PathBuf> {
        let mut all = vec![self.0.clone()];
        let mut next = 0;
        while next < all.len() {
            let entries = fs::read_dir(&all[next]).into_iter().flatten().flatten();
            all.extend(
                entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.path()),
            );
            next += 1;
        }
        all
    }
}
