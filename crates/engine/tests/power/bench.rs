//! A small ext4 on a loop device, a writer on it, and copies of the device at the moment of a cut.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use super::writer::{Progress, RUN_PREFIX, Work};

/// Bytes of the device.
const SIZE: u64 = 96 << 20;
/// Copies during which ext4 wrote something by itself are thrown away, so often.
const COPIES_MAX: u32 = 20;
/// How long a process may take to stop or to begin.
const PATIENCE: Duration = Duration::from_secs(10);
const ALONE: &str = "POWER_ALONE";

/// The device, mounted.
pub struct Bench {
    pub directory: tempfile::TempDir,
    device: String,
}

/// The device as it was when the power went.
pub struct Copy {
    pub image: PathBuf,
    pub run: u32,
    /// Records that the journal had acknowledged by then.
    pub acknowledged: u64,
}

/// Numbers from a seed (xorshift64*): a test's cuts can be repeated.
pub struct Chance(pub u64);

impl Chance {
    pub fn next(&mut self) -> u64 {
        let mut x = self.0 | 1;
        x ^= x >> 12;
        x ^= x << 25;
        x ^= x >> 27;
        self.0 = x;
        x.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 11
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }
}

/// Whether there can be a test here.
pub fn possible() -> Result<(), String> {
    let output = Command::new("id").arg("-u").output().map_err(|error| format!("id: {error}"))?;
    if String::from_utf8_lossy(&output.stdout).trim() != "0" {
        return Err("it needs root".to_owned());
    }
    if !Path::new("/dev/loop-control").exists() {
        return Err("there are no loop devices (/dev/loop-control)".to_owned());
    }
    for (tool, package) in [("mkfs.ext4", "e2fsprogs"), ("unshare", "util-linux"), ("losetup", "mount")] {
        let found = Command::new(tool).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
        if found.is_err() {
            return Err(format!("there is no {tool}: apt-get install {package}"));
        }
    }
    Ok(())
}

pub fn is_alone() -> bool {
    std::env::var_os(ALONE).is_some()
}

/// Runs this program again in a mount namespace of its own.
pub fn again_alone() -> ExitCode {
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "--"]).arg(std::env::current_exe().unwrap());
    let status = command.args(std::env::args_os().skip(1)).env(ALONE, "1").status().unwrap();
    if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

impl Bench {
    pub fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let image = directory.path().join("device");
        std::fs::File::create(&image).unwrap().set_len(SIZE).unwrap();
        succeeds(Command::new("mkfs.ext4").args(["-q", "-F"]).arg(&image));
        mount(&image, &directory.path().join("disk"), &[]);
        let listed = Command::new("losetup").arg("-nO").arg("NAME").arg("-j").arg(&image).output().unwrap();
        let device = String::from_utf8_lossy(&listed.stdout).trim().replace("/dev/", "");
        assert!(!device.is_empty(), "no loop device of {}", image.display());
        Self { directory, device }
    }

    /// Where the journal writes.
    fn disk(&self) -> PathBuf {
        self.directory.path().join("disk")
    }

    /// Lets a writer begin, or go on with, a run, and cuts the power after so many milliseconds of writing.
    pub fn cut(&self, run: u32, after_ms: u64, seed: u64) -> Copy {
        let progress = self.directory.path().join("progress");
        let work = Work { runs: self.disk(), run, seed, progress: progress.clone() };
        self.forget_other_runs(&work);
        Progress::reset(&progress);
        let mut writer = work.start();
        wait("the writer to begin", || Progress::read(&progress).is_some());
        std::thread::sleep(Duration::from_millis(after_ms));
        let image = self.copy(&mut writer);
        // Frozen since before the copy: what it had been told then it cannot have been told later.
        let acknowledged = Progress::read(&progress).unwrap_or(0);
        writer.kill().unwrap();
        writer.wait().unwrap();
        Copy { image, run, acknowledged }
    }

    /// The device is small.
    fn forget_other_runs(&self, work: &Work) {
        let own = Work::directory(&work.runs, work.run);
        for entry in std::fs::read_dir(self.disk()).unwrap().flatten() {
            let is_run = entry.file_name().to_string_lossy().starts_with(RUN_PREFIX);
            if is_run && entry.path() != own.path() {
                std::fs::remove_dir_all(entry.path()).unwrap();
            }
        }
    }

    /// The writer is frozen first: an image that is copied while it changes is one that no disk ever had.
    fn copy(&self, writer: &mut Child) -> PathBuf {
        assert!(writer.try_wait().unwrap().is_none(), "the writer ended by itself");
        succeeds(Command::new("kill").args(["-STOP", &writer.id().to_string()]));
        wait("the writer to stop", || is_stopped(writer.id()));
        let (image, copy) = (self.directory.path().join("device"), self.directory.path().join("copy"));
        for _ in 0..COPIES_MAX {
            let before = self.written();
            succeeds(Command::new("cp").arg("--sparse=always").arg(&image).arg(&copy));
            let quiet = self.written() == before && self.in_flight() == ["0", "0"];
            if quiet {
                return copy;
            }
        }
        panic!("the device is never at rest, although its writer is");
    }

    /// Writes and discards that the device has completed so far.
    fn written(&self) -> Vec<String> {
        let stat = std::fs::read_to_string(format!("/sys/block/{}/stat", self.device)).unwrap();
        stat.split_whitespace().skip(4).take(3).map(str::to_owned).collect()
    }

    fn in_flight(&self) -> Vec<String> {
        let inflight = std::fs::read_to_string(format!("/sys/block/{}/inflight", self.device)).unwrap();
        inflight.split_whitespace().map(str::to_owned).collect()
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        unmount(&self.disk());
    }
}

/// Mounts an image; the loop device goes with the mount.
pub fn mount(image: &Path, place: &Path, options: &[&str]) {
    std::fs::create_dir_all(place).unwrap();
    let options = ["loop"].iter().chain(options).copied().collect::<Vec<_>>().join(",");
    succeeds(Command::new("mount").args(["-t", "ext4", "-o", &options]).arg(image).arg(place));
}

pub fn unmount(place: &Path) {
    Command::new("umount").arg("-l").arg(place).status().ok();
}

fn is_stopped(pid: u32) -> bool {
    let tasks: Vec<_> = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten().collect();
    tasks.iter().all(|task| {
        let stat = std::fs::read_to_string(task.path().join("stat")).unwrap_or_default();
        // `pid (name) state …`, and the name may have brackets of its own.
        stat.rsplit_once(')').is_some_and(|(_, rest)| rest.trim_start().starts_with('T'))
    })
}

fn wait(what: &str, holds: impl Fn() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < PATIENCE, "waited {PATIENCE:?} for {what}");
        std::thread::sleep(Duration::from_micros(200));
    }
}

fn succeeds(command: &mut Command) {
    let output = command.stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}
