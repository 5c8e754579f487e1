//! Containers: a directory per task, a shim that outlives the kubelet, and the container below the shim.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::layout::TASKS;
use super::release::hex;

const CONFIG: &str = "config.json";
const SHIM_PID: &str = "shim.pid";
const INIT_PID: &str = "init.pid";
const SHIM_BINARY: &str = "shim-binary-path";
/// Tells a container's process from another one that got its number later.
const TASK_VARIABLE: &str = "LAB_TASK";
/// Tells a container's process what it was started from.
pub const IMAGE_VARIABLE: &str = "LAB_IMAGE";
/// Containers are outside of the unit's control group: a stopped or killed unit leaves them alone.
const PODS_CGROUP: &str = "/sys/fs/cgroup/kubepods.slice";
/// Time between looks at a process that was told to end.
const LOOK: Duration = Duration::from_millis(50);

/// What a container runs, and for which pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spec {
    /// Namespace of the pod.
    pub namespace: String,
    /// Name of the pod.
    pub pod: String,
    /// Name of the container: `etcd`.
    pub name: String,
    /// Image with its tag.
    pub image: String,
    /// Changes whenever the pod has to be made anew.
    pub uid: String,
    /// Whether the pod comes from a manifest of the node.
    pub is_static: bool,
    /// Name of the process and its arguments.
    pub command: Vec<String>,
}

/// A task that containerd knows of.
#[derive(Debug, Clone)]
pub struct Task {
    /// Its container.
    pub spec: Spec,
    directory: PathBuf,
}

impl Task {
    /// Every task that has a record, whether it lives or not.
    pub fn all() -> Vec<Self> {
        let Ok(entries) = fs::read_dir(TASKS) else { return Vec::new() };
        entries.flatten().filter_map(|entry| Self::read(&entry.path())).collect()
    }

    /// Starts a container under a shim of `bin`, which lives on when the caller ends.
    pub fn start(bin: &Path, spec: &Spec) -> io::Result<()> {
        let now = jiff::Timestamp::now().as_nanosecond();
        let id = hex(&Sha256::digest(format!("{}/{}/{}/{now}", spec.namespace, spec.pod, spec.uid)));
        let directory = Path::new(TASKS).join(&id);
        fs::create_dir_all(&directory)?;
        let shim = bin.join("containerd-shim-runc-v2");
        fs::write(directory.join(CONFIG), serde_json::to_vec(spec)?)?;
        fs::write(directory.join(SHIM_BINARY), shim.as_os_str().as_encoded_bytes())?;
        let child = Command::new(std::env::current_exe()?)
            .arg0(&shim)
            .args(["-namespace", "k8s.io", "-id", &id, "-address", "/run/k3s/containerd/containerd.sock"])
            .env_remove("NOTIFY_SOCKET")
            .current_dir(&directory)
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        fs::write(directory.join(SHIM_PID), child.id().to_string())
    }

    /// Whether the shim runs.
    pub fn has_shim(&self) -> bool {
        let id = self.directory.file_name().map(|id| id.as_encoded_bytes().to_vec()).unwrap_or_default();
        self.pid(SHIM_PID).is_some_and(|pid| {
            let line = fs::read(format!("/proc/{}/cmdline", pid.as_raw_nonzero())).unwrap_or_default();
            line.split(|byte| *byte == 0).any(|word| word == id)
        })
    }

    /// Whether the container's process runs.
    pub fn is_running(&self) -> bool {
        self.container().is_some()
    }

    /// Ends the container: politely, and by force when `grace` has passed. Returns when it is gone.
    pub fn stop(&self, grace: Duration) -> io::Result<()> {
        self.signal(Signal::TERM);
        let polite_until = Instant::now() + grace;
        while Instant::now() < polite_until && (self.is_running() || self.has_shim()) {
            std::thread::sleep(LOOK);
        }
        self.remove()
    }

    /// Ends the container and its shim by force, and forgets the task (CRI RemovePodSandbox).
    pub fn remove(&self) -> io::Result<()> {
        self.signal(Signal::KILL);
        let until = Instant::now() + Duration::from_secs(5);
        while Instant::now() < until && (self.is_running() || self.has_shim()) {
            std::thread::sleep(LOOK);
        }
        if self.has_shim() {
            self.pid(SHIM_PID).map(|pid| kill_process(pid, Signal::KILL));
        }
        match fs::remove_dir_all(&self.directory) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn read(directory: &Path) -> Option<Self> {
        let spec = serde_json::from_slice(&fs::read(directory.join(CONFIG)).ok()?).ok()?;
        Some(Self { spec, directory: directory.to_owned() })
    }

    fn container(&self) -> Option<Pid> {
        let pid = self.pid(INIT_PID)?;
        let wanted = format!("{TASK_VARIABLE}={}", self.directory.file_name()?.to_str()?);
        let environment = fs::read(format!("/proc/{}/environ", pid.as_raw_nonzero())).ok()?;
        environment.split(|byte| *byte == 0).any(|entry| entry == wanted.as_bytes()).then_some(pid)
    }

    fn signal(&self, signal: Signal) {
        if let Some(pid) = self.container() {
            // It may have ended in between.
            let _ = kill_process(pid, signal);
        }
    }

    fn pid(&self, file: &str) -> Option<Pid> {
        Pid::from_raw(fs::read_to_string(self.directory.join(file)).ok()?.trim().parse().ok()?)
    }
}

/// The shim: runs its container, stays until that has ended, and leaves no record behind then.
pub fn shim(arguments: &[String]) -> ExitCode {
    let Some(id) = arguments.iter().skip_while(|word| *word != "-id").nth(1) else {
        eprintln!("containerd-shim-runc-v2: no -id");
        return ExitCode::FAILURE;
    };
    let directory = Path::new(TASKS).join(id);
    match run_container(id, &directory) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            // Its standard error is nobody's: the reason belongs beside the task.
            let _ = fs::write(directory.join("error"), error.to_string());
            ExitCode::FAILURE
        }
    }
}

fn run_container(id: &str, directory: &Path) -> io::Result<u8> {
    let spec: Spec = serde_json::from_slice(&fs::read(directory.join(CONFIG))?)?;
    let log = open_log(&spec)?;
    let (name, arguments) = spec.command.split_first().ok_or(io::ErrorKind::InvalidInput)?;
    let variables = BTreeMap::from([(TASK_VARIABLE, id), (IMAGE_VARIABLE, spec.image.as_str())]);
    let mut child = Command::new(std::env::current_exe()?)
        .arg0(name)
        .args(arguments)
        .envs(variables)
        .current_dir("/")
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()?;
    fs::write(directory.join(INIT_PID), child.id().to_string())?;
    let cgroup = enter_cgroup(id, child.id());
    let status = child.wait()?;
    if let Some(cgroup) = cgroup {
        // Processes of the container that outlive its first one keep the group, and that is true.
        let _ = fs::remove_dir(cgroup);
    }
    fs::remove_dir_all(directory)?;
    Ok(status
        .code()
        .or_else(|| status.signal().map(|signal| 128 + signal))
        .and_then(|code| u8::try_from(code).ok())
        .unwrap_or(1))
}

fn open_log(spec: &Spec) -> io::Result<fs::File> {
    let directory = PathBuf::from(format!("/var/log/pods/{}_{}_{}/{}", spec.namespace, spec.pod, spec.uid, spec.name));
    fs::create_dir_all(&directory)?;
    OpenOptions::new().create(true).append(true).open(directory.join("0.log"))
}

/// Where control groups cannot be made, the container stays in its shim's.
fn enter_cgroup(id: &str, pid: u32) -> Option<PathBuf> {
    let cgroup = Path::new(PODS_CGROUP).join(format!("cri-containerd-{}.scope", &id[..12]));
    fs::create_dir_all(&cgroup).ok()?;
    fs::write(cgroup.join("cgroup.procs"), pid.to_string()).ok()?;
    Some(cgroup)
}
