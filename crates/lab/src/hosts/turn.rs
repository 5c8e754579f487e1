//! Locks: tests take turns with their labs, and labs are made one after the other as far as names and addresses go.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};

use super::{BASE, Lab, LabError, LabName, Spec, down};

/// How long a test waits for the labs of other tests.
const TURN_DEADLINE: Duration = Duration::from_secs(30 * 60);
/// How long `up` waits for other labs' networks to be made.
const NETWORK_DEADLINE: Duration = Duration::from_secs(60);
const TICK: Duration = Duration::from_millis(20);
/// The lab of whichever test has its turn.
const TEST: &str = "test";

/// A test's turn to have a lab: one at a time on this machine, so that time means the same in each. It ends when this
/// is dropped, or when the process ends.
#[derive(Debug)]
pub struct Turn(#[expect(dead_code, reason = "held, never read")] fs::File);

/// Waits for a turn, and removes what a test that was killed has left.
pub fn turn() -> Result<Turn, LabError> {
    let turn = Turn(lock("turn", TURN_DEADLINE, "another test's lab")?);
    let name = turn.name();
    down(&name, &name.default_dir())?;
    Ok(turn)
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
        LabName::new(TEST).expect("a fixed name that fits")
    }
}

/// Nobody else makes or removes a network while this is held.
pub fn network() -> Result<fs::File, LabError> {
    lock("network", NETWORK_DEADLINE, "another lab's network to be made")
}

fn lock(name: &str, deadline: Duration, what: &'static str) -> Result<fs::File, LabError> {
    let path = Path::new(BASE).join(format!("{name}.lock"));
    let failed = |source: io::Error| LabError::File { what: "lock", path: path.clone(), source };
    fs::DirBuilder::new().recursive(true).mode(0o755).create(BASE).map_err(failed)?;
    let file = fs::OpenOptions::new().create(true).append(true).open(&path).map_err(failed)?;
    let until = Instant::now() + deadline;
    loop {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(file),
            Err(rustix::io::Errno::WOULDBLOCK) if Instant::now() < until => std::thread::sleep(TICK),
            Err(rustix::io::Errno::WOULDBLOCK) => {
                return Err(LabError::Waited {
                    what: format!("{what} ({})", path.display()),
                    seconds: deadline.as_secs(),
                    seen: String::new(),
                });
            }
            Err(error) => return Err(failed(error.into())),
        }
    }
}
