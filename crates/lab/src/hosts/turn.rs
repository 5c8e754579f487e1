//! Locks: tests take turns with their labs, and labs are made one after the other as far as names and addresses go.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};

use super::{BASE, Lab, LabError, LabName, Spec, down};

/// How long a test waits for the labs of other tests.
const TURN_DEADLINE: Duration = Duration::from_secs(30 * 60);
/// How long `up` waits for other labs' networks to be made.
const NETWORK_DEADLINE: Duration = Duration::from_secs(60);
const TICK: Duration = Duration::from_millis(20);
/// The labs that tests have at the same time on a machine, each with its lock: tests wait more than they work.
const PLACES: [(&str, &str); 2] = [("turn", "test"), ("turn2", "test2")];

/// A test's turn to have a lab: two at a time on this machine. It ends when this is dropped, or when the process ends.
#[derive(Debug)]
pub struct Turn {
    #[expect(dead_code, reason = "held, never read")]
    lock: fs::File,
    lab: &'static str,
}

/// Waits for a turn, and removes what a test that was killed has left.
pub fn turn() -> Result<Turn, LabError> {
    let until = Instant::now() + TURN_DEADLINE;
    let turn = loop {
        if let Some(turn) = free_place()? {
            break turn;
        }
        if Instant::now() >= until {
            let what = format!("other tests' labs ({BASE}/turn.lock)");
            return Err(LabError::Waited { what, seconds: TURN_DEADLINE.as_secs(), seen: String::new() });
        }
        std::thread::sleep(TICK);
    };
    let name = turn.name();
    down(&name, &name.default_dir())?;
    Ok(turn)
}

fn free_place() -> Result<Option<Turn>, LabError> {
    for (name, lab) in PLACES {
        let (path, file) = open(name)?;
        if try_lock(&path, &file)? {
            return Ok(Some(Turn { lock: file, lab }));
        }
    }
    Ok(None)
}

impl Turn {
    /// Makes the test's lab: three servers and three agents, unless `wanted` says otherwise. The turn ends when the lab has
    /// been removed.
    pub fn up(self, wanted: impl FnOnce(Spec) -> Spec) -> Result<Lab, LabError> {
        let spec = wanted(Spec::new(self.name()));
        Ok(Lab::up(&spec)?.in_turn(self))
    }

    /// The name under which to make the lab.
    pub fn name(&self) -> LabName {
        LabName::new(self.lab).expect("fixed names that fit")
    }
}

/// Nobody else makes or removes a network while this is held.
pub fn network() -> Result<fs::File, LabError> {
    lock("network", NETWORK_DEADLINE, "another lab's network to be made")
}

fn lock(name: &str, deadline: Duration, what: &'static str) -> Result<fs::File, LabError> {
    let (path, file) = open(name)?;
    let until = Instant::now() + deadline;
    while !try_lock(&path, &file)? {
        if Instant::now() >= until {
            let what = format!("{what} ({})", path.display());
            return Err(LabError::Waited { what, seconds: deadline.as_secs(), seen: String::new() });
        }
        std::thread::sleep(TICK);
    }
    Ok(file)
}

fn open(name: &str) -> Result<(PathBuf, fs::File), LabError> {
    let path = Path::new(BASE).join(format!("{name}.lock"));
    let failed = |source: io::Error| LabError::File { what: "lock", path: path.clone(), source };
    fs::DirBuilder::new().recursive(true).mode(0o755).create(BASE).map_err(failed)?;
    let file = fs::OpenOptions::new().create(true).append(true).open(&path).map_err(failed)?;
    Ok((path, file))
}

/// Whether it is locked now.
fn try_lock(path: &Path, file: &fs::File) -> Result<bool, LabError> {
    match flock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(false),
        Err(error) => Err(LabError::File { what: "lock", path: path.to_owned(), source: error.into() }),
    }
}
